"""An incident that is plainly a test, and what the routing of a configuration would do with it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_agent.clock import SystemClock
from edge_agent.contract import DigestOptions, SinkOptions
from edge_agent.metrics import Metrics
from edge_agent.notify import HeldBack, Moment, Router
from edge_agent.options import format_duration
from edge_agent.pipeline.ulid import UlidMaker, derived_ulid
from edge_agent.verdict import (
    Contribution,
    Event,
    EventKind,
    Incident,
    IncidentKind,
    IncidentState,
    Severity,
)

SUMMARY = "TEST: nothing is wrong. `edge-agent sinks test` sent this to see whether it arrives"


@dataclass(frozen=True, slots=True)
class Trial:
    """A test incident, opened and closed, and how the routing answers: ``told`` at once, or ``reason``."""

    incident_id: str
    events: tuple[Event, Event]
    told: tuple[str, ...]
    reason: HeldBack | None

    def routing(self, name: str, options: SinkOptions) -> str:
        """One sentence on what would become of such an incident at the sink ``name``."""
        if EventKind.INCIDENT not in options.events:
            text = "this sink is told no incidents (option `events`)"
        elif self.reason is HeldBack.DIGEST and options.digest is not None:
            text = f"such an incident waits for the digest, {_when(options.digest)}"
        elif self.reason is not None:
            now = " now" if self.reason is HeldBack.SCHEDULE else ""
            text = f"such an incident is not told here{now} (option `{_OPTION[self.reason]}`)"
        else:
            text = "such an incident is told at once"
        others = [other for other in self.told if other != name]
        text += f"; also told: {', '.join(others)}" if others else ""
        if options.escalate is not None and self.reason in (None, HeldBack.DIGEST):
            text += f"; not acknowledged for {format_duration(options.escalate.after)}: {options.escalate.to} is told"
        return text


_OPTION = {
    HeldBack.KIND: "kinds",
    HeldBack.AREA: "areas",
    HeldBack.SENSOR: "sensors",
    HeldBack.SEVERITY: "severity",
    HeldBack.SUPPRESSED: "suppressed",
    HeldBack.DIGEST: "digest",
    HeldBack.SCHEDULE: "schedule",
}


def _when(digest: DigestOptions) -> str:
    return f"at {digest.at!r}" if digest.every is None else f"each {format_duration(digest.every)}"


def trial_of(
    sinks: Mapping[str, SinkOptions], name: str, agent: str, severity: Severity, area: str | None, sensor: str | None
) -> Trial:
    """A test incident for the sink ``name``. Without ``area`` and ``sensor`` it has those that the sink asks for."""
    options, clock = sinks[name], SystemClock()
    now = Moment(clock.monotonic_ns(), clock.wall_ns())
    opened = _incident(options, severity, area, sensor, now.wall_ns)
    closed = replace(opened, state=IncidentState.CLOSED, closed_ns=now.wall_ns)
    events = [_event(incident, agent) for incident in (opened, closed)]
    metrics = Metrics()
    router = Router(sinks, metrics, derived_ulid, now)
    told = tuple(one.sink for one in router.route(events[0], now))
    reasons = [HeldBack(reason) for (sink, reason), _ in metrics.events_held_back.series() if sink == name]
    return Trial(opened.id, (events[0], events[1]), told, reasons[0] if reasons else None)


def _incident(options: SinkOptions, severity: Severity, area: str | None, sensor: str | None, now_ns: int) -> Incident:
    # A pattern such as LIT* matches itself: as a name it passes the sink's own choice.
    named = sensor or next(iter(options.sensors), "test-sensor")
    within = area or next(iter(options.areas), None)
    return Incident(
        id=_new_id(now_ns),
        kind=next(iter(options.kinds), IncidentKind.PROCESS),
        state=IncidentState.OPEN,
        severity=severity,
        opened_ns=now_ns,
        updated_ns=now_ns,
        closed_ns=None,
        first_tick=0,
        last_tick=0,
        p_value=1.0,
        score=0.0,
        summary=SUMMARY,
        contributions=(Contribution(named, 1.0, 0.0, 1.0, 0.0, None, "a test"),),
        first_mover=named,
        areas=() if within is None else (within,),
    )


def _event(incident: Incident, agent: str) -> Event:
    body = {**incident.to_dict(), "agent": agent, "test": True}
    return Event(_new_id(incident.updated_ns), EventKind.INCIDENT, incident.updated_ns, body)


def _new_id(wall_ns: int) -> str:
    return UlidMaker(random.SystemRandom())(wall_ns)
