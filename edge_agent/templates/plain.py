"""The built-in texts: one line, and a few lines, of any event."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from edge_agent.templates.units import clock_text, duration_text, percent_text, quantity_text, seconds_between
from edge_agent.verdict import Event, EventKind, rfc3339

TITLE_LENGTH: Final = 160
"""Longest title; longer ones are cut off by most services that show it."""

_SENSORS_SHOWN: Final = 8
_WORD_OF_STATE: Final = {"open": "opened", "updated": "goes on", "closed": "closed"}
_WORD_OF_KIND: Final = {"process": "incident", "data_quality": "data-quality incident", "rule": "rule incident"}


def title(event: Event) -> str:
    """One line of at most ``TITLE_LENGTH`` characters: how urgent, what, where, and the summary."""
    body = event.body
    where = f"{body['agent']}: " if body.get("agent") else ""
    if _is_incident(event):
        kind = _WORD_OF_KIND.get(str(body.get("kind")), "incident")
        state = _WORD_OF_STATE.get(str(body.get("state")), str(body.get("state", "")))
        urgency = str(body.get("severity", "?")).upper() + (
            ", NOBODY HAS ACKNOWLEDGED" if body.get("escalated") else ""
        )
        line = f"[{urgency}] {where}{kind} {state}: {body.get('summary', '')}"
    else:
        line = f"{where}{_said(event).partition(chr(10))[0]}"
    line = " ".join(f"(late) {line}".split() if event.replayed else line.split())
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"


def plain_text(event: Event) -> str:
    """A few lines of plain text that say what the event says, without the arrays."""
    lines = list(_incident_lines(event.body) if _is_incident(event) else _other_lines(event))
    if event.replayed:
        lines.append(f"Late: this happened at {_when(rfc3339(event.time_ns))}, and could not be sent before.")
    return "\n".join(lines)


def _is_incident(event: Event) -> bool:
    return event.kind is EventKind.INCIDENT


def _incident_lines(incident: Mapping[str, Any]) -> Iterator[str]:
    yield str(incident.get("summary") or "No summary.")
    yield ""
    yield _facts(incident)
    yield _times(incident)
    for name, label in (("areas", "Area"), ("rules", "Rules that hold")):
        if incident.get(name):
            yield f"{label}: {', '.join(map(str, incident[name]))}"
    yield from _sensor_lines(incident.get("sensors") or ())
    yield from _spread(incident.get("propagation") or ())
    for match in incident.get("patterns") or ():
        techniques = f" ({', '.join(match['techniques'])})" if match.get("techniques") else ""
        yield f"Looks like: {match['title']}{techniques}, {percent_text(match['confidence'])}"
    for other in (incident.get("similar") or ())[:1]:
        judged = f", judged {other['feedback']}" if other.get("feedback") else ""
        yield f"Similar: {other['id']} of {_when(other['opened'])}{judged}"
    yield from _orders(incident)


def _facts(incident: Mapping[str, Any]) -> str:
    where = f" on {incident['agent']}" if incident.get("agent") else ""
    flags = [word for word in ("degraded", "flapping") if incident.get(word)]
    if incident.get("reopened"):
        flags.append("reopened" if incident["reopened"] == 1 else f"reopened {incident['reopened']} times")
    facts = [str(incident.get(name)) for name in ("severity", "kind", "state") if incident.get(name)] + flags
    return f"Incident {incident.get('id', 'without id')}{where}: {', '.join(facts)}"


def _times(incident: Mapping[str, Any]) -> str:
    opened, closed = incident.get("opened"), incident.get("closed")
    if opened is None:
        return "Opened: not known"
    until = closed or incident.get("updated") or opened
    return f"Opened {_when(opened)}, {'lasted' if closed else 'open for'} {_time_between(opened, until)}"


def _when(time: Any) -> str:
    try:
        return clock_text(time)
    except ValueError:  # these texts stand in for templates that fail: they must not fail themselves
        return str(time)


def _time_between(first: Any, second: Any) -> str:
    try:
        return duration_text(seconds_between(first, second))
    except ValueError:
        return "?"


def _sensor_lines(sensors: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if sensors:
        yield "Sensors:"
    for part in sensors[:_SENSORS_SHOWN]:
        share = f" ({percent_text(part['share'])})" if part.get("share") is not None else ""
        yield f"  {part.get('sensor')}{share}: {part.get('reason') or _compared(part)}"
    if len(sensors) > _SENSORS_SHOWN:
        yield f"  and {len(sensors) - _SENSORS_SHOWN} more"


def _compared(part: Mapping[str, Any]) -> str:
    """What a reason says too, in full sentences."""
    unit = part.get("unit")
    expected = "" if part.get("expected") is None else f", expected {quantity_text(part['expected'], unit)}"
    return f"seen {quantity_text(part.get('seen'), unit)}{expected}"


def _spread(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if len(steps) > 1:
        rest = ", ".join(f"{step['sensor']} after {duration_text(step['after_s'])}" for step in steps[1:6])
        yield f"Began with {steps[0]['sensor']}, then {rest}"


def _orders(incident: Mapping[str, Any]) -> Iterator[str]:
    seen_by = incident.get("acknowledged")
    if seen_by:
        note = f": {seen_by['note']}" if seen_by.get("note") else ""
        yield f"Acknowledged by {seen_by.get('by')} at {_when(seen_by['time'])}{note}"
    if incident.get("escalated_from"):
        since = _when(incident.get("unacknowledged_since"))
        yield f"Not acknowledged since {since}; {incident['escalated_from']} was told then"
    if incident.get("suppressed"):
        yield f"Suppressed: {incident['suppressed']}"


def _other_lines(event: Event) -> Iterator[str]:
    body = event.body
    yield _said(event)
    if event.kind is EventKind.DIGEST:
        return
    yield ""
    where = f" from {body['agent']}" if body.get("agent") else ""
    yield f"{event.kind.value.capitalize()} event{where} at {_when(rfc3339(event.time_ns))}"
    for name, value in body.items():
        if name not in ("message", "summary", "agent") and isinstance(value, str | int | float):
            yield f"{name}: {value}"


def _said(event: Event) -> str:
    body = event.body
    return str(body.get("message") or body.get("summary") or body.get("what") or f"{event.kind.value} event")
