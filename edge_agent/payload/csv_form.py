"""CSV payloads (RFC 4180) to fields; every row gives one reading a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.errors import PayloadError
from edge_agent.payload.field import Field
from edge_agent.payload.names import Namer, Path
from edge_agent.payload.numbers import not_a_number, number_from_text
from edge_agent.payload.options import PayloadOptions
from edge_agent.payload.timestamps import time_parser


@dataclass(frozen=True, slots=True)
class _Layout:
    """Positions in a row."""

    width: int
    values: tuple[tuple[Path, int], ...]
    labels: tuple[tuple[str, int], ...]
    key: int | None
    time: int | None
    unit: int | None


class CsvReader:
    """Bytes to fields by column names from the options or from the first line."""

    def __init__(self, options: PayloadOptions) -> None:
        self._options = options
        self._parse_time = time_parser(options.time_format, options.time_zone)
        self._layout = None if options.header else _layout(options, options.columns)

    def __call__(self, payload: bytes, namer: Namer) -> list[Field]:
        rows = _rows(payload, self._options.delimiter)
        layout = self._layout or _layout(self._options, tuple(cell.strip() for cell in next(rows, [])))
        fields: list[Field] = []
        for row in rows:
            fields.extend(self._read_row(row, layout, namer))
            if len(fields) > self._options.max_values:
                raise PayloadError("too_many", f"CSV: more than {self._options.max_values} values (`max_values`)")
        if not fields:
            raise PayloadError("missing", f"CSV: no value in {payload[:60]!r}")
        return fields

    def _read_row(self, row: list[str], layout: _Layout, namer: Namer) -> Iterator[Field]:
        if len(row) != layout.width:
            raise PayloadError("malformed", f"CSV: got {len(row)} columns in {row[:8]!r}, expected {layout.width}")
        stamp = "" if layout.time is None else row[layout.time].strip()
        time_ns = self._parse_time(stamp) if stamp else None
        unit = None if layout.unit is None else row[layout.unit].strip() or None
        if layout.labels:
            namer = namer.extended({name: row[at].strip() for name, at in layout.labels})
        prefix = () if layout.key is None else (row[layout.key].strip(),)
        for name, at in layout.values:
            cell = row[at].strip()
            if cell:  # an empty cell: the device had nothing to say
                number = number_from_text(cell, self._options.values)
                if number is None:
                    raise not_a_number(f"CSV column {at + 1}", cell)
                yield Field(namer((*prefix, *name)), number, time_ns, unit)


def _rows(payload: bytes, delimiter: str) -> Iterator[list[str]]:
    try:
        text = payload.decode("utf-8-sig")
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            if row:
                yield row
    except UnicodeDecodeError as error:
        raise PayloadError("malformed", f"CSV: not UTF-8 text: {payload[:40]!r}") from error
    except csv.Error as error:
        raise PayloadError("malformed", f"CSV: {error}, in {payload[:60]!r}") from error


def _layout(options: PayloadOptions, columns: tuple[str, ...]) -> _Layout:
    positions = {name: at for at, name in enumerate(columns) if name}

    def position(column: str | None) -> int | None:
        if column is None:
            return None
        if column not in positions:
            raise PayloadError("missing", f"CSV: no column {column!r}, the first line names {', '.join(positions)!r}")
        return positions[column]

    labels = {name: position(column) for name, column in options.labels.items()}
    key, time, unit = position(options.key), position(options.time), position(options.unit)
    wanted: dict[Path, int | None] = {(name,): position(column) for name, column in options.fields.items()}
    if options.value is not None:
        wanted[()] = position(options.value)
    if not wanted:
        taken = {key, time, unit, *labels.values()}
        wanted = {(name,): at for name, at in positions.items() if at not in taken}
    return _Layout(
        width=len(columns),
        values=tuple((name, at) for name, at in wanted.items() if at is not None),
        labels=tuple((name, at) for name, at in labels.items() if at is not None),
        key=key,
        time=time,
        unit=unit,
    )
