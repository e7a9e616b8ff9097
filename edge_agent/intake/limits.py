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
        self._columns: dict[str, NDArray[np.float64]] = {}
        self._set([])

    def extend(self, sensors: tuple[str, ...]) -> None:
        """Add rows for the sensors beyond those known already."""
        new = [self._options_for(name) for name in sensors[len(self.options) :]]
        if new:
            self.options += new
            self._columns = {name: np.append(old, self._column(name, new)) for name, old in self._columns.items()}
            self._name_columns()

    def keep(self, index: NDArray[np.int64]) -> None:
        """Keep the rows ``index``, in that order."""
        self.options = [self.options[i] for i in index]
        self._columns = {name: column[index] for name, column in self._columns.items()}
        self._name_columns()

    def reload(self, options_for: Callable[[str], SensorOptions], sensors: tuple[str, ...]) -> None:
        """Ask again for every sensor, after the configuration has changed."""
        self._options_for = options_for
        self._set([options_for(name) for name in sensors])

    def _set(self, options: list[SensorOptions]) -> None:
        self.options = options
        self._columns = {name: self._column(name, options) for name in _COLUMNS}
        self._name_columns()

    def _column(self, name: str, options: list[SensorOptions]) -> NDArray[np.float64]:
        default = self._stale_after_s if name == "stale_after" else _COLUMNS[name]
        values = [getattr(one, name) for one in options]
        return np.array([default if value is None else value for value in values], dtype=np.float64)

    def _name_columns(self) -> None:
        columns = self._columns
        self.scale, self.offset = columns["scale"], columns["offset"]
        self.min, self.max, self.max_rate = columns["min"], columns["max"], columns["max_rate"]
        self.stale_ns = _nanoseconds(columns["stale_after"])
        self.stuck_ns = _nanoseconds(columns["stuck_after"])
        self.monitored = columns["monitor"] > 0
        self.any_rate = bool(np.isfinite(self.max_rate).any())


_COLUMNS = {
    "scale": 1.0,
    "offset": 0.0,
    "min": -np.inf,
    "max": np.inf,
    "max_rate": np.inf,
    "stale_after": np.inf,
    "stuck_after": np.inf,
    "monitor": 1.0,
}
"""Option of a sensor and what stands for one that is not set."""


def _nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum(seconds * NS_PER_S, _FOREVER_NS).astype(np.int64)
