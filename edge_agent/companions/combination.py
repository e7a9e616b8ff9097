"""Joining the members: each one's surprise about the whole plant on one scale, and their weighted mean.

A member's level is the logarithm of its mean square over all sensors, less what that usually is. Logarithms, because
squares of several members differ by orders of magnitude and the loudest would drown the rest; other ways to combine
gain on some recordings what they lose on others (docs/ablation.md).

A member that misbehaves on normal ticks has no vote: one that gives no finite number, one that always says the same,
one whose usual level has moved away from where it has long been. Operators' feedback moves the weights: those who
cried loudest at a false alarm lose some (Y. Freund, R. E. Schapire, "A decision-theoretic generalization of on-line
learning", JCSS 55, 1997).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.saved import names_in, numbers_in

_SLOW, _FAST = 5_000.0, 500.0  # ticks over which the usual level is learned, and over which it is watched
_KNOWN = 50.0  # ticks before a level is believed to be usual
_WINSOR = 4.0  # largest square, in variances, that widens what is usual
_LIVELY = 1e-2  # variance of a level from which on it widens by what is usual only
_FLAT = 1e-6
_MOVED = 3.0  # usual deviations
_LEARNING_RATE = 0.5
_LEAST, _MOST = 0.25, 4.0
_FLOOR = 1e-9

Floats = NDArray[np.float64]


class Combination:
    """The members ``names`` (M), what is usual for each, and its weight."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        count = len(self.names)
        self._mean: Floats = np.zeros(count)
        self._variance: Floats = np.zeros(count)
        self._late: Floats = np.zeros(count)
        self._ticks: Floats = np.zeros(count)
        self._trust: Floats = np.ones(count)
        self.weights: Floats = np.zeros(count)
        """Weights [M]; 0 for a member that has no vote."""

    def levels(self, means: Floats) -> Floats:
        """Levels [M] of the members' mean squares ``means`` [M]; NaN where a member says nothing."""
        return np.asarray(np.log(np.maximum(means, 0.0) + _FLOOR), np.float64)

    def combined(self, levels: Floats) -> float | None:
        """The plant's level: about 0 is usual. None while no member has a vote."""
        votes = np.where(np.isfinite(levels), self.weights, 0.0)
        total = float(votes.sum())
        if total == 0.0:
            return None
        return float((votes * np.where(votes > 0, levels - self._mean, 0.0)).sum() / total)

    def relative(self, levels: Floats) -> Floats:
        """Levels [M] less what is usual of each member; NaN for one that has no vote."""
        heard = np.isfinite(levels) & (self.weights > 0)
        return np.where(heard, levels - self._mean, np.nan)

    def surprise(self, levels: Floats) -> dict[str, float]:
        """By how many of its usual deviations each member that has a vote is above its usual level."""
        deviation = np.sqrt(self._variance) + _FLAT
        heard = np.isfinite(levels) & (self.weights > 0)
        return {
            name: round(float((level - mean) / spread), 2)
            for name, level, mean, spread, there in zip(self.names, levels, self._mean, deviation, heard, strict=True)
            if there
        }

    def learn(self, levels: Floats) -> None:
        """Take in the levels of a tick that turned out to be normal."""
        there = np.isfinite(levels)
        level = np.where(there, levels, 0.0)
        first = there & (self._ticks == 0)
        self._mean = np.where(first, level, self._mean)
        self._late = np.where(first, level, self._late)
        rate = there / np.minimum(self._ticks + 1.0, _SLOW)
        step = level - self._mean
        self._mean += rate * step
        most = np.where(self._ticks < _KNOWN, np.inf, _WINSOR * np.maximum(self._variance, _LIVELY))
        limited = np.minimum(step**2, most)
        self._variance += rate * (limited - self._variance)
        self._late += there / np.minimum(self._ticks + 1.0, _FAST) * (level - self._late)
        self._ticks += there
        self._vote()

    def settle(self) -> None:
        """The plant is another one now: what is usual is learned anew, and quickly."""
        self._ticks = np.minimum(self._ticks, _KNOWN)
        self._vote()

    def forget(self, name: str) -> None:
        """What was usual of this member means nothing any more."""
        place = self.names.index(name)
        for quantity in (self._mean, self._variance, self._late, self._ticks):
            quantity[place] = 0.0
        self._vote()

    def feedback(self, surprise: Mapping[str, float], *, false_alarm: bool) -> None:
        """An operator judged an incident at which the members were so surprised: trust goes to those who were right."""
        loud = np.array([max(surprise.get(name, 0.0), 0.0) for name in self.names])
        if loud.sum() == 0.0:
            return
        blame = loud / loud.sum() - 1.0 / len(loud)
        self._trust *= np.exp((-1.0 if false_alarm else 1.0) * _LEARNING_RATE * blame)
        self._trust = np.clip(self._trust * len(loud) / self._trust.sum(), _LEAST, _MOST)
        self._vote()

    def export(self) -> dict[str, NDArray[Any]]:
        """What was learned, for saving: one row for each of five quantities."""
        table = np.stack((self._mean, self._variance, self._late, self._ticks, self._trust))
        return {"members": np.array(self.names, dtype=np.str_), "table": table}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        table = numbers_in(state, "table", (5, len(self.names)))
        names = names_in(state, "members", len(self.names))
        if names != self.names or (table[[1, 3]] < 0).any() or (table[4] < _LEAST).any() or (table[4] > _MOST).any():
            raise ValueError(f"saved combination: got members {names} or numbers that do not belong to {self.names}")
        self._mean, self._variance, self._late, self._ticks, self._trust = table.copy()
        self._vote()

    def _vote(self) -> None:
        """To be called whenever something has changed."""
        deviation = np.sqrt(self._variance)
        steady = np.abs(self._late - self._mean) <= _MOVED * deviation
        sound = (self._ticks >= _KNOWN) & (deviation > _FLAT) & steady
        self.weights = np.where(sound, self._trust, 0.0)
