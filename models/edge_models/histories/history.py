"""One way into a history, whatever it is stored in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edge_agent.errors import DataFileError
from edge_models.histories.block import Block, Rows, Table
from edge_models.histories.csv_table import CsvTable
from edge_models.histories.hdf5_table import Hdf5Table
from edge_models.histories.header import read_units
from edge_models.histories.json_lines import JsonLinesTable, is_long_json, json_readings
from edge_models.histories.line_protocol import line_readings
from edge_models.histories.long_form import LongTable
from edge_models.histories.parquet_table import ParquetTable
from edge_models.histories.sql_table import SqlSource, SqlTable, sql_readings
from edge_models.histories.ticks import aligned, usual_period_s

_CELLS = 1_000_000
_MOST_ROWS = 4_096
_LEAST_ROWS = 64
SUFFIXES = (
    ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet", ".h5", ".hdf5", ".lp", ".lp.gz",
    ".line", ".line.gz",
)  # fmt: skip
"""Ends of file names that are read; anything with ``://`` is a database."""


class History:
    """A plant's readings, tick by tick, as often as wanted; never more than a block of them in memory.

    ``where`` names the source in messages. ``sensors`` are in the order of the source, ``units`` beside them (None: not
    known). ``period_s`` is the time between ticks, None where nothing tells it (blocks then count ticks of a second).
    """

    def __init__(self, table: Table, tick_s: float | None) -> None:
        self._table = table
        self.where, self.sensors, self.units, self.notes = table.where, table.sensors, table.units, table.notes
        first = next(iter(table.rows(self._most_rows)), None)
        if first is None:
            raise DataFileError(f"{self.where}: no rows, expected at least one below the header")
        self.timed = first.time_ns is not None
        self.period_s = tick_s if tick_s is not None else usual_period_s(first)

    def rows(self, most: int | None = None) -> Iterator[Rows]:
        """The rows as they stand in the source, at their own times."""
        return self._table.rows(most or self._most_rows)

    def blocks(self, rows: int | None = None, watch: Callable[[Rows], None] | None = None) -> Iterator[Block]:
        """Ticks in blocks of at most ``rows``. ``watch`` is shown the rows of the source before they are aligned.

        :raises DataFileError: in the middle, where a cell cannot be read.
        """
        most = rows or self._most_rows
        source: Iterable[Rows] = self.rows(most)
        return aligned(source if watch is None else _watched(source, watch), self.period_s or 1.0, most)

    @property
    def _most_rows(self) -> int:
        return min(_MOST_ROWS, max(_LEAST_ROWS, _CELLS // len(self.sensors)))


def open_history(
    spec: str | Path,
    *,
    run_column: str | None = None,
    tick_s: float | None = None,
    select: str | None = None,
    units: Path | None = None,
    names: str | None = None,
) -> History:
    """Open a file by its suffix (:data:`SUFFIXES`), or a database by its SQLAlchemy URL.

    ``run_column``: tells independent runs apart (default: ``run`` where there is one). ``tick_s``: time between ticks
    (default: the usual time between rows). ``select``: HDF5 group or dataset, SQL table or SELECT statement.
    ``units``: CSV file of sensor and unit. ``names``: template for the sensors of a line protocol export.

    :raises DataFileError: it cannot be read or used; the message names place, finding, expectation.
    """
    given = read_units(units) if units is not None else {}
    if "://" in str(spec):
        return History(_database(str(spec), select, run_column, given, tick_s), tick_s)
    path = Path(spec)
    kind = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if not path.is_file():
        raise DataFileError(f"{path}: no such file")
    if kind in ("parquet", "h5", "hdf5") and path.suffix == ".gz":
        raise DataFileError(f"{path}: unpack it first; only text formats are read compressed")
    if kind == "csv":
        return History(CsvTable(path, run_column, given), tick_s)
    if kind == "parquet":
        return History(ParquetTable(path, run_column, given), tick_s)
    if kind in ("h5", "hdf5"):
        return History(Hdf5Table(path, select, run_column, given), tick_s)
    if kind in ("jsonl", "ndjson"):
        if is_long_json(path):
            return History(LongTable(str(path), lambda: json_readings(path), given, tick_s), tick_s)
        return History(JsonLinesTable(path, run_column, given), tick_s)
    if kind in ("lp", "line"):
        return History(LongTable(str(path), lambda: line_readings(path, names), given, tick_s), tick_s)
    raise DataFileError(f"{path}: got {path.suffix!r}, expected one of {', '.join(SUFFIXES)}, or a database URL")


def _database(
    url: str, select: str | None, run_column: str | None, units: dict[str, str], tick_s: float | None
) -> Table:
    source = SqlSource(url, select)
    if source.long:
        return LongTable(source.where, lambda: sql_readings(source), units, tick_s)
    return SqlTable(source, run_column, units)


def _watched(rows: Iterable[Rows], watch: Callable[[Rows], None]) -> Iterator[Rows]:
    for part in rows:
        watch(part)
        yield part
