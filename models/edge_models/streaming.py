"""Readings through a detector, one tick after the other, exactly as the daemon does it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.detector import Detector

Values = NDArray[np.float64]


def score_rows(
    detector: Detector, values: Values, neighbour: NDArray[np.int64], sensors: Sequence[str]
) -> NDArray[np.float32]:
    """Per-sensor scores [T, N] of ``values`` [T, N] (NaN = nothing arrived); goes on from the detector's state."""
    names = tuple(sensors)
    ticks, count = values.shape
    held = np.zeros(count)
    age = np.full(count, np.inf, np.float32)
    quality = np.zeros(count, np.int32)
    scores = np.zeros((ticks, count), np.float32)
    known = np.isfinite(values)
    for tick in range(ticks):
        fresh = known[tick]
        held[fresh] = values[tick, fresh]
        age += 1.0
        age[fresh] = 0.0
        snapshot = Snapshot(tick, 0, 0, names, held.copy(), age.copy(), quality, fresh, neighbour)
        scores[tick] = detector.score(snapshot).score
    return scores


def plant_score(scores: NDArray[np.float32], smooth: int = 5) -> Values:
    """One score a tick: logarithm of the mean over sensors, causal mean over ``smooth`` ticks."""
    logs = np.log(scores.astype(np.float64).mean(1) + 1e-9)
    total = np.cumsum(np.concatenate((np.zeros(1), logs)))
    begin = np.maximum(np.arange(1, len(logs) + 1) - smooth, 0)
    end = np.arange(1, len(logs) + 1)
    return np.asarray((total[end] - total[begin]) / (end - begin), np.float64)
