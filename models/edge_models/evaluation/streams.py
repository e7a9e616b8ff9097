"""What a detector said of one plant, tick by tick."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_models.evaluation.suites import Case

Floats = NDArray[np.float64]
SMOOTH_TICKS = 5


@dataclass(frozen=True, slots=True)
class Stream:
    """One test of T ticks. ``plant`` [T]: higher is more anomalous, finite, on a logarithmic scale.

    ``sensor`` [T, N]: by which the sensors of an event are ranked, None where the detector has only one score for the
    plant. ``p_value`` [T] (NaN while warming up) and ``alarm`` [T] of 0 and 1: of one that decides by itself, else
    None.
    """

    plant: Floats
    sensor: NDArray[np.float32] | None = None
    p_value: Floats | None = None
    alarm: NDArray[np.int8] | None = None


@dataclass(frozen=True, slots=True)
class Streams:
    """All of one plant. ``calm`` [C]: plant scores of held-out normal ticks, which thresholds are set by."""

    calm: Floats
    tests: dict[str, Stream]


class Subject(Protocol):
    """A detector under test. ``random``: its scores depend on the seed. ``key`` identifies it among cached scores."""

    @property
    def name(self) -> str: ...

    @property
    def random(self) -> bool: ...

    @property
    def key(self) -> str: ...

    def run(self, case: Case, seed: int) -> Streams:
        """Score all tests of ``case``, each from what was learned in the plant's normal part alone."""
        ...


def smoothed(streams: Streams, ticks: int = SMOOTH_TICKS) -> Streams:
    """The plant's scores as causal means of ``ticks``; nothing is averaged over the border of two tests."""
    tests = {name: replace(stream, plant=causal_mean(stream.plant, ticks)) for name, stream in streams.tests.items()}
    return Streams(causal_mean(streams.calm, ticks), tests)


def causal_mean(values: Floats, ticks: int) -> Floats:
    """Mean of each value and up to ``ticks - 1`` before it."""
    total = np.cumsum(np.concatenate((np.zeros(1), values)))
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - ticks, 0)
    return np.asarray((total[end] - total[begin]) / (end - begin), np.float64)
