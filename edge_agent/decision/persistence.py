"""What lasts: each sensor's score averaged over the time in which an incident should be found. Pure.

A pump that starts throws many residuals for a tick or two; a spoofed sensor is a little wrong for minutes. The mean
over time tells them apart. Scores are cut off before they are averaged, so that one huge tick does not look lasting.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

_CUT = 100.0


class Persistence:
    """Exponentially weighted mean of the scores over about ``ticks``; rows follow the sensors by name."""

    def __init__(self, ticks: int) -> None:
        self._weight = np.float32(2.0 / (ticks + 1.0))
        self._sensors: tuple[str, ...] = ()
        self.mean: NDArray[np.float32] = np.zeros(0, np.float32)

    def update(
        self, sensors: tuple[str, ...], score: NDArray[np.float32], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Take one tick in and return the mean; a sensor that is not valid keeps what it had."""
        if sensors is not self._sensors:
            self._align(sensors)
        step = self._weight * (np.minimum(score, _CUT) - self.mean)
        self.mean = np.asarray(np.where(valid, self.mean + step, self.mean), dtype=np.float32)
        return self.mean

    def settle(self, sensors: Collection[str]) -> None:
        """Begin at 1 again for ``sensors``, which are known to be normal now."""
        rows = [i for i, name in enumerate(self._sensors) if name in sensors]
        self.mean[rows] = 1.0

    def reset(self) -> None:
        """Begin at 1 again, the mean of a normal score."""
        self.mean = np.ones_like(self.mean)

    def _align(self, sensors: tuple[str, ...]) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        rows = np.array([old.get(name, len(old)) for name in sensors], dtype=np.int64)
        self.mean = np.append(self.mean, np.float32(1.0))[rows]
        self._sensors = sensors
