"""Sensors that come back after a gap are not judged until the model has seen a few of their readings again. Pure.

A forecast is made from the last readings, and after a broken link those are from before the gap: the first ones that
arrive look wrong although nothing is. What is a gap depends on how often a sensor speaks, so its usual interval is
followed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot

_REST = 6  # ticks; models look back five
_SHORTEST_GAP = 10.0  # ticks; shorter silences disturb no forecast
_LONGER = 5.0  # times the usual interval makes a gap
_FOLLOW = 0.05


class Returning:
    """Follows the interval between the readings of every sensor; rows follow the sensors by name."""

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._age: NDArray[np.float32] = np.zeros(0, np.float32)
        self._interval: NDArray[np.float32] = np.ones(0, np.float32)
        self._rest: NDArray[np.int32] = np.zeros(0, np.int32)

    def settled(self, snapshot: Snapshot) -> NDArray[np.bool_]:
        """Take one tick in; False (N) for sensors that have just come back."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot)
        fresh = snapshot.age <= self._age  # without a new reading it would have grown; late ones never have age 0
        gap = self._age + 1.0 - snapshot.age
        back = fresh & (gap > np.maximum(_SHORTEST_GAP, _LONGER * self._interval))
        self._interval += np.where(fresh & ~back, _FOLLOW * (gap - self._interval), 0.0).astype(np.float32)
        self._rest = np.where(back, _REST, np.maximum(self._rest - 1, 0)).astype(np.int32)
        self._age = snapshot.age
        return np.asarray(self._rest == 0)

    def reset(self) -> None:
        """The stream starts anew: what comes first has not come back from anywhere."""
        self._sensors = ()

    def _align(self, snapshot: Snapshot) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        rows = np.array([old.get(name, -1) for name in snapshot.sensors], dtype=np.int64)
        known = rows >= 0
        age, interval = snapshot.age.copy(), np.ones(len(rows), np.float32)
        rest = np.zeros(len(rows), np.int32)
        kept = rows[known]
        age[known], interval[known], rest[known] = self._age[kept], self._interval[kept], self._rest[kept]
        self._sensors, self._age, self._interval, self._rest = snapshot.sensors, age, interval, rest
