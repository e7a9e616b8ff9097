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
_WORK_PER_TICK = 4_000_000  # multiply-adds


class EdgeLearner:
    """Finds the strongest neighbours of each sensor, at most ``most`` of them."""

    def __init__(self, learn_after: int, relearn_every: int, most: int = 16) -> None:
        self._learn_after = learn_after
        self._relearn_every = relearn_every
        self._most = most
        self._learned: list[list[int]] = []
        self._pending: list[list[int]] = []
        self._levels: NDArray[np.float32] | None = None
        self._steps: NDArray[np.float32] | None = None
        self._next_pass = learn_after
        self._seen = 0

    def neighbours_of(self, sensor: int) -> list[int]:
        """Learned neighbours of ``sensor``, strongest first."""
        return self._learned[sensor] if sensor < len(self._learned) else []

    def export(self) -> NDArray[np.int64]:
        """Learned neighbours as rows padded with -1, for saving."""
        rows = np.full((len(self._learned), max((len(row) for row in self._learned), default=0)), -1, dtype=np.int64)
        for i, row in enumerate(self._learned):
            rows[i, : len(row)] = row
        return rows

    def restore(self, rows: NDArray[np.int64], count: int) -> None:
        """Take over what :meth:`export` gave for the first ``count`` sensors."""
        self._learned = [[int(j) for j in row if 0 <= j < count] for row in rows[:count]]
        self._seen = len(self._learned)

    def remap(self, renumber: NDArray[np.int64]) -> None:
        """Sensors were removed: ``renumber[old]`` is the new index, -1 if gone. A running pass starts again."""
        kept: list[list[int]] = []
        for old, row in enumerate(self._learned):
            if renumber[old] >= 0:
                kept.append([int(renumber[other]) for other in row if renumber[other] >= 0])
        self._learned = kept
        self._levels = None

    def step(self, window: NDArray[np.float32], ticks: int, count: int, most: int) -> bool:
        """Do one tick's share of work on the first ``count`` columns of ``window``; True when a pass has ended."""
        self._most = most
        if (
            count > self._seen
        ):  # newcomers should not wait for the next regular pass, nor the first ones be judged early
            soon = ticks - 1 + self._learn_after
            self._next_pass = min(self._next_pass, soon) if self._seen else soon
            self._seen = count
        if self._levels is None:
            if ticks >= self._next_pass and count >= 2:
                self._begin(window, ticks, count)
            return False
        levels, steps = self._levels, self._steps
        assert steps is not None
        total = levels.shape[1]
        first = len(self._pending)
        last = min(total, first + max(1, _WORK_PER_TICK // (2 * levels.shape[0] * total)))
        strength = np.maximum(np.abs(levels[:, first:last].T @ levels), np.abs(steps[:, first:last].T @ steps))
        strength[np.arange(last - first), np.arange(first, last)] = 0.0
        self._pending += [self._choose(first + row, values) for row, values in enumerate(strength)]
        if last < total:
            return False
        changed = self._pending != self._learned
        self._learned, self._pending = self._pending, []
        self._levels = self._steps = None
        self._next_pass = ticks + self._relearn_every
        return changed

    def _begin(self, window: NDArray[np.float32], ticks: int, count: int) -> None:
        length = min(ticks, window.shape[0])
        rows = np.arange(ticks - length, ticks) % window.shape[0]
        recent = window[rows, :count]
        recent = recent[int((~np.isnan(recent)).any(axis=1).argmax()) :]  # nothing is known of the time before
        self._levels = _standardised(recent)
        self._steps = _standardised(np.diff(recent, axis=0))
        self._pending = []

    def _choose(self, sensor: int, strength: NDArray[np.float32]) -> list[int]:
        most = min(self._most, len(strength) - 1)
        best = np.argpartition(-strength, most - 1)[:most] if most < len(strength) else np.arange(len(strength))
        best = best[np.argsort(-strength[best], kind="stable")]
        new = [int(i) for i in best if strength[i] >= _WEAKEST]
        old = [i for i in self.neighbours_of(sensor) if i < len(strength)]
        weakest_new = float(strength[new[-1]]) if new else _WEAKEST
        if old and len(old) >= len(new) and all(strength[i] >= _KEEP * weakest_new for i in old):
            return old
        return new


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns with mean 0 and length 1, so that a product of two is their correlation; missing counts as the mean."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)
    centred = np.where(known, values, 0.0)
    centred = np.where(known, values - centred.sum(axis=0) / count, 0.0)
    length = np.sqrt((centred**2).sum(axis=0))
    usable = (length > 1e-9) & (count >= 0.5 * len(values))
    return np.asarray(np.where(usable, centred / np.where(usable, length, 1.0), 0.0), dtype=np.float32)
