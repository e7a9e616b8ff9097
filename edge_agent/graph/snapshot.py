"""The state of all sensors at one tick, as the detector sees it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All sensors (N) at one tick; arrays are read-only to whoever gets them.

    ``value``: last usable value in the sensor's unit, 0 where there has never been one.
    ``age``: ticks since that value was fresh, 0 when it came in this tick.
    ``quality``: :class:`~edge_agent.sample.Quality` flags of the newest reading; 0 is good.
    ``usable``: True where ``value`` may be shown to a model (known, not stale, no disqualifying flag).
    ``neighbour``: indices of K neighbours of each sensor, best first, -1 where there are fewer.
    ``topology``: grows by one whenever sensors or edges changed; detectors re-align their state when it does.
    ``tick`` counts from 0; ``time_ns`` is wall time and only labels the tick.
    """

    tick: int
    time_ns: int
    topology: int
    sensors: tuple[str, ...]
    value: NDArray[np.float64]
    age: NDArray[np.float32]
    quality: NDArray[np.int32]
    usable: NDArray[np.bool_]
    neighbour: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sensors)
