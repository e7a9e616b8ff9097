"""Which ticks of a history are learned from and which are held out, in bounded memory.

A history of up to some ten thousand ticks is used whole: its first three quarters and its last one. A longer one is cut
into equal strata, and a window at a random place of each is used, so that days, nights and seasons are all there; of
every four windows, a random one is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_models.histories import Block, History

Values = NDArray[np.float64]
Window = tuple[int, int]
WINDOW = 512
SKIPPED_TICKS = 8
"""At the beginning of a part nothing is measured: the model has not seen what came before."""
_MOST_TICKS = 48_000
_MOST_CELLS = 6_000_000
_GROUP = 4
_HELD_OUT = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """Windows of ticks, ``[first, last)``, to learn from and to hold out. ``whole``: nothing is left out."""

    training: tuple[Window, ...]
    held_out: tuple[Window, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """Readings [T, N] of the windows, each cut where nothing may be carried over."""

    training: list[Values]
    held_out: list[Values]
    whole: bool

    @property
    def ticks(self) -> int:
        return sum(map(len, self.training)) + sum(map(len, self.held_out))


def planned(ticks: int, sensors: int, seed: int) -> Plan:
    """Windows for a history of ``ticks`` and ``sensors``; the same seed gives the same."""
    most = min(_MOST_TICKS, max(_GROUP * WINDOW, _MOST_CELLS // sensors))
    if ticks <= most:
        border = int(ticks * (1.0 - _HELD_OUT))
        return Plan(((0, border),), ((border, ticks),), whole=True)
    generator = np.random.default_rng(seed)
    count = most // WINDOW // _GROUP * _GROUP
    border_of = np.linspace(0, ticks, count + 1).astype(np.int64)
    starts = [int(generator.integers(a, b - WINDOW + 1)) for a, b in pairwise(border_of)]
    chosen = {group + int(generator.integers(_GROUP)) for group in range(0, count, _GROUP)}
    windows = [(start, start + WINDOW) for start in starts]
    return Plan(
        tuple(window for place, window in enumerate(windows) if place not in chosen),
        tuple(window for place, window in enumerate(windows) if place in chosen),
        whole=False,
    )


def collected(history: History, plan: Plan) -> Sample:
    """One pass over ``history`` for the readings of ``plan``.

    :raises DataFileError: nothing is left to learn from or to hold out, because runs are too short.
    """
    training, held_out = _Collector(plan.training), _Collector(plan.held_out)
    tick = 0
    for block in history.blocks():
        for collector in (training, held_out):
            collector.take(block, tick)
        tick += len(block)
    sample = Sample(training.parts(), held_out.parts(), plan.whole)
    if not sample.training or not sample.held_out:
        raise DataFileError(
            f"{history.where}: runs of a few rows only, expected runs of at least {2 * SKIPPED_TICKS} rows with values"
        )
    return sample


class _Collector:
    def __init__(self, windows: tuple[Window, ...]) -> None:
        self._windows = windows
        self._found: dict[tuple[int, int], list[Values]] = {}

    def take(self, block: Block, tick: int) -> None:
        for place, (first, last) in enumerate(self._windows):
            low, high = max(first - tick, 0), min(last - tick, len(block))
            if low < high:
                self._found.setdefault((place, block.segment), []).append(block.values[low:high].copy())

    def parts(self) -> list[Values]:
        """What was collected, in order; slivers and parts without any reading are left out."""
        parts = (np.concatenate(pieces) for pieces in self._found.values())
        return [part for part in parts if len(part) > SKIPPED_TICKS and np.isfinite(part).any()]
