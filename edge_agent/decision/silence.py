"""Why nobody is to be disturbed by an incident: maintenance windows and operators' orders. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edge_agent.decision.maintenance import MaintenanceOptions
from edge_agent.decision.orders import Orders, covers
from edge_agent.schedule import Windows


class Silence:
    """``orders``: those in force. ``area_of`` says in which area a sensor is."""

    def __init__(self, maintenance: Sequence[MaintenanceOptions], area_of: Callable[[str], str | None]) -> None:
        self._area_of = area_of
        self._windows = Windows(maintenance)
        self._open: tuple[MaintenanceOptions, ...] = ()
        self.orders = Orders()

    def plan(self, maintenance: Sequence[MaintenanceOptions]) -> None:
        """Go on with other maintenance windows."""
        self._windows = Windows(maintenance)

    def follow(self, wall_ns: int) -> bool:
        """Whether maintenance windows have begun or ended since the last call."""
        before, self._open = self._open, self._windows.open_at(wall_ns)
        return before != self._open

    def under_maintenance(self, wall_ns: int, watched: Callable[[], Iterable[str]]) -> bool:
        """True while a window is open that names nothing, or covers one of the sensors that ``watched`` gives."""
        return any(self._concerns(window, watched) for window in self._windows.open_at(wall_ns))

    def reason(self, sensors: tuple[str, ...]) -> str | None:
        """Why an incident of all these sensors disturbs nobody now; None where it does."""
        for window in self._open:
            if covers(window.sensors, window.areas, sensors, self._area_of):
                return f"maintenance {window.name}"
        for order in self.orders:
            if covers(order.sensors, order.areas, sensors, self._area_of):
                return f"order {order.id} by {order.by}"
        return None

    def _concerns(self, window: MaintenanceOptions, watched: Callable[[], Iterable[str]]) -> bool:
        if not window.sensors and not window.areas:
            return True
        return any(covers(window.sensors, window.areas, (name,), self._area_of) for name in watched())
