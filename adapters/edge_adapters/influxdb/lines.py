"""Events as lines of the InfluxDB line protocol. Pure.

``measurement,tag=value field=value,field="text" nanoseconds``: in measurements comma and space are escaped, in tags and
field names also the equals sign, in texts quote and backslash. A point with the same measurement, tags and time
replaces the first, so that an event that is delivered twice is there once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_agent.verdict import Event, EventKind

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")
_IN_TAG: Final = re.compile(r"([,= ])")
_IN_MEASUREMENT: Final = re.compile(r"([, ])")
_IN_TEXT: Final = re.compile(r'(["\\])')
_MOST_SENSORS: Final = 50
_LONGEST_TEXT: Final = 8_000


class Lines:
    """Makes lines; ``prefix`` stands before each measurement, ``tags`` are on every point."""

    def __init__(self, prefix: str, tags: Mapping[str, str]) -> None:
        self._prefix = prefix
        self._tags = dict(tags)

    def lines(self, event: Event) -> Iterator[str]:
        """The points of ``event``; none where it holds nothing that can be stored."""
        match event.kind:
            case EventKind.READINGS:
                yield from self._readings(event)
            case EventKind.SCORES:
                yield from self._scores(event)
            case EventKind.INCIDENT:
                yield from self._incident(event)
            case EventKind.STATUS | EventKind.DIGEST:
                yield from self._status(event)

    def _readings(self, event: Event) -> Iterator[str]:
        head, units = self._head("reading", event), event.body.get("units") or {}
        for sensor, value in _sensors(event):
            yield from _line(
                head, {"sensor": sensor, "unit": units.get(sensor)}, {"value": _number(value)}, event.time_ns
            )

    def _scores(self, event: Event) -> Iterator[str]:
        body = event.body
        plant = {
            "score": _number(body.get("score")),
            "p_value": _number(body.get("p_value")),
            "alarm": body.get("alarm"),
        }
        yield from _line(self._head("plant", event), {}, plant, event.time_ns)
        head = self._head("score", event)
        for sensor, value in _sensors(event):
            yield from _line(head, {"sensor": sensor}, {"value": _number(value)}, event.time_ns)

    def _incident(self, event: Event) -> Iterator[str]:
        body = event.body
        parts = [part for part in body.get("sensors") or () if isinstance(part, Mapping)]
        techniques = {str(name): None for match in body.get("patterns") or () for name in match.get("techniques") or ()}
        fields = {
            "event": event.id,
            "summary": body.get("summary"),
            "score": _number(body.get("score")),
            "p_value": _number(body.get("p_value")),
            "sensors": ",".join(str(part.get("sensor")) for part in parts[:_MOST_SENSORS]),
            "sensor_count": len(parts),
            "first_mover": body.get("first_mover"),
            "areas": ",".join(map(str, body.get("areas") or ())),
            "rules": ",".join(map(str, body.get("rules") or ())),
            "techniques": ",".join(techniques),
            "suppressed": body.get("suppressed"),
            "opened": body.get("opened"),
            "closed": body.get("closed"),
        }
        tags = {name: body.get(name) for name in ("id", "kind", "severity", "state")}
        yield from _line(self._head("incident", event), tags, fields, event.time_ns)

    def _status(self, event: Event) -> Iterator[str]:
        fields = {"event": event.id, "message": event.body.get("message")}
        yield from _line(self._head("status", event), {"what": event.body.get("what")}, fields, event.time_ns)

    def _head(self, measurement: str, event: Event) -> str:
        name = _IN_MEASUREMENT.sub(r"\\\1", self._prefix + measurement)
        return name + _tags({"agent": event.body.get("agent"), **self._tags})


def _sensors(event: Event) -> Iterator[tuple[str, Any]]:
    sensors = event.body.get("sensors")
    return iter(sensors.items() if isinstance(sensors, Mapping) else ())


def _number(value: Any) -> float | None:
    """Always as a float: a field that is an integer once refuses every float later."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _line(head: str, tags: Mapping[str, Any], fields: Mapping[str, Any], time_ns: int) -> Iterator[str]:
    written = [f"{name}={text}" for name, value in fields.items() if (text := field_value(value)) is not None]
    if written:
        yield f"{head}{_tags(tags)} {','.join(written)} {time_ns}"


def _tags(tags: Mapping[str, Any]) -> str:
    return "".join(f",{tag(name)}={text}" for name, value in tags.items() if value and (text := tag(str(value))))


def tag(value: str) -> str:
    """A name or value of a tag, without what would end the line, or a backslash that would escape what follows."""
    flat = _CONTROLS.sub(" ", value).strip(" \\")
    return _IN_TAG.sub(r"\\\1", flat)


def field_value(value: Any) -> str | None:
    """A value as it is written into a line; None for what cannot be stored: nothing, infinity, not a number."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i" if -(2**63) <= value < 2**63 else None
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    return '"' + _IN_TEXT.sub(r"\\\1", _CONTROLS.sub(" ", str(value))[:_LONGEST_TEXT]) + '"'
