"""What is usual for each sensor of a plant: the measure that severities are given in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

RELATED = 0.6
"""A sensor is related when its absolute correlation with another one is above this."""
_RELATION_ROWS = 4_096
_BLOCK = 512
_MOST_LAG = 120
_RANGE = (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class Habits:
    """Measured on normal readings. ``readings`` [M, N] hold the last known value where one is missing.

    ``mean``, ``spread`` (standard deviation), ``low`` and ``high`` (1st and 99th percentile) [N] in the sensor's unit.
    ``heard`` [N]: has had a value; ``moving`` [N]: has a spread that is not rounding.
    """

    readings: Values
    mean: Values
    spread: Values
    low: Values
    high: Values
    heard: Flags
    moving: Flags

    @classmethod
    def of(cls, normal: Values) -> Habits:
        """Habits from readings [M, N]; what is not finite counts as missing."""
        known = np.isfinite(normal)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, normal, 0.0).sum(0) / count
        spread = np.sqrt((np.where(known, normal - mean, 0.0) ** 2).sum(0) / count)
        readings = carried_forward(normal, mean)
        low, high = np.quantile(readings, _RANGE, axis=0)
        moving = spread > 1e-6 * np.abs(mean) + 1e-12
        return cls(readings, mean, spread, low, high, np.asarray(known.any(0)), moving)

    def related(self) -> Flags:
        """Which sensors move with another one [N]."""
        z = self._standardised()
        found = np.zeros(z.shape[1], np.bool_)
        for first in range(0, z.shape[1], _BLOCK):  # so that thousands of sensors need no square matrix
            block = slice(first, first + _BLOCK)
            correlation = np.abs(z[:, block].T @ z) / len(z)
            rows = np.arange(len(correlation))
            correlation[rows, first + rows] = 0.0
            found[block] = correlation.max(1) > RELATED
        return found

    def correlation(self, sensor: int) -> Values:
        """Correlation [N] of every sensor with this one; 0 for those that never move."""
        z = self._standardised()
        return np.asarray(z.T @ z[:, sensor] / len(z), np.float64)

    def lag(self, sensor: int, change: float, most: int) -> int:
        """The fewest ticks over which the sensor's readings differ by ``change`` (root mean square), at most ``most``.

        The lag of the largest difference where none is that large.
        """
        readings = self.readings[-_RELATION_ROWS:, sensor]
        lags = range(1, max(2, min(most, _MOST_LAG, len(readings) - 1) + 1))
        difference = np.array([np.sqrt(np.mean((readings[lag:] - readings[:-lag]) ** 2)) for lag in lags])
        enough = np.flatnonzero(difference >= change)
        return lags[int(enough[0] if len(enough) else difference.argmax())]

    def _standardised(self) -> Values:
        recent = self.readings[-_RELATION_ROWS:]
        centred = recent - recent.mean(0)
        spread = centred.std(0)
        alive = self.moving & (spread > 1e-3 * self.spread)
        return np.asarray(np.where(alive, centred / np.where(alive, spread, 1.0), 0.0), np.float64)


def carried_forward(values: Values, first: Values) -> Values:
    """``values`` [T, N] with the last known value where one is missing, and ``first`` [N] before there was any."""
    known = np.isfinite(values)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, None], -1), axis=0)
    carried = np.take_along_axis(np.where(known, values, 0.0), np.maximum(last, 0), axis=0)
    return np.asarray(np.where(last >= 0, carried, first), np.float64)
