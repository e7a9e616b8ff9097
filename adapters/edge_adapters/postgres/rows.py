"""Events as rows of the tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from edge_adapters.postgres.layout import INCIDENT_EVENT, PLANT, READING, SCORE, STATUS_EVENT, Table
from edge_agent.verdict import Event, EventKind

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
Row = tuple[Any, ...]


def rows(event: Event) -> Iterator[tuple[Table, list[Row]]]:
    """Tables and what ``event`` adds to them, the columns in the order of the table."""
    time, body = moment(event.time_ns), event.body
    agent = _text(body.get("agent")) or ""
    match event.kind:
        case EventKind.READINGS:
            units = body.get("units") or {}
            yield READING, [(time, agent, name, value, _text(units.get(key))) for key, name, value in _sensors(body)]
        case EventKind.SCORES:
            yield SCORE, [(time, agent, name, value) for _, name, value in _sensors(body)]
            figures = _number(body.get("score")), _number(body.get("p_value"))
            yield PLANT, [(time, agent, _whole(body.get("tick")), *figures, bool(body.get("alarm")))]
        case EventKind.INCIDENT:
            texts = [_text(body.get(name)) for name in ("kind", "state", "severity", "summary")]
            figures = _number(body.get("p_value")), _number(body.get("score"))
            incident = _text(body.get("id")) or event.id
            yield INCIDENT_EVENT, [(event.id, time, agent, incident, *texts, *figures, _json(body))]
        case EventKind.STATUS | EventKind.DIGEST:
            texts = [_text(body.get("what")), _text(body.get("message"))]
            yield STATUS_EVENT, [(event.id, time, agent, *texts, _json(body))]


def columns(found: Sequence[Row]) -> list[list[Any]]:
    """Rows turned into one list for each column, as the insert takes them."""
    return [list(column) for column in zip(*found, strict=True)]


def moment(time_ns: int) -> datetime:
    """Wall ns as a point in time; PostgreSQL knows microseconds."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def _sensors(body: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Key in the body, name to store, value."""
    sensors = body.get("sensors")
    for key, value in sensors.items() if isinstance(sensors, Mapping) else ():
        number, name = _number(value), _text(key)
        if number is not None and name is not None:
            yield key, name, number


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _text(value: Any) -> str | None:
    """PostgreSQL has no zero bytes in texts."""
    return None if value is None else str(value).replace("\0", "")


def _json(value: Any) -> str:
    return orjson.dumps(_without_zeros(value), option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS).decode()


def _without_zeros(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, Mapping):
        return {_without_zeros(key): _without_zeros(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_zeros(part) for part in value]
    return value
