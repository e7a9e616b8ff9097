"""Summaries of a stream in bounded memory: a fair sample of its rows, and which blocks of rows it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_models.histories.block import Block, Times, Values

BLOCK_ROWS = 8
_CAPACITY = 1 << 16
_DROPPED_BITS = np.uint32(10)
_HALF = np.uint32(1 << 9)
_LEAST_CHANGES = 4
Hashes = NDArray[np.uint64]


class RowSample:
    """``capacity`` rows of all given so far, each with the same chance: those with the smallest random keys."""

    def __init__(self, sensors: int, capacity: int, seed: int) -> None:
        self._capacity = capacity
        self._random = np.random.default_rng(seed)
        self._key = np.zeros(0)
        self.values: Values = np.zeros((0, sensors))

    def take(self, values: Values) -> None:
        key = self._random.random(len(values))
        if len(self._key) >= self._capacity:
            lower = key < self._key.max()
            key, values = key[lower], values[lower]
        key, values = np.concatenate((self._key, key)), np.concatenate((self.values, values))
        if len(key) > self._capacity:
            kept = np.sort(np.argpartition(key, self._capacity)[: self._capacity])
            key, values = key[kept], values[kept]
        self._key, self.values = key, values


class KeySketch:
    """The ``_CAPACITY`` smallest of all hashes given, with the tick each belongs to (bottom-k sketch, Cohen 1997).

    Two sketches keep the same hashes of what their streams share, wherever it stands in either.
    """

    def __init__(self) -> None:
        self._limit = np.uint64(2**64 - 1)
        self._hash: Hashes = np.zeros(0, np.uint64)
        self._tick: Times = np.zeros(0, np.int64)

    def take(self, hashes: Hashes, tick: Times) -> None:
        low = hashes <= self._limit
        self._hash, self._tick = np.concatenate((self._hash, hashes[low])), np.concatenate((self._tick, tick[low]))
        if len(self._hash) > 2 * _CAPACITY:
            order = np.argsort(self._hash, kind="stable")[:_CAPACITY]
            self._hash, self._tick = self._hash[order], self._tick[order]
            self._limit = self._hash[-1]

    def shared(self, other: KeySketch) -> Shared:
        """How much of ``self`` is also in ``other``, of what both have once only."""
        limit = min(self._limit, other._limit)
        own, place = self._once(limit)
        theirs, _ = other._once(limit)
        both = np.isin(own, theirs)
        return Shared(int(both.sum()), len(own), int(place[both].min()) if both.any() else None)

    def repeated_share(self) -> float:
        """Share of what was given that had been given before."""
        return 1.0 - len(np.unique(self._hash)) / len(self._hash) if len(self._hash) else 0.0

    def _once(self, limit: np.uint64) -> tuple[Hashes, Times]:
        low = self._hash <= limit
        found, first, count = np.unique(self._hash[low], return_index=True, return_counts=True)
        return found[count == 1], self._tick[low][first[count == 1]]


@dataclass(frozen=True, slots=True)
class Shared:
    """``count`` of ``total`` keys are in both; ``first_tick``: of the earliest one."""

    count: int
    total: int
    first_tick: int | None

    @property
    def share(self) -> float:
        return self.count / self.total if self.total else 0.0


class BlockSketch:
    """Which blocks of :data:`BLOCK_ROWS` consecutive rows a stream holds, by values rounded to four digits.

    Blocks in which little changes are left out: a plant at rest looks the same every night.
    """

    def __init__(self, columns: NDArray[np.int64]) -> None:
        self.keys = KeySketch()
        self._columns = columns
        self._weight = np.random.default_rng(0).integers(1, 2**63, len(columns), dtype=np.uint64) * np.uint64(
            2
        ) + np.uint64(1)
        self._segment = -1
        self._before: Hashes = np.zeros(0, np.uint64)

    def take(self, block: Block, first_tick: int) -> None:
        rows = self._row_hashes(block.values[:, self._columns])
        if block.segment != self._segment:
            self._segment, self._before = block.segment, np.zeros(0, np.uint64)
        row = np.concatenate((self._before, rows))
        first = first_tick - len(self._before)
        self._before = row[max(0, len(row) - BLOCK_ROWS + 1) :]
        if len(row) < BLOCK_ROWS:
            return
        windows = np.lib.stride_tricks.sliding_window_view(row, BLOCK_ROWS)
        changes = (windows[:, 1:] != windows[:, :-1]).sum(1)
        telling = (changes >= _LEAST_CHANGES) & (windows != 0).all(1)
        factor = np.uint64(0x9E3779B97F4A7C15) ** np.arange(BLOCK_ROWS, dtype=np.uint64)
        mixed = _mixed((windows[telling] * factor).sum(1, dtype=np.uint64))
        self.keys.take(mixed, first + np.flatnonzero(telling))

    def _row_hashes(self, values: Values) -> Hashes:
        """0 for a row without any value."""
        known = np.isfinite(values)
        single = np.where(known, values, 0.0).astype(np.float32) + np.float32(0.0)  # -0.0 is 0.0
        rounded = ((single.view(np.uint32) + _HALF) >> _DROPPED_BITS).astype(np.uint64) + np.uint64(1)
        return np.where(known.any(1), _mixed((rounded * known * self._weight).sum(1, dtype=np.uint64)), np.uint64(0))


def time_keys(time_ns: Times) -> Hashes:
    """Hashes of times to the millisecond."""
    return _mixed((time_ns // 1_000_000).astype(np.uint64))


def _mixed(x: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al., 2014): every bit of the input moves every bit of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)
