"""What operators do is written to the audit log before it is done; and what they may do with incidents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from edge_agent.clock import NS_PER_S
from edge_agent.counted import listed
from edge_agent.decision.orders import Order, covers
from edge_agent.errors import ControlError, StoreError
from edge_agent.history import History
from edge_agent.history.audit import AuditLog
from edge_agent.pipeline.engine import Pipeline
from edge_agent.verdict import Acknowledgement, Feedback, Incident, rfc3339

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_MOST_PATTERNS = 2_000  # of all orders in force: each incident is compared with all of them


class Operators:
    """Acknowledges, suppresses and judges incidents of one daemon. What it answers with is durable.

    :meth:`note` and :meth:`tell` are for what operators do elsewhere.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._audit = AuditLog(daemon.config.agent.data_dir / "audit.jsonl")

    async def acknowledge(self, pipeline: Pipeline, incident_id: str, note: str, actor: str) -> dict[str, Any] | None:
        """Note that ``actor`` has seen an open incident; the incident as it is now, None: there is none such.

        :raises ControlError: it is closed.
        """
        before = pipeline.lifecycle.open_incident(incident_id)
        if before is None:
            if await self._known(incident_id) is None:
                return None
            raise ControlError(
                f"incident {incident_id} is closed: nothing is left to acknowledge; judge it by feedback"
            )
        await self.note("acknowledge", actor, incident=incident_id, note=note)
        said = Acknowledgement(actor, self._daemon.clock.wall_ns(), note)
        found = pipeline.lifecycle.acknowledge(incident_id, said)
        if found is None:  # closed while the audit was written
            raise ControlError(f"incident {incident_id} has just closed: nothing is left to acknowledge")
        if found.acknowledged != before.acknowledged:
            await self._tell(pipeline, [found])
        return found.to_dict()

    async def suppress(
        self,
        pipeline: Pipeline,
        sensors: tuple[str, ...],
        areas: tuple[str, ...],
        duration_s: float,
        note: str,
        actor: str,
    ) -> dict[str, Any]:
        """Have incidents of ``sensors`` and ``areas`` (patterns) disturb nobody for a while; the order.

        ``matches`` in it says how many sensors that are known now it concerns.
        """
        in_force = sum(len(order.sensors) + len(order.areas) for order in pipeline.lifecycle.orders)
        if in_force + len(sensors) + len(areas) > _MOST_PATTERNS:
            raise ControlError(
                f"orders with {in_force} patterns are in force, expected at most {_MOST_PATTERNS} with this one: lift "
                "some first, or use wider patterns",
                status=409,
            )
        wall_ns = self._daemon.clock.wall_ns()
        order_id = pipeline.new_id(wall_ns)
        order = Order(order_id, sensors, areas, wall_ns, wall_ns + round(duration_s * NS_PER_S), actor, note)
        await self.note(
            "suppress", actor, order=order.id, sensors=sensors, areas=areas, until=rfc3339(order.until_ns), note=note
        )
        await self._tell(pipeline, pipeline.lifecycle.suppress(order, pipeline.timeline.now_ns(), wall_ns))
        matches = sum(covers(sensors, areas, (name,), pipeline.area) for name in pipeline.graph.sensors)
        return {**order.to_dict(), "matches": matches}

    async def lift(self, pipeline: Pipeline, order_id: str, actor: str) -> dict[str, Any] | None:
        """End an order before its time; the order, None: there is none such."""
        order = next((order for order in pipeline.lifecycle.orders if order.id == order_id), None)
        if order is None:
            return None
        await self.note("lift", actor, order=order_id)
        changed = pipeline.lifecycle.lift(order_id, self._daemon.clock.wall_ns())
        await self._tell(pipeline, changed or [])
        return order.to_dict()

    async def judge(
        self, pipeline: Pipeline, incident_id: str, verdict: Feedback, note: str, actor: str
    ) -> dict[str, Any] | None:
        """Keep what ``actor`` says of an incident and learn from it; what was kept, None: there is no such incident.

        :raises ControlError: incidents are not kept. :raises StoreError: it could not be written.
        """
        history = self._history()
        incident = await history.incident(incident_id)
        if incident is None:
            return None
        await self.note("feedback", actor, incident=incident_id, verdict=verdict.value, note=note)
        said = await history.judge(incident_id, verdict, note, actor)
        if said is None:
            return None
        pipeline.notice("feedback", f"incident {incident_id} was called a {verdict.value} by {actor}", said)
        if said != incident.get("feedback"):
            named = tuple(part["sensor"] for part in incident.get("sensors", ()))
            sensors = pipeline.lifecycle.sensors_of(incident_id) or named
            pipeline.feedback(incident_id, sensors, incident.get("members", {}), verdict)
        return said

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        """The last actions, newest first."""
        return await asyncio.to_thread(self._audit.latest, limit)

    async def tell(self, action: str, actor: str, **details: Any) -> None:
        """Like :meth:`note`, for what is done all the same: a full disk must not keep its remedy from being applied."""
        try:
            await self._write(action, actor, details)
        except StoreError as error:
            self._daemon.metrics.store_failures.labels("audit").inc()
            _log.error("%s by %s is not in the audit log: %s", action, actor, error)

    async def note(self, action: str, actor: str, **details: Any) -> None:
        """Write that ``actor`` is about to do ``action``.

        :raises StoreError: the audit cannot be written, and so the action must not be done.
        """
        try:
            await self._write(action, actor, details)
        except StoreError as error:
            raise StoreError(f"{error}; nothing was done") from error

    async def _write(self, action: str, actor: str, details: Mapping[str, Any]) -> None:
        wall_ns = self._daemon.clock.wall_ns()
        entry = {"time": rfc3339(wall_ns), "by": actor, "action": action, **details}
        written = await asyncio.to_thread(self._audit.append, entry)
        self._daemon.metrics.store_bytes.labels("audit").inc(written)
        _log.info("%s by %s%s", action, actor, f": {listed(details)}" if details else "")

    async def _tell(self, pipeline: Pipeline, changed: Iterable[Incident]) -> None:
        await self._daemon.tell_incidents(pipeline, list(changed))

    async def _known(self, incident_id: str) -> dict[str, Any] | None:
        history = self._daemon.history
        return None if history is None else await history.incident(incident_id)

    def _history(self) -> History:
        if self._daemon.history is None:
            raise ControlError("incidents are not kept: history.enabled is false", status=404)
        return self._daemon.history
