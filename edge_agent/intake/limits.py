"""What is known about each sensor, as columns aligned with the graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S
from edge_agent.intake.options import SensorOptions

_FOREVER_NS = 2**62


class Limits:
    """Columns of sensor options; rows are appended as sensors join the graph."""

    def __init__(self, options_for: Callable[[str], SensorOptions], stale_after_s: float) -> None:
        self._options_for = options_for
        self._stale_after_s = stale_after_s
        self.options: list[SensorOptions] = []
        self.any_rate = False
        self._rebuild()

    def extend(self, sensors: tuple[str, ...]) -> None:
        """Add rows for the sensors beyond those known already."""
        if len(sensors) > len(self.options):
            self.options += [self._options_for(name) for name in sensors[len(self.options) :]]
            self._rebuild()

    def keep(self, index: NDArray[np.int64]) -> None:
        """Keep the rows ``index``, in that order."""
        self.options = [self.options[i] for i in index]
        self._rebuild()

    def reload(self, options_for: Callable[[str], SensorOptions], sensors: tuple[str, ...]) -> None:
        """Ask again for every sensor, after the configuration has changed."""
        self._options_for = options_for
        self.options = [options_for(name) for name in sensors]
        self._rebuild()

    def _rebuild(self) -> None:
        def column(value_of: Callable[[SensorOptions], float | None], default: float) -> NDArray[np.float64]:
            values = (value_of(options) for options in self.options)
            return np.array([default if value is None else value for value in values], dtype=np.float64)

        def column_ns(value_of: Callable[[SensorOptions], float | None], default_ns: int) -> NDArray[np.int64]:
            values = (value_of(options) for options in self.options)
            return np.array([default_ns if v is None else int(v * NS_PER_S) for v in values], dtype=np.int64)

        self.scale = column(lambda o: o.scale, 1.0)
        self.offset = column(lambda o: o.offset, 0.0)
        self.min = column(lambda o: o.min, -np.inf)
        self.max = column(lambda o: o.max, np.inf)
        self.max_rate = column(lambda o: o.max_rate, np.inf)
        self.stale_ns = column_ns(lambda o: o.stale_after, int(self._stale_after_s * NS_PER_S))
        self.stuck_ns = column_ns(lambda o: o.stuck_after, _FOREVER_NS)
        self.monitored = np.array([o.monitor for o in self.options], dtype=np.bool_)
        self.any_rate = bool(np.isfinite(self.max_rate).any())
