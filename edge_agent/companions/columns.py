"""What companions know of each sensor by itself, in columns: the last axis of every array is the sensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.moments import LAGS
from edge_agent.companions.prototypes import LONG
from edge_agent.companions.saved import numbers_in
from edge_agent.verdict import SENSOR_MEMBERS

SQUARES = SENSOR_MEMBERS[:-1]
"""Members with a square for each sensor, in the order of the arrays."""
LATE = SQUARES.index("persistence")
"""The member whose residuals are in usual spreads already; those of the members before it are in deviations."""
LIMIT = 50.0
"""Of deviations in all that is scored."""
SHORT_MEMORY = 50.0
"""Ticks over which spreads are learned after a fit."""
SPREADS_KNOWN = 30
"""Learned ticks before scores count."""
_LONG_MEMORY = 20_000.0  # ticks over which spreads are learned in the long run
_WINSOR = 400.0  # largest square, in usual ones, that widens the usual spread
_LARGEST = 1e6  # square
_FEW_CHANGES = 20
_STILL = 0.05  # a deviation below this is that of a sensor that stands still; it is not made usual
_TINY = 1e-300  # smallest spread of a saved sensor

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Columns:
    """Of S sensors, learned: ``centre`` and ``spread`` in their units, from a normal past; ``mean`` of the deviations
    and of their squares (``square``) over so many ``ticks``; ``variance`` [4, S] of the residuals, and how many ticks
    are behind it (``learned`` [4, S]); ``changes``: how often the reading was another one than the ``last``.

    Of the last ticks: ``lags`` [LAGS, S] of the deviations, newest first; for how many ticks (``heard``, up to
    LONG); ``late``: the mean of late residuals; ``squares`` [4, S]; ``levels`` [LONG, S]: a ring.
    """

    centre: Floats
    spread: Floats
    mean: Floats
    square: Floats
    ticks: Floats
    variance: Floats
    learned: Floats
    changes: Floats
    last: Floats
    lags: Floats
    heard: NDArray[np.int64]
    late: Floats
    squares: Floats
    levels: NDArray[np.float32]

    @classmethod
    def fresh(cls, centre: Floats, spread: Floats) -> Columns:
        """Sensors of which nothing else is known yet."""
        count, members = len(centre), len(SQUARES)
        return cls(
            centre=centre.astype(np.float64),
            spread=spread.astype(np.float64),
            mean=np.zeros(count),
            square=np.ones(count),
            ticks=np.zeros(count),
            variance=np.ones((members, count)),
            learned=np.zeros((members, count)),
            changes=np.zeros(count),
            last=np.full(count, np.nan),
            lags=np.zeros((LAGS, count)),
            heard=np.zeros(count, np.int64),
            late=np.zeros(count),
            squares=np.full((members, count), np.nan),
            levels=np.zeros((LONG, count), np.float32),
        )

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]], count: int) -> Columns:
        """``count`` sensors from what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        shape = (len(SQUARES), count)
        its = cls.fresh(numbers_in(state, "centre", (count,)), numbers_in(state, "spread", (count,), least=_TINY))
        its.mean, its.square = numbers_in(state, "usual", (2, count))
        its.variance = numbers_in(state, "variance", shape, least=0.0)
        its.learned = numbers_in(state, "learned", shape, least=0.0)
        its.changes = numbers_in(state, "changes", (count,), least=0.0)
        return its

    def export(self, place: slice) -> dict[str, NDArray[Any]]:
        """What was learned of the sensors at ``place``, for saving."""
        return {
            "centre": self.centre[place].copy(),
            "spread": self.spread[place].copy(),
            "usual": np.stack((self.mean[place], self.square[place])),
            "variance": self.variance[:, place].astype(np.float32),
            "learned": self.learned[:, place].astype(np.float32),
            "changes": self.changes[place].astype(np.float32),
        }

    # -- what is usual -----------------------------------------------------------------------------------------

    def believable(self) -> Floats:
        """The largest square [S] that is believed: what happened once in n ticks has a squared deviation of 2 ln n.

        A pump that was switched twice so far has no usual movement that could make the third time a sensation.
        """
        few = self.changes < _FEW_CHANGES
        if not few.any():
            return np.full(len(few), _LARGEST)
        return np.where(few, 2.0 * np.log(self.learned[0] + 2.0), _LARGEST)

    def usual(self, place: slice) -> tuple[Floats, Floats]:
        """Mean and deviation of the levels of the sensors at ``place``; deviation 1 where they stand still."""
        mean = self.mean[place].copy()
        deviation = np.sqrt(np.maximum(self.square[place] - mean**2, 0.0))
        return mean, np.where(deviation > _STILL, deviation, 1.0)

    def learn_usual(self, place: slice, raw: Floats, weight: Floats, remember: float) -> None:
        """Take deviations [T, G] of the sensors at ``place`` into mean and mean square; NaN changes nothing."""
        known = np.isfinite(raw)
        count = known.sum(0)
        ticks = self.ticks[place] = np.minimum(self.ticks[place] + weight * len(raw), remember)
        share = weight * count / np.maximum(ticks, _TINY)
        filled, total = np.where(known, raw, 0.0), np.maximum(count, 1)
        self.mean[place] += share * (filled.sum(0) / total - self.mean[place])
        self.square[place] += share * ((filled**2).sum(0) / total - self.square[place])

    def learn_spreads(self, residual: NDArray[np.float32], weight: Floats) -> None:
        """Take the squares of residuals [4, S] into their variance, with ``weight`` [S]; NaN changes nothing."""
        there = np.isfinite(residual)
        square = np.where(there, residual.astype(np.float64) ** 2, 0.0)
        settled = self.learned > SPREADS_KNOWN
        limited = np.where(settled, np.minimum(square, _WINSOR * self.variance), square)
        gained = weight * there
        rate = gained / np.clip(self.learned + gained, 1e-9, _LONG_MEMORY)
        self.variance += rate * (limited - self.variance)
        self.learned += gained

    def restate(self, place: slice, shift: Floats, factor: Floats) -> None:
        """As if all levels of the sensors at ``place`` had been ``(level - shift) / factor``."""
        self.centre[place] += shift * self.spread[place]
        self.spread[place] *= factor
        self.square[place] = (self.square[place] - 2.0 * shift * self.mean[place] + shift**2) / factor**2
        self.mean[place] = (self.mean[place] - shift) / factor
        self.lags[:, place] = np.clip((self.lags[:, place] - shift) / factor, -LIMIT, LIMIT)
        self.levels[:, place] = (self.levels[:, place] - shift) / factor
        self.variance[:LATE, place] /= factor**2

    # -- sensors -----------------------------------------------------------------------------------------------

    def joined(self, more: Columns) -> Columns:
        """These sensors, and ``more`` behind them."""
        return Columns(
            *(np.concatenate((mine, its), axis=-1) for mine, its in zip(self._all(), more._all(), strict=True))
        )

    def chosen(self, places: NDArray[np.int64]) -> Columns:
        """The sensors at ``places``, in that order."""
        return Columns(*(column[..., places] for column in self._all()))

    def with_recent_of(self, other: Columns) -> Columns:
        """What was learned here, and the last ticks of ``other``."""
        return replace(
            self,
            changes=other.changes,
            last=other.last,
            lags=other.lags,
            heard=other.heard,
            late=other.late,
            squares=other.squares,
            levels=other.levels,
        )

    def forget_recent(self, places: slice) -> None:
        """The stream was interrupted for the sensors at ``places``: what was learned stays."""
        self.lags[:, places] = 0.0
        self.heard[places] = 0
        self.late[places] = 0.0
        self.squares[:, places] = np.nan
        self.levels[:, places] = 0.0

    def _all(self) -> list[NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]
