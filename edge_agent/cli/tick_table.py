"""The readings of a replay as a table, in the form that ``train`` and ``detect`` take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot


class TickTable:
    """One row a tick, one column a sensor. What did not come in a tick, or must not reach a model, is missing there."""

    def __init__(self) -> None:
        self._time_ns: list[int] = []
        self._rows: list[tuple[tuple[str, ...], NDArray[np.float64]]] = []

    def add(self, snapshot: Snapshot) -> None:
        """Append a tick. Values are in the sensor's unit, after ``scale`` and ``offset``."""
        self._time_ns.append(snapshot.time_ns)
        came = snapshot.usable & (snapshot.age == 0)
        self._rows.append((snapshot.sensors, np.where(came, snapshot.value, np.nan)))

    def columns(self) -> dict[str, NDArray[Any]]:
        """``timestamp`` (UTC), then every sensor in the order in which they appeared."""
        layouts = dict.fromkeys(sensors for sensors, _ in self._rows)
        names = dict.fromkeys(name for sensors in layouts for name in sensors)
        place = {name: column for column, name in enumerate(names)}
        values = np.full((len(self._rows), len(names)), np.nan)
        for row, (sensors, seen) in enumerate(self._rows):
            values[row, [place[name] for name in sensors]] = seen
        times = np.array(self._time_ns, dtype="datetime64[ns]")
        return {"timestamp": times} | {name: values[:, column] for name, column in place.items()}
