"""One tick's sensor scores to a few numbers about the whole plant.

Faults differ in how many sensors they touch and how long they last, so seven statistics are kept: the mean over all
sensors and over the three worst, each of this tick and averaged over the last five (causal), the worst one and the
mean of the three worst sensors by their persistent score (``decision.persistence``), and the ensemble's score of the
plant, averaged over the last five. Logarithms, because scores are squared residuals with heavy tails. The last of them
is the plant's score that people see; for a single detector it is the five-tick mean of the log mean.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

WIDTH = 7
LASTING = slice(4, 6)  # columns that remember for longer than five ticks
PLANT = 6  # column of the plant's score
_TICKS = 5
_WORST = 3
_LARGEST = 1e6
_FLOOR = 1e-3


class PlantStatistics:
    """Turns per-sensor scores into rows of statistics; remembers five ticks."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=_TICKS)

    def update(
        self,
        score: NDArray[np.float32],
        persistent: NDArray[np.float32],
        counts: NDArray[np.bool_],
        plant: float | None,
    ) -> NDArray[np.float64] | None:
        """Row for this tick from both scores (N) where ``counts`` (N) is True; None when no sensor counts.

        ``plant``: the ensemble's log score of the plant, None where a single detector is at work.
        """
        chosen = np.minimum(score[counts], _LARGEST)
        if not len(chosen):
            return None
        lasting = np.minimum(persistent[counts], _LARGEST)
        mean = _log(float(chosen.mean(dtype=np.float64)))
        now = (mean, _log(_worst(chosen)), mean if plant is None else plant)
        self._recent.append(now)
        late = [sum(column) / len(self._recent) for column in zip(*self._recent, strict=True)]
        return np.array((*now[:2], *late[:2], _log(float(lasting.max())), _log(_worst(lasting)), late[2]))

    def reset(self) -> None:
        """Forget the last ticks, as after a change of run."""
        self._recent.clear()


def _worst(score: NDArray[np.float32]) -> float:
    if len(score) > _WORST:
        score = np.partition(score, len(score) - _WORST)[-_WORST:]
    return float(score.mean(dtype=np.float64))


def _log(value: float) -> float:
    return math.log(_FLOOR + value)
