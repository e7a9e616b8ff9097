"""One tick's sensor scores to a few numbers about the whole plant.

Faults differ in how many sensors they touch and how long they last, so four statistics are kept: the mean over all
sensors and over the three worst, each of this tick and averaged over the last five (causal). Logarithms, because scores
are squared residuals with heavy tails. The five-tick mean of the log mean is the plant's score that people see.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

WIDTH = 4
SMOOTHED = 2  # column of the plant's score
_TICKS = 5
_WORST = 3
_LARGEST = 1e6
_FLOOR = 1e-3


class PlantStatistics:
    """Turns per-sensor scores into rows of four statistics; remembers five ticks."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=_TICKS)

    def update(self, score: NDArray[np.float32], counts: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """Row for this tick from ``score`` (N) where ``counts`` (N) is True; None when no sensor counts.

        Columns: log mean, log mean of the worst three, and the five-tick means of both.
        """
        chosen = np.minimum(score[counts], _LARGEST)
        if not len(chosen):
            return None
        worst = chosen if len(chosen) <= _WORST else np.partition(chosen, len(chosen) - _WORST)[-_WORST:]
        now = (float(np.log(_FLOOR + chosen.mean(dtype=np.float64))), float(np.log(_FLOOR + worst.mean())))
        self._recent.append(now)
        count = len(self._recent)
        mean = sum(row[0] for row in self._recent) / count
        mean_worst = sum(row[1] for row in self._recent) / count
        return np.array((now[0], now[1], mean, mean_worst))

    def reset(self) -> None:
        """Forget the last ticks, as after a change of run."""
        self._recent.clear()
