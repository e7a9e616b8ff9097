"""What a message says of an event, taken out of its body once, whatever the format. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge_agent.verdict import Event, EventKind, IncidentState, Severity

MOST_SENSORS = 20
"""Sensors that a message names; an incident can have thousands."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What happened, for a message. Times are wall ms; empty text and None: the event does not say.

    ``sensors``: as in the incident, the largest share first, at most ``MOST_SENSORS``. ``techniques``: ids of ATT&CK.
    """

    event_id: str
    kind: EventKind
    time_ms: int
    agent: str
    subject: str
    summary: str
    replayed: bool
    incident: str = ""
    incident_kind: str = ""
    state: IncidentState | None = None
    severity: Severity | None = None
    opened_ms: int | None = None
    updated_ms: int | None = None
    closed_ms: int | None = None
    p_value: float | None = None
    score: float | None = None
    first_mover: str = ""
    suppressed: str = ""
    acknowledged_by: str = ""
    sensors: tuple[Mapping[str, Any], ...] = ()
    areas: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    patterns: tuple[Mapping[str, Any], ...] = ()
    techniques: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """The incident is closed."""
        return self.state is IncidentState.CLOSED

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """Names of the sensors, the largest share first."""
        return tuple(str(part["sensor"]) for part in self.sensors)


def facts(event: Event) -> Facts:
    """What there is to say of ``event``; an event with parts missing is told with what it has."""
    body = event.body
    incident = event.kind is EventKind.INCIDENT
    common: dict[str, Any] = {
        "event_id": event.id,
        "kind": event.kind,
        "time_ms": event.time_ns // 1_000_000,
        "agent": str(body.get("agent") or ""),
        "subject": str(body.get("what") or event.kind.value),
        "summary": str(body.get("summary" if incident else "message") or ""),
        "replayed": event.replayed,
    }
    return Facts(**common, **_incident(body, event.id)) if incident else Facts(**common)


def _incident(body: Mapping[str, Any], event_id: str) -> dict[str, Any]:
    parts = sorted(_dicts(body, "sensors"), key=lambda part: -float(part.get("share") or 0.0))
    patterns = tuple(_dicts(body, "patterns"))
    techniques = dict.fromkeys(str(name) for match in patterns for name in match.get("techniques") or ())
    return {
        "incident": str(body.get("id") or event_id),
        "incident_kind": str(body.get("kind") or ""),
        "state": _member(IncidentState, body.get("state")),
        "severity": _member(Severity, body.get("severity")),
        "opened_ms": _ms(body.get("opened")),
        "updated_ms": _ms(body.get("updated")),
        "closed_ms": _ms(body.get("closed")),
        "p_value": body.get("p_value"),
        "score": body.get("score"),
        "first_mover": str(body.get("first_mover") or ""),
        "suppressed": str(body.get("suppressed") or ""),
        "acknowledged_by": str((body.get("acknowledged") or {}).get("by") or ""),
        "sensors": tuple(part for part in parts if part.get("sensor"))[:MOST_SENSORS],
        "areas": tuple(map(str, body.get("areas") or ())),
        "rules": tuple(map(str, body.get("rules") or ())),
        "patterns": patterns,
        "techniques": tuple(techniques),
    }


def _dicts(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [part for part in body.get(name) or () if isinstance(part, Mapping)]


def _member(kind: Any, value: Any) -> Any:
    return kind(value) if value in list(kind) else None


def _ms(text: Any) -> int | None:
    if not isinstance(text, str):
        return None
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return None
