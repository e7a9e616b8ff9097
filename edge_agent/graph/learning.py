"""Learned edges: for each sensor, the others whose recent past moves most like its own. Pure.

Work is spread over ticks, a few sensors each, so that no tick is long and results do not depend on how fast the
machine is. A pass looks at every sensor once; its result is taken over as a whole, and only where it is clearly better
than what is there (``_KEEP``), because a neighbour that changes costs the detector what it has learned about it.

Strength of an edge: the larger of the absolute Pearson correlations of levels and of first differences over the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_KEEP = 0.85  # an old neighbour stays while it is at least this strong compared with the one that would replace it
_WEAKEST = 0.3
_VALUES_PER_TICK = 40_000  # of the window, made comparable
_PRODUCTS_PER_TICK = 4_000_000  # multiply-adds


class EdgeLearner:
    """Finds the strongest neighbours of each sensor, at most ``most`` of them."""

    def __init__(self, learn_after: int, relearn_every: int, most: int = 16) -> None:
        self._learn_after = learn_after
        self._relearn_every = relearn_every
        self._most = most
        self._learned: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._pass: _Pass | None = None
        self._next_pass = learn_after
        self._seen = 0

    def neighbours_of(self, sensor: int) -> list[int]:
        """Learned neighbours of ``sensor``, strongest first."""
        return [int(j) for j in self._learned[sensor] if j >= 0] if sensor < len(self._learned) else []

    def export(self) -> NDArray[np.int64]:
        """Learned neighbours as rows padded with -1, for saving."""
        return self._learned.copy()

    def restore(self, rows: NDArray[np.int64], count: int) -> None:
        """Take over what :meth:`export` gave for the first ``count`` sensors, until the next regular pass."""
        rows = rows[:count]
        self._learned = without_gaps(np.where((rows >= 0) & (rows < count), rows, -1))
        self._seen = len(self._learned)
        self._next_pass = self._relearn_every

    def remap(self, keep: NDArray[np.int64], renumber: NDArray[np.int64]) -> None:
        """Sensors were removed: ``keep`` are the old indices of the others, ``renumber[old]`` the new ones or -1.

        ``renumber`` has one more entry, -1, for the index -1. A running pass starts again.
        """
        self._learned = without_gaps(renumber[self._learned[keep[keep < len(self._learned)]]])
        self._seen = min(self._seen, len(keep))
        self._pass = None

    def step(self, window: NDArray[np.float64], ticks: int, count: int, most: int) -> bool:
        """Do one tick's share of work on the first ``count`` columns of ``window``; True when edges have changed."""
        if count > self._seen:  # newcomers should not wait for the next regular pass, nor the first be judged at once
            soon = ticks - 1 + self._learn_after
            self._next_pass = min(self._next_pass, soon) if self._seen else soon
            self._seen = count
        if self._pass is None:
            if ticks >= self._next_pass and count >= 2:
                self._pass = _Pass(_recent(window, ticks, count), self._learned, min(most, self._most))
            return False
        if not self._pass.step():
            return False
        chosen, self._pass = self._pass.chosen, None
        changed = not np.array_equal(chosen, self._learned)
        self._learned = chosen
        self._next_pass = ticks + self._relearn_every
        return changed


class _Pass:
    """One look at all sensors: first their past is made comparable, then each is compared with all others."""

    def __init__(self, recent: NDArray[np.float64], learned: NDArray[np.int64], most: int) -> None:
        length, self._count = len(recent), int(recent.shape[1])
        self._recent = recent
        self._learned = learned
        self._levels = np.zeros((self._count, length), np.float32)
        self._steps = np.zeros((self._count, max(length - 1, 0)), np.float32)
        self._most = min(most, self._count - 1)
        self._ready = self._done = 0
        self.chosen = np.full((self._count, self._most), -1, np.int64)

    def step(self) -> bool:
        """One tick's share of work; True when every sensor has been looked at."""
        if self._ready < self._count:
            self._prepare()
        if self._ready == self._count:
            self._compare()
        return self._done >= self._count

    def _prepare(self) -> None:
        first = self._ready
        self._ready = min(self._count, first + max(1, _VALUES_PER_TICK // max(1, len(self._recent))))
        recent = self._recent[:, first : self._ready]
        self._levels[first : self._ready] = _standardised(recent).T
        self._steps[first : self._ready] = _standardised(np.diff(recent, axis=0)).T

    def _compare(self) -> None:
        first = self._done
        each = 2 * self._levels.shape[1] * self._count
        self._done = min(self._count, first + max(1, _PRODUCTS_PER_TICK // max(1, each)))
        for sensor in range(first, self._done):
            strength = np.abs(self._levels @ self._levels[sensor])
            np.maximum(strength, np.abs(self._steps @ self._steps[sensor]), out=strength)
            strength[sensor] = 0.0
            best = self._best(sensor, strength)
            self.chosen[sensor, : len(best)] = best

    def _best(self, sensor: int, strength: NDArray[np.float32]) -> NDArray[np.int64]:
        """The strongest, or those it has had so far as long as they are about as strong."""
        new = np.argpartition(-strength, self._most - 1)[: self._most]
        new = new[np.argsort(-strength[new], kind="stable")]
        new = new[strength[new] >= _WEAKEST]
        old = self._learned[sensor] if sensor < len(self._learned) else new[:0]
        old = old[old >= 0]
        weakest_new = float(strength[new[-1]]) if len(new) else _WEAKEST
        keeps = (
            0 < len(old) <= self._most and len(old) >= len(new) and float(strength[old].min()) >= _KEEP * weakest_new
        )
        return old if keeps else new


def without_gaps(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row with its negative entries, which stand for nobody, moved to the end; the others keep their order."""
    return np.take_along_axis(rows, np.argsort(rows < 0, axis=1, kind="stable"), axis=1)


def _recent(window: NDArray[np.float64], ticks: int, count: int) -> NDArray[np.float64]:
    length = min(ticks, window.shape[0])
    recent = window[np.arange(ticks - length, ticks) % window.shape[0], :count]
    return recent[int((~np.isnan(recent)).any(axis=1).argmax()) :]  # nothing is known of the time before


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns with mean 0 and length 1, so that a product of two is their correlation; missing counts as the mean."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / count
    centred = np.where(known, values - mean, 0.0)
    length = np.sqrt((centred**2).sum(axis=0))
    # What is left of a constant after rounding is no movement.
    usable = (length > 1e-9 * (1.0 + np.abs(mean))) & (count >= 0.5 * len(values))
    return np.where(usable, centred / np.where(usable, length, 1.0), 0.0)
