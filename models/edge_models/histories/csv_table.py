"""CSV with a header line, a few thousand rows at a time; separated by comma, semicolon or tab."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from edge_agent.errors import DataFileError
from edge_models.histories.block import Rows
from edge_models.histories.cells import rows_of
from edge_models.histories.files import opened_text
from edge_models.histories.header import read_header


class CsvTable:
    """A ``.csv`` or ``.csv.gz`` file."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, run_column: str | None, units: Mapping[str, str]) -> None:
        self.where = str(path)
        self._path = path
        with opened_text(path) as file:
            head = file.readline()
        if not head.strip():
            raise DataFileError(f"{path}: empty, expected a header line with the names of the sensors")
        self._delimiter = max(",;\t", key=head.count)
        self._names = [name.strip() for name in next(csv.reader([head], delimiter=self._delimiter))]
        self._header = read_header(self.where, self._names, run_column, units)
        self.sensors, self.units = self._header.sensors, self._header.units

    def rows(self, most: int) -> Iterator[Rows]:
        with opened_text(self._path) as file:
            file.readline()
            for lines, cells in self._chunks(csv.reader(file, delimiter=self._delimiter), most):
                columns = dict(zip(self._names, zip(*cells, strict=True), strict=True))
                place = [f"line {line}" for line in lines].__getitem__
                yield rows_of(self.where, self._header, columns, place, decimal_comma=self._delimiter == ";")

    def _chunks(self, reader: Iterator[list[str]], most: int) -> Iterator[tuple[list[int], list[list[str]]]]:
        width, line = len(self._names), 1
        while chunk := list(islice(reader, most)):
            lines = range(line + 1, line + 1 + len(chunk))  # of the row; a line more for each line break in quotes
            line += len(chunk)
            for at, row in zip(lines, chunk, strict=True):
                if row and len(row) != width:
                    raise DataFileError(
                        f"{self.where}: line {at}: got {len(row)} cells, expected {width} as in the header"
                    )
            kept = [(at, row) for at, row in zip(lines, chunk, strict=True) if row]
            if kept:
                yield [at for at, _ in kept], [row for _, row in kept]
