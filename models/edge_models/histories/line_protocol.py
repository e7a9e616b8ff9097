"""InfluxDB line protocol, as ``influxd inspect export-lp`` and ``influx_inspect export -lponly`` write it.

``measurement,tag=a,tag=b field=1.5,other=2i 1760000000000000000``: each numeric field is a sensor. Text fields are not
readings. https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from edge_agent.errors import DataFileError
from edge_agent.recording.columns import CellError, numeric_times
from edge_models.histories.files import opened_text
from edge_models.histories.long_form import Readings

_LINES = 4_096
_NOT_POINTS = ("#", "CREATE DATABASE", "CREATE RETENTION")
_BLANK = re.compile(r"(?<!\\)((?:\\\\)*) ")
_PART = re.compile(r"(?:[^\\,]|\\.)+")
_FIELD = re.compile(r'((?:[^\\,=]|\\.)+)=("(?:[^"\\]|\\.)*"|[^,]*)')
_ESCAPED = re.compile(r"\\([,= \\\"])")
_TRUE = frozenset(("t", "T", "true", "True", "TRUE"))
_FALSE = frozenset(("f", "F", "false", "False", "FALSE"))


@dataclass(frozen=True, slots=True)
class Point:
    """One line: measurement, tags, numeric fields, and its time as the file counts it."""

    measurement: str
    tags: dict[str, str]
    fields: dict[str, float]
    time: int


def line_readings(path: Path, names: str | None = None) -> Iterator[Readings]:
    """All numeric fields of the file as readings, in its order.

    ``names`` is a template for the names of sensors with ``{measurement}``, ``{field}`` and the tags, such as
    ``{machine}.{field}``. By default all tags follow the measurement, and the field unless it is called ``value``, with
    dots between.
    """
    with opened_text(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if _is_point(line))
        while chunk := list(islice(lines, _LINES)):
            sensors: list[str] = []
            values: list[float] = []
            times: list[int] = []
            for number, line in chunk:
                point = _parsed(path, number, line)
                for field, value in point.fields.items():
                    sensors.append(_name(path, number, point, field, names))
                    values.append(value)
                    times.append(point.time)
            if sensors:
                yield Readings(_times(path, chunk[0][0], times), sensors, np.array(values, np.float64))


def parse_line(line: str) -> Point:
    """One line of the protocol. :raises ValueError: it is none, or has no timestamp."""
    head, fields, time = _sections(line.strip())
    measurement, *tags = _PART.findall(head) if "\\" in head else head.split(",")
    pairs = dict(_pair(tag) for tag in tags)
    numeric = {}
    for key, raw in _FIELD.findall(fields):
        value = _value(raw)
        if value is not None:
            numeric[_plain(key)] = value
    return Point(_plain(measurement), pairs, numeric, int(time))


def _is_point(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(_NOT_POINTS)


def _parsed(path: Path, number: int, line: str) -> Point:
    try:
        return parse_line(line)
    except ValueError as error:
        raise DataFileError(
            f"{path}: line {number}: got {line.strip()[:80]!r}, expected line protocol with a timestamp, such as"
            f" 'pressure,line=3 value=1.5 1760000000000000000' ({error})"
        ) from error


def _sections(line: str) -> tuple[str, str, str]:
    if "\\" not in line and '"' not in line:
        head, fields, time = line.split(" ")
        return head, fields, time
    found = _BLANK.search(line)
    if found is None:
        raise ValueError("no fields")
    head, rest = line[: found.start() + len(found[1])], line[found.end() :]
    fields, _, time = rest.rpartition(" ")
    return head, fields, time


def _pair(tag: str) -> tuple[str, str]:
    key, found, value = re.sub(r"(?<!\\)=", "\0", tag, count=1).partition("\0")
    if not found:
        raise ValueError(f"tag {tag!r} has no value")
    return _plain(key), _plain(value)


def _value(raw: str) -> float | None:
    """A number or truth value; None for text. :raises ValueError: neither."""
    if raw.startswith('"'):
        return None
    if raw in _TRUE:
        return 1.0
    if raw in _FALSE:
        return 0.0
    return float(raw.removesuffix("i").removesuffix("u"))


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _name(path: Path, number: int, point: Point, field: str, names: str | None) -> str:
    if names is not None:
        try:
            return names.format(measurement=point.measurement, field=field, **point.tags)
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(["measurement", "field", *point.tags])
            raise DataFileError(f"{path}: line {number}: no {error} for the name {names!r}, found {known}") from error
    tags = [value for _, value in sorted(point.tags.items())]
    return ".".join([point.measurement, *tags, *([] if field == "value" else [field])])


def _times(path: Path, line: int, times: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    try:
        return numeric_times(np.array(times, np.int64))
    except (CellError, OverflowError) as error:
        raise DataFileError(f"{path}: from line {line}: {error}") from error
