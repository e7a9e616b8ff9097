"""Ticks to one number a block: level, spread and residual of every sensor.

Readings of a plant depend on those before them; means over blocks longer than its cycles hardly do (batch means:
B. Schmeiser, "Batch size effects in the analysis of simulation output", Operations Research 30, 1982).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.drift.findings import Statistic
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

Floats = NDArray[np.float64]
STATISTICS = tuple(Statistic)
_LEAST_SHARE = 0.5  # of a block's ticks, for a sensor to have a number
_MOST = 1e3  # a score beyond says no more
_FLOOR = 0.1  # of a score of about 1: quiet sensors are not told apart by the logarithm
_RELATIVE = 1e-4  # of the level: the smallest spread that means something


class BlockSums:
    """Sums over the ticks of one block for N sensors; 48 bytes a sensor."""

    def __init__(self, sensors: int = 0) -> None:
        self.ticks = 0
        self._seen, self._origin, self._sum, self._square = np.zeros((4, sensors))
        self._valid, self._score = np.zeros((2, sensors))

    def add(self, snapshot: Snapshot, scores: Scores) -> None:
        """Take one tick in."""
        usable = snapshot.usable
        # Sums of what exceeds the block's first value: a small spread of a large value keeps its digits.
        first = usable & (self._seen == 0)
        np.copyto(self._origin, snapshot.value, where=first)
        excess = np.where(usable, snapshot.value - self._origin, 0.0)
        self._seen += usable
        self._sum += excess
        self._square += excess * excess
        self._valid += scores.valid
        self._score += np.where(scores.valid, np.minimum(scores.score, _MOST), 0.0)
        self.ticks += 1

    def statistics(self) -> Floats:
        """Level, logarithm of the spread, logarithm of the residual [3, N]; NaN for sensors that were hardly there."""
        least = max(1.0, _LEAST_SHARE * self.ticks)
        seen, valid = np.maximum(self._seen, 1.0), np.maximum(self._valid, 1.0)
        excess = self._sum / seen
        level = self._origin + excess
        deviation = np.sqrt(np.maximum(self._square / seen - excess * excess, 0.0))
        spread = np.log(deviation + _RELATIVE * np.abs(level) + 1e-9)
        residual = np.log(self._score / valid + _FLOOR)
        there = self._seen >= least
        return np.stack(
            (
                np.where(there, level, np.nan),
                np.where(there, spread, np.nan),
                np.where(self._valid >= least, residual, np.nan),
            )
        )


def in_units(statistic: Statistic, value: Floats) -> Floats:
    """What people see of a statistic: level and spread in the sensor's unit, the residual as a score."""
    if statistic is Statistic.LEVEL:
        return value
    return np.exp(value) - (_FLOOR if statistic is Statistic.RESIDUAL else 0.0)
