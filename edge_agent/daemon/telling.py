"""Events to the sinks that are to have them, escalations and digests in time; who was told what outlives a restart."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Protocol

import orjson

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.contract import SinkOptions
from edge_agent.errors import StoreError
from edge_agent.history import History, StateFile
from edge_agent.metrics import Metrics
from edge_agent.notify import Dispatch, Moment, Router
from edge_agent.pipeline.ulid import derived_ulid
from edge_agent.verdict import Event, EventKind, IncidentState

_log = logging.getLogger(__name__)

_LOOK_EVERY_NS = NS_PER_S
_SAVE_EVERY_NS = 2 * NS_PER_S
_VERSION = 1
_ESCALATED = "incident %s: nobody has acknowledged it at sink %s; sink %s is told"


class Inbox(Protocol):
    """Where events for one sink go (:class:`~edge_agent.delivery.SinkRunner`)."""

    def offer(self, event: Event) -> None:
        """Take ``event`` without waiting."""
        ...


class Telling:
    """Routes events to ``sinks`` (the daemon's own mapping: it adds, replaces and removes runners).

    What has changed is on the disk after at most two seconds; nothing is written while nothing changes.
    """

    def __init__(
        self,
        options: Mapping[str, SinkOptions],
        sinks: Mapping[str, Inbox],
        clock: Clock,
        metrics: Metrics,
        file: StateFile,
        agent: str,
    ) -> None:
        self._sinks = sinks
        self._clock = clock
        self._file = file
        self._agent = agent
        self._bytes = metrics.store_bytes.labels("notify")
        self._failures = metrics.store_failures.labels("notify")
        self._router = Router(options, metrics, derived_ulid, self._now())
        self._saved_changes = -1  # what begins with the first start, such as the period of a digest, is kept too
        self._disk = threading.Lock()
        self.failing = False
        """True while the disk does not take it; tried again."""

    def tell(self, event: Event) -> None:
        """Hand ``event`` to the sinks that are to be told now."""
        self._hand_out(self._router.route(event, self._now()))

    def configure(self, options: Mapping[str, SinkOptions]) -> None:
        """Go on with these sinks; what is open and what waits in a digest stays known."""
        self._router.configure(options, self._now())

    def describe(self, sink: str) -> dict[str, Any]:
        """What ``sink`` was told and waits for, ready for JSON."""
        return self._router.describe(sink, self._now())

    def told(self, sink: str) -> list[Event]:
        """Open incidents that ``sink`` was told, each by the latest event about it; also those of before a restart."""
        return self._router.told(sink)

    async def restore(self, history: History | None, watched: Collection[str] = ()) -> None:
        """Go on from before the restart; incidents whose end was not told any more are told to have ended.

        ``watched``: ids of those that are open. A kill may have come before they were in the history.
        """
        raw = await asyncio.to_thread(self._file.load)
        if raw is None:
            return
        try:
            saved = orjson.loads(raw)
            if saved["version"] != _VERSION:
                raise ValueError(f"got version {saved['version']!r}, expected {_VERSION}")
            self._router.restore(saved, self._now())
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.error(
                "%s: cannot be used: %r; who was told what before the restart is forgotten", self._file.path, error
            )
            return
        if history is not None:
            await self._catch_up(history, watched)

    async def _catch_up(self, history: History, watched: Collection[str]) -> None:
        """An incident may have ended, or been acknowledged, in the moment before the stop or the power loss."""
        for incident_id, known in self._router.watched.items():
            body = await history.incident(incident_id)
            if body is None:
                if incident_id not in watched:
                    self._router.forget(incident_id)
            elif body["state"] == IncidentState.CLOSED or body.get("acknowledged") != known["acknowledged"]:
                body = {**known, **body, "agent": self._agent}
                time_ns = _wall_ns(body["updated"], self._clock.wall_ns())
                event_id = derived_ulid(time_ns, f"{incident_id} {body['updated']}")
                self.tell(Event(event_id, EventKind.INCIDENT, time_ns, body))

    async def run(self) -> None:
        """Look once a second whether something is due. A slow disk does not delay it."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic_ns() + _LOOK_EVERY_NS)
            due = self._router.due(self._now())
            for one in due:
                if one.event.kind is EventKind.INCIDENT and "escalated_from" in one.event.body:
                    _log.warning(_ESCALATED, one.event.body["id"], one.event.body["escalated_from"], one.sink)
            self._hand_out(due)

    async def keep(self) -> None:
        """Save what has changed, now and then."""
        while True:
            await self._clock.sleep_until(self._clock.monotonic_ns() + _SAVE_EVERY_NS)
            await self.save()

    async def save(self) -> None:
        """Write who was told what, if it has changed. When the disk refuses, the next call tries again."""
        changes = self._router.changes
        if changes == self._saved_changes:
            return
        payload = orjson.dumps({"version": _VERSION, **self._router.state(self._now())})
        try:
            self._bytes.inc(await asyncio.to_thread(self._write, changes, payload))
        except StoreError as error:
            self._failures.inc()
            if not self.failing:
                _log.error("%s; tried again", error)
            self.failing = True
        else:
            self.failing = False

    def _write(self, changes: int, payload: bytes) -> int:
        """In a thread, which goes on when who waits for it is cancelled: an older state never replaces a newer one."""
        with self._disk:
            if changes <= self._saved_changes:
                return 0
            written = self._file.save(payload)
            self._saved_changes = changes
            return written

    def _hand_out(self, dispatches: list[Dispatch]) -> None:
        for one in dispatches:
            one.event.body.setdefault("agent", self._agent)
            runner = self._sinks.get(one.sink)
            if runner is not None:
                runner.offer(one.event)

    def _now(self) -> Moment:
        return Moment(self._clock.monotonic_ns(), self._clock.wall_ns())


def _wall_ns(text: str, otherwise_ns: int) -> int:
    """When that was. By it, and not by now, what is told at two starts has the same id both times."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000) * 1_000_000
    except (ValueError, OverflowError):
        return otherwise_ns
