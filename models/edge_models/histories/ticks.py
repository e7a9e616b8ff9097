"""Rows at any times onto a regular grid of ticks.

A tick stands for the rows within half a period of it; of several the last reading of each sensor counts. Ticks without
a row are NaN. After more than :data:`LONGEST_GAP` such ticks, at another run, and where times go back, the grid ends
and a new segment begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S
from edge_models.histories.block import Block, Rows, Times, Values

LONGEST_GAP = 60
_PERIODS_S = (1e-3, 86_400.0)


def usual_period_s(rows: Rows) -> float | None:
    """The median time between rows, where timestamps tell it and it is between 1 ms and a day."""
    if rows.time_ns is None:
        return None
    steps = np.diff(rows.time_ns)
    steps = steps[steps > 0]
    if not len(steps):
        return None
    period_s = float(np.median(steps)) / NS_PER_S
    return period_s if _PERIODS_S[0] <= period_s <= _PERIODS_S[1] else None


def aligned(rows: Iterable[Rows], period_s: float, most: int) -> Iterator[Block]:
    """Blocks of at most ``most`` ticks of ``period_s`` from rows of a table; rows without times are a tick each."""
    grid = _Grid(round(period_s * NS_PER_S), most)
    for part in rows:
        yield from grid.take(part)
    yield from grid.rest()


class _Grid:
    """Keeps back the rows of the last tick until it is known to be complete."""

    def __init__(self, period_ns: int, most: int) -> None:
        self._period_ns = period_ns
        self._most = most
        self._segment = -1
        self._origin = 0
        self._rows_seen = 0
        self._kept: tuple[Times, Values, NDArray[np.str_]] | None = None

    def take(self, rows: Rows) -> Iterator[Block]:
        time, values, run = self._joined(rows)
        tick = self._tick(time)
        cuts = np.flatnonzero((np.diff(tick) < 0) | (np.diff(tick) > LONGEST_GAP) | (run[1:] != run[:-1])) + 1
        bounds = [0, *cuts.tolist(), len(time)]
        for first, last in pairwise(bounds[:-1]):
            yield from self._emit(time[first:last], values[first:last], run[first])
            self._begin(time[last])
        open_from = bounds[-2]
        newest = self._tick(time[open_from:])
        kept = open_from + int(np.searchsorted(newest, newest[-1]))
        yield from self._emit(time[open_from:kept], values[open_from:kept], run[open_from], until=int(newest[-1]))
        self._kept = (time[kept:], values[kept:], run[kept:])

    def rest(self) -> Iterator[Block]:
        if self._kept is not None:
            time, values, run = self._kept
            yield from self._emit(time, values, run[0])

    def _joined(self, rows: Rows) -> tuple[Times, Values, NDArray[np.str_]]:
        time = rows.time_ns
        if time is None:
            time = (self._rows_seen + np.arange(len(rows), dtype=np.int64)) * self._period_ns
        self._rows_seen += len(rows)
        run = np.full(len(rows), "", np.str_) if rows.run is None else rows.run
        values = np.where(np.isfinite(rows.values), rows.values, np.nan)
        if self._kept is None:
            self._begin(time[0])
            return time, values, run
        return (
            np.concatenate((self._kept[0], time)),
            np.concatenate((self._kept[1], values)),
            np.concatenate((self._kept[2], run)),
        )

    def _begin(self, time_ns: int | np.int64) -> None:
        self._segment += 1
        self._origin = int(time_ns)

    def _tick(self, time: Times) -> Times:
        return (time - self._origin + self._period_ns // 2) // self._period_ns

    def _emit(self, time: Times, values: Values, run: str, until: int | None = None) -> Iterator[Block]:
        """The ticks of ``time`` (in order), and empty ones up to ``until``, where the next ones are known to begin."""
        if not len(time):
            return
        tick = self._tick(time)
        end = int(tick[-1]) + 1 if until is None else until
        for first in range(int(tick[0]), end, self._most):
            last = min(first + self._most, end)
            low, high = np.searchsorted(tick, (first, last))
            places = self._origin + np.arange(first, last, dtype=np.int64) * self._period_ns
            filled = _last_of_each(tick[low:high] - first, values[low:high], last - first)
            yield Block(places, filled, str(run) or None, self._segment)


def _last_of_each(place: Times, values: Values, length: int) -> Values:
    """``values`` [R, N] at their places [R] of ``length``; the last finite one where several have the same place."""
    if len(place) == length and bool((np.diff(place) == 1).all()):
        return values
    filled = np.full((length, values.shape[1]), np.nan)
    if not len(place):
        return filled
    starts = np.flatnonzero(np.diff(place, prepend=-1))
    row = np.where(np.isfinite(values), np.arange(len(values))[:, None], -1)
    newest = np.maximum.reduceat(row, starts, axis=0)
    found = np.where(newest >= 0, np.take_along_axis(values, np.maximum(newest, 0), 0), np.nan)
    filled[place[starts]] = found
    return filled
