"""What the history holds, page by page, as columns for tables and as records for JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from edge_agent.history.archive import Archive, Between
from edge_agent.history.readings import ReadingRows
from edge_agent.history.scores import ScoreRows
from edge_agent.verdict import rfc3339

TIME = "timestamp"
_ROWS = 1_000  # of readings at a time: thousands of sensors are thousands of columns
Page = Mapping[str, Sequence[Any] | NDArray[Any]]
Records = list[dict[str, Any]]


class What(StrEnum):
    """Parts of the history."""

    INCIDENTS = "incidents"
    EVENTS = "events"
    SCORES = "scores"
    READINGS = "readings"


class Cell(StrEnum):
    """What a column holds."""

    TIME = "time"
    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the history: its columns, and its rows as pages of columns or of records."""

    columns: Callable[[Archive, Between], dict[str, Cell]]
    pages: Callable[[Archive, Between], Iterator[Page]]
    records: Callable[[Archive, Between], Iterator[Records]]


# -- incidents -------------------------------------------------------------------------------------------------

_INCIDENT = {
    "id": Cell.TEXT,
    "kind": Cell.TEXT,
    "state": Cell.TEXT,
    "severity": Cell.TEXT,
    "opened": Cell.TEXT,
    "updated": Cell.TEXT,
    "closed": Cell.TEXT,
    "p_value": Cell.NUMBER,
    "score": Cell.NUMBER,
    "summary": Cell.TEXT,
    "first_mover": Cell.TEXT,
    "sensors": Cell.TEXT,
    "areas": Cell.TEXT,
    "rules": Cell.TEXT,
    "patterns": Cell.TEXT,
    "techniques": Cell.TEXT,
    "reopened": Cell.WHOLE,
    "flapping": Cell.FLAG,
    "suppressed": Cell.TEXT,
    "acknowledged_by": Cell.TEXT,
    "verdict": Cell.TEXT,
    "note": Cell.TEXT,
}


def _incident(body: Mapping[str, Any]) -> dict[str, Any]:
    feedback, seen = body.get("feedback") or {}, body.get("acknowledged") or {}
    patterns = body.get("patterns") or ()
    techniques = dict.fromkeys(name for match in patterns for name in match.get("techniques") or ())
    lists = {
        "sensors": [part.get("sensor") for part in body.get("sensors") or ()],
        "areas": body.get("areas") or (),
        "rules": body.get("rules") or (),
        "patterns": [match.get("pattern") for match in patterns],
        "techniques": techniques,
    }
    others = {
        "acknowledged_by": seen.get("by"),
        "verdict": feedback.get("verdict"),
        "note": feedback.get("note"),
        "reopened": body.get("reopened") or 0,
        "flapping": bool(body.get("flapping")),
    }
    return {**body, **{name: "; ".join(map(str, values)) for name, values in lists.items()}, **others}


def _incident_pages(archive: Archive, between: Between) -> Iterator[Page]:
    for bodies in archive.incidents(between):
        rows = [_incident(body) for body in bodies]
        yield {name: [row.get(name) for row in rows] for name in _INCIDENT}


# -- status events ---------------------------------------------------------------------------------------------

_EVENT = {TIME: Cell.TIME} | dict.fromkeys(("id", "kind", "what", "message", "details"), Cell.TEXT)


def _event_pages(archive: Archive, between: Between) -> Iterator[Page]:
    for found in archive.events(between):
        page: dict[str, list[Any]] = {name: [] for name in _EVENT}
        for time_ns, body in found:
            details = {name: value for name, value in body.items() if name not in (*_EVENT, "agent")}
            page[TIME].append(np.datetime64(time_ns, "ns"))
            page["details"].append(orjson.dumps(details).decode() if details else None)
            for name in ("id", "kind", "what", "message"):
                page[name].append(body.get(name))
        yield page | {TIME: np.array(page[TIME], "datetime64[ns]")}


def _event_records(archive: Archive, between: Between) -> Iterator[Records]:
    for found in archive.events(between):
        yield [{"time": rfc3339(time_ns), **body} for time_ns, body in found]


# -- scores ----------------------------------------------------------------------------------------------------


def _score_columns(archive: Archive, between: Between) -> dict[str, Cell]:
    columns = {TIME: Cell.TIME, "score": Cell.NUMBER, "p_value": Cell.NUMBER, "alarm": Cell.FLAG}
    for place in range(1, archive.most_top(between) + 1):
        columns |= {f"sensor_{place}": Cell.TEXT, f"score_{place}": Cell.NUMBER}
    return columns


