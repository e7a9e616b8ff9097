"""One pass over a history: everything that the checks want to know, in memory that does not grow with its length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_models.histories.block import Block, Rows, Values
from edge_models.histories.history import History
from edge_models.histories.sketches import BlockSketch, KeySketch, RowSample, time_keys

_SAMPLED_ROWS = 4_096
_SAMPLED_CELLS = 2_000_000
_GAP_PERIODS = 1.5
_SEED = 20_261_120


class Profile:
    """What a history looks like; made by :func:`profile`.

    ``ticks`` on the grid in ``segments``, the longest of ``longest_segment``; ``heard``, ``low``, ``high`` [N] and
    ``outage`` [N], the longest stretch of ticks without a reading; ``sample``: rows from all over the history.
    """

    def __init__(self, history: History, columns: Sequence[str] | None = None) -> None:
        count = len(history.sensors)
        self.history = history
        self.timing = Timing(history.period_s or 1.0)
        self.ticks = self.segments = self.longest_segment = 0
        self.heard = np.zeros(count, np.int64)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.outage = np.zeros(count, np.int64)
        self._sampled = RowSample(count, max(256, min(_SAMPLED_ROWS, _SAMPLED_CELLS // count)), _SEED)
        self.column_keys = [b""] * count
        place = {name: at for at, name in enumerate(history.sensors)}
        order = sorted(history.sensors) if columns is None else columns
        self.blocks = BlockSketch(np.array([place[name] for name in order], np.int64))
        self._digest = hashlib.sha256("\n".join(history.sensors).encode())
        self._last_heard = np.full(count, -1, np.int64)
        self._segment, self._segment_ticks = -1, 0

    @property
    def sample(self) -> Values:
        return self._sampled.values

    @property
    def sha256(self) -> str:
        """Of names, times and values as read, so the same for one history in any format."""
        return self._digest.hexdigest()

    @property
    def empty(self) -> NDArray[np.bool_]:
        return np.asarray(self.heard == 0)

    @property
    def constant(self) -> NDArray[np.bool_]:
        return np.asarray((self.low == self.high) & ~self.empty)

    def watch(self, rows: Rows) -> None:
        """Look at rows as they stand in the source."""
        self.timing.take(rows)

    def take(self, block: Block) -> None:
        """Look at ticks, in order."""
        values = block.values
        known = np.isfinite(values)
        self.heard += known.sum(0)
        self.low = np.minimum(self.low, np.where(known, values, np.inf).min(0))
        self.high = np.maximum(self.high, np.where(known, values, -np.inf).max(0))
        self._follow_outages(known)
        self._sampled.take(values)
        columns = np.ascontiguousarray(values.T)
        self.column_keys = [
            hashlib.blake2b(key + column.tobytes(), digest_size=16).digest()
            for key, column in zip(self.column_keys, columns, strict=True)
        ]
        self.blocks.take(block, self.ticks)
        self._digest.update(block.time_ns.tobytes())
        self._digest.update(np.ascontiguousarray(values).tobytes())
        self._follow_segments(block)
        self.ticks += len(block)

    def _follow_outages(self, known: NDArray[np.bool_]) -> None:
        tick = self.ticks + np.arange(len(known))[:, None]
        heard = np.maximum(np.maximum.accumulate(np.where(known, tick, -1)), self._last_heard)
        self.outage = np.maximum(self.outage, (tick - heard).max(0))
        self._last_heard = heard[-1]

    def _follow_segments(self, block: Block) -> None:
        if block.segment != self._segment:
            self._segment, self._segment_ticks = block.segment, 0
            self.segments += 1
        self._segment_ticks += len(block)
        self.longest_segment = max(self.longest_segment, self._segment_ticks)


class Timing:
    """Times, labels and empty rows of the source itself. Rows are counted from 1."""

    def __init__(self, period_s: float) -> None:
        self.rows = self.back = self.same = self.gaps = self.labelled = self.infinite = 0
        self.first_back = self.first_empty = 0
        self.empty = self.longest_empty = 0
        self.longest_gap_s, self.longest_gap_at_ns = 0.0, 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.keys = KeySketch()
        self._period_ns = period_s * 1e9
        self._previous: tuple[int, str] | None = None
        self._empty_now = 0

    def take(self, rows: Rows) -> None:
        """Look at the next rows."""
        if rows.time_ns is not None:
            self._follow_times(rows)
        if rows.label is not None:
            self.labelled += int((rows.label > 0).sum())
        self.infinite += int(np.isinf(rows.values).sum())
        for empty in _stretches(np.logical_not(np.isfinite(rows.values).any(1))):
            self._follow_empty(*empty)
        self.rows += len(rows)

    def _follow_times(self, rows: Rows) -> None:
        assert rows.time_ns is not None
        time = rows.time_ns
        run = np.full(len(rows), "", np.str_) if rows.run is None else rows.run
        before, name = self._previous or (int(time[0]), str(run[0]))
        step = np.diff(time, prepend=before)
        step[np.concatenate(([name], run[:-1])) != run] = round(self._period_ns)  # between runs nothing is odd
        if self._previous is None:
            step[0] = round(self._period_ns)
        back = np.flatnonzero(step < 0)
        if len(back) and not self.back:
            self.first_back = self.rows + int(back[0]) + 1
        self.back += len(back)
        self.same += int((step == 0).sum())
        self.gaps += int((step > _GAP_PERIODS * self._period_ns).sum())
        widest = int(step.argmax())
        if step[widest] > max(_GAP_PERIODS * self._period_ns, self.longest_gap_s * 1e9):
            self.longest_gap_s, self.longest_gap_at_ns = float(step[widest]) / 1e9, int(time[widest] - step[widest])
        self.first_ns = int(min(time.min(), time[0] if self.first_ns is None else self.first_ns))
        self.last_ns = int(max(time.max(), time[0] if self.last_ns is None else self.last_ns))
        self.keys.take(time_keys(time), self.rows + np.arange(len(rows)))
        self._previous = int(time[-1]), str(run[-1])

    def _follow_empty(self, value: bool, first: int, length: int) -> None:
        if not value:
            self._empty_now = 0
            return
        self._empty_now += length
        self.empty += length
        if self._empty_now > self.longest_empty:
            self.longest_empty = self._empty_now
            self.first_empty = self.rows + first + length - self._empty_now + 1


def profile(history: History, columns: Sequence[str] | None = None) -> Profile:
    """Go through ``history`` once. Blocks are compared by ``columns``, in this order (default: all, by name)."""
    found = Profile(history, columns)
    for block in history.blocks(watch=found.watch):
        found.take(block)
    return found


def _stretches(flags: NDArray[np.bool_]) -> list[tuple[bool, int, int]]:
    """``(value, first, length)`` of every stretch of equal flags."""
    cuts = np.concatenate(([0], np.flatnonzero(np.diff(flags)) + 1, [len(flags)]))
    return [(bool(flags[a]), int(a), int(b - a)) for a, b in pairwise(cuts)]
