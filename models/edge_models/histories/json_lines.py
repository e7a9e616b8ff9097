"""JSON lines: one object a row (wide), or one object a reading (long: ``sensor``, ``time``, ``value``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from edge_agent.errors import DataFileError
from edge_models.histories.block import Rows
from edge_models.histories.cells import rows_of
from edge_models.histories.files import opened_text
from edge_models.histories.header import read_header
from edge_models.histories.long_form import Readings, is_long, readings_of

_OBJECTS = 4_096


class JsonLinesTable:
    """A wide ``.jsonl`` or ``.ndjson`` file, perhaps ``.gz``. A sensor that a row leaves out is missing in that row."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, run_column: str | None, units: Mapping[str, str]) -> None:
        self.where = str(path)
        self._path = path
        names: dict[str, None] = {}
        for _, objects in _chunks(path, _OBJECTS):
            for one in objects:
                names.update(dict.fromkeys(one))
        self._names = list(names)
        self._header = read_header(self.where, self._names, run_column, units)
        self.sensors, self.units = self._header.sensors, self._header.units

    def rows(self, most: int) -> Iterator[Rows]:
        for lines, objects in _chunks(self._path, most):
            columns = {name: [one.get(name) for one in objects] for name in self._names}
            yield rows_of(self.where, self._header, columns, lambda row, at=lines: f"line {at[row]}")  # type: ignore[misc]


def is_long_json(path: Path) -> bool:
    """Whether the first object of the file is a reading. :raises DataFileError: there is none."""
    for _, objects in _chunks(path, 1):
        return is_long(objects[0])
    raise DataFileError(f"{path}: empty, expected one JSON object a line")


def json_readings(path: Path) -> Iterator[Readings]:
    """All readings of a long file, in its order."""
    for lines, objects in _chunks(path, _OBJECTS):
        yield readings_of(str(path), objects, lambda row, at=lines: f"line {at[row]}")  # type: ignore[misc]


def _chunks(path: Path, most: int) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    with opened_text(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        while chunk := list(islice(lines, most)):
            yield [number for number, _ in chunk], [_object(path, number, line) for number, line in chunk]


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataFileError(f"{path}: line {number}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataFileError(f"{path}: line {number}: got {line.strip()[:60]!r}, expected one object a line")
    return found