def _score_pages(archive: Archive, between: Between) -> Iterator[Page]:
    most = archive.most_top(between)
    for rows in archive.scores(between):
        inside = _inside(rows.time_ns, between)
        page: dict[str, Any] = {
            TIME: rows.time_ns[inside].astype("datetime64[ns]"),
            "score": rows.score[inside].astype(np.float64),
            "p_value": rows.p_value[inside].astype(np.float64),
            "alarm": rows.alarm[inside],
        }
        for place in range(most):
            there = place < rows.top.shape[1]
            tops = rows.top[inside, place] if there else np.full(int(inside.sum()), -1)
            page[f"sensor_{place + 1}"] = [None if top < 0 else rows.sensors[top] for top in tops]
            page[f"score_{place + 1}"] = (
                rows.top_score[inside, place].astype(np.float64) if there else np.full(len(tops), np.nan)
            )
        yield page


def _score_records(archive: Archive, between: Between) -> Iterator[Records]:
    for rows in archive.scores(between):
        yield [_score_record(rows, int(row)) for row in np.flatnonzero(_inside(rows.time_ns, between))]


def _score_record(rows: ScoreRows, row: int) -> dict[str, Any]:
    top = zip(rows.top[row], rows.top_score[row], strict=True)
    return {
        "time": rfc3339(int(rows.time_ns[row])),
        "score": _number(rows.score[row]),
        "p_value": _number(rows.p_value[row]),
        "alarm": bool(rows.alarm[row]),
        "sensors": [{"sensor": rows.sensors[place], "score": _number(score)} for place, score in top if place >= 0],
    }


# -- readings --------------------------------------------------------------------------------------------------


def _reading_columns(archive: Archive, between: Between) -> dict[str, Cell]:
    names = [_column(name) for name in archive.sensors("reading", between)]
    return {TIME: Cell.TIME} | dict.fromkeys(names, Cell.NUMBER)


def _column(sensor: str) -> str:
    """A sensor may be called like the column of times."""
    return f"{sensor}_" if sensor == TIME else sensor


def _reading_pages(archive: Archive, between: Between) -> Iterator[Page]:
    names = [name for name in _reading_columns(archive, between) if name != TIME]
    for part in _parts(archive, between):
        place = {_column(name): column for column, name in enumerate(part.sensors)}
        nothing = np.full(len(part), np.nan)
        page: dict[str, Any] = {TIME: part.time_ns.astype("datetime64[ns]")}
        for name in names:
            page[name] = _decimal(part.values[:, place[name]]) if name in place else nothing
        yield page


def _reading_records(archive: Archive, between: Between) -> Iterator[Records]:
    for part in _parts(archive, between):
        columns = _decimal(part.values)
        yield [
            {
                "time": rfc3339(int(time_ns)),
                "alarm": bool(alarm),
                "values": {
                    name: value for name, value in zip(part.sensors, row.tolist(), strict=True) if value == value
                },
            }
            for time_ns, alarm, row in zip(part.time_ns, part.alarm, columns, strict=True)
        ]


def _parts(archive: Archive, between: Between) -> Iterator[ReadingRows]:
    """Blocks without what lies outside, in parts of bounded size."""
    for rows in archive.readings(between):
        inside = np.flatnonzero(_inside(rows.time_ns, between))
        for first in range(0, len(inside), _ROWS):
            chosen = inside[first : first + _ROWS]
            yield ReadingRows(rows.sensors, rows.time_ns[chosen], rows.values[chosen], rows.alarm[chosen])


def _decimal(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The shortest decimal number of each: 21.3, as it was read, and not 21.299999237060547."""
    return values.astype(str).astype(np.float64)


def _inside(time_ns: NDArray[np.int64], between: Between) -> NDArray[np.bool_]:
    return np.logical_and(time_ns >= between.since_ns, time_ns < between.until_ns)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


PARTS: dict[What, Part] = {
    What.INCIDENTS: Part(lambda archive, between: _INCIDENT, _incident_pages, Archive.incidents),
    What.EVENTS: Part(lambda archive, between: _EVENT, _event_pages, _event_records),
    What.SCORES: Part(_score_columns, _score_pages, _score_records),
    What.READINGS: Part(_reading_columns, _reading_pages, _reading_records),
}
