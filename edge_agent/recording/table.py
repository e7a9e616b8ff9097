"""Tables of readings: one row a tick, one column a sensor. ``timestamp``, ``run`` and ``label`` are never sensors."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S
from edge_agent.errors import DataFileError
from edge_agent.recording.columns import CellError, numbers, numeric_times, split_unit, times

NOT_SENSORS = ("label", "timestamp", "run")
_CHUNK_ROWS = 4_096
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Recording:
    """A table of readings: T rows, N sensors.

    ``values``: float64 [T, N], NaN where a reading is missing. ``time_ns``: int64 [T], ns since 1970 UTC, or since
    the start when the file counts from there. ``timestamp``: that column as it is in the file, None without one.
    ``run``: [T], text or whole numbers as in the file, tells independent runs apart, or None. ``label``: float64 [T],
    or None.
    ``warnings``: what is odd but does not keep the recording from being used.
    """

    path: Path
    sensors: tuple[str, ...]
    values: NDArray[np.float64]
    time_ns: NDArray[np.int64]
    timestamp: NDArray[Any] | None
    run: NDArray[Any] | None
    label: NDArray[np.float64] | None
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.time_ns)

    def runs(self) -> Iterator[tuple[str | None, slice]]:
        """Each stretch of rows of the same run, in order: its name (None when the file has no runs) and its rows."""
        for first, last in _stretches(self.run, len(self)):
            yield None if self.run is None else str(self.run[first]), slice(first, last)


@dataclass(slots=True)
class _Columns:
    """What a file holds, before it is checked. ``line`` gives the place of a row for messages."""

    names: list[str]
    numeric: dict[str, NDArray[np.float64]]
    runs: dict[str, NDArray[Any]]
    time_ns: NDArray[np.int64] | None
    timestamp: NDArray[Any] | None


def read_recording(path: Path | str, run_column: str | None = None, tick_s: float = 1.0) -> Recording:
    """Read a ``.csv`` or ``.parquet`` file.

    ``run_column`` names the column that tells runs apart (default: ``run`` when there is one). Without ``timestamp``
    the rows are taken to be ``tick_s`` seconds apart. Sensors are named without the unit that a header may give.

    :raises DataFileError: it cannot be read, or used; the message names line (or row), column and value.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataFileError(f"{path}: got {suffix!r}, expected a .csv or .parquet file")
    runs = run_column or "run"
    try:
        columns = _read_csv(path, runs) if suffix == ".csv" else _read_parquet(path, runs)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return _checked(path, columns, runs, required=run_column is not None, tick_s=tick_s)


def _checked(path: Path, columns: _Columns, runs: str, *, required: bool, tick_s: float) -> Recording:
    if required and runs not in columns.names:
        raise DataFileError(f"{path}: no column {runs!r} for the runs, found {', '.join(columns.names)}")
    sensors = tuple(name for name in columns.names if name not in (*NOT_SENSORS, runs))
    if not sensors:
        raise DataFileError(f"{path}: no column of readings beside {', '.join(columns.names)}")
    values = np.column_stack([columns.numeric[name] for name in sensors])
    sensors = _without_units(path, sensors)
    if len(values) == 0:
        raise DataFileError(f"{path}: no rows, expected at least one below the header")
    warnings: list[str] = []
    run = columns.runs.get(runs)
    time_ns = columns.time_ns
    if time_ns is None:
        warnings.append(f"no column 'timestamp': rows are taken to be {tick_s:g} s apart")
        time_ns = np.arange(len(values), dtype=np.int64) * round(tick_s * NS_PER_S)
    else:
        warnings += _odd_times(time_ns, run)
    warnings += _odd_values(sensors, values)
    label = columns.numeric.get("label") if runs != "label" else None
    return Recording(path, sensors, values, time_ns, columns.timestamp, run, label, tuple(warnings))


def _stretches(run: NDArray[Any] | None, length: int) -> Iterator[tuple[int, int]]:
    cuts = [] if run is None else (np.flatnonzero(run[1:] != run[:-1]) + 1).tolist()
    starts = [0, *cuts, length]
    yield from pairwise(starts)


def _odd_times(time_ns: NDArray[np.int64], run: NDArray[Any] | None) -> list[str]:
    back = same = 0
    first_back = -1
    for first, last in _stretches(run, len(time_ns)):
        steps = np.diff(time_ns[first:last])
        same += int((steps == 0).sum())
        backwards = np.flatnonzero(steps < 0)
        back += len(backwards)
        if len(backwards) and first_back < 0:
            first_back = first + int(backwards[0]) + 2
    found = [f"timestamps go back {back} times, first at row {first_back}"] if back else []
    return found + ([f"timestamps repeat {same} times"] if same else [])


def _without_units(path: Path, columns: tuple[str, ...]) -> tuple[str, ...]:
    """``TI101 [degC]`` is the sensor TI101, as in a history that a model is trained on."""
    sensors = tuple(split_unit(name)[0] for name in columns)
    seen: set[str] = set()
    for name in sensors:
        if name in seen:
            raise DataFileError(f"{path}: two columns are the sensor {name!r}; a unit in brackets is no part of a name")
        seen.add(name)
    return sensors


def _odd_values(sensors: Sequence[str], values: NDArray[np.float64]) -> list[str]:
    finite = np.isfinite(values)
    empty: NDArray[np.bool_] = np.logical_not(finite.any(axis=0))
    low = np.where(finite, values, np.inf).min(axis=0)
    high = np.where(finite, values, -np.inf).max(axis=0)
    found = (
        ("no reading at all in", empty),
        ("never changes:", np.logical_and(len(values) > 1, np.logical_and(~empty, low == high))),
        ("infinite readings in", np.asarray(np.isinf(values).any(axis=0))),
    )
    return [f"{what} {_list(list(compress(sensors, odd)))}" for what, odd in found if odd.any()]


def _list(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_names(path: Path, names: Sequence[str]) -> None:
    for position, name in enumerate(names, start=1):
        if not name:
            raise DataFileError(f"{path}: column {position} has no name (pandas: write with index=False)")
        if name in names[: position - 1]:
            raise DataFileError(f"{path}: two columns are called {name!r}; rename or remove one")


def _read_csv(path: Path, runs: str) -> _Columns:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _csv_columns(path, file, runs)
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except csv.Error as error:
        raise DataFileError(f"{path}: not CSV: {error}") from error


def _csv_columns(path: Path, file: Any, runs: str) -> _Columns:
    head = file.readline()
    if not head.strip():
        raise DataFileError(f"{path}: empty, expected a header line with the names of the sensors")
    delimiter = max(",;\t", key=head.count)
    names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter))]
    _check_names(path, names)
    kept: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for lines, rows in _chunks(path, csv.reader(file, delimiter=delimiter), len(names)):
        for name, cells in zip(names, zip(*rows, strict=True), strict=True):
            if name in ("timestamp", runs):
                kept[name].append(np.array(cells, dtype=np.str_))
                continue
            try:
                kept[name].append(numbers(cells, decimal_comma=delimiter == ";"))
            except CellError as error:
                raise DataFileError(f"{path}: line {lines[error.row]}, column {name!r}: {error}") from error
    joined: dict[str, NDArray[Any]] = {
        name: np.concatenate(parts) if parts else np.empty(0) for name, parts in kept.items()
    }
    stamps = joined.get("timestamp") if runs != "timestamp" else None
    return _Columns(
        names=names,
        numeric={name: cells for name, cells in joined.items() if name not in ("timestamp", runs)},
        runs={name: np.char.strip(cells) for name, cells in joined.items() if name == runs and len(cells)},
        time_ns=None if stamps is None else _csv_times(path, stamps),
        timestamp=stamps,
    )


def _csv_times(path: Path, stamps: NDArray[np.str_]) -> NDArray[np.int64]:
    try:
        return times(stamps.tolist())
    except CellError as error:
        raise DataFileError(f"{path}: row {error.row + 1}, column 'timestamp': {error}") from error


def _chunks(path: Path, reader: Any, width: int) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Rows and the line on which each ends, a few thousand at a time: text takes ten times the room of numbers."""

    def rows() -> Iterator[tuple[int, list[str]]]:
        for row in reader:
            if len(row) == width:
                yield reader.line_num + 1, row
            elif row:
                raise DataFileError(
                    f"{path}: line {reader.line_num + 1}: got {len(row)} cells, expected {width} as in the header"
                )

    source = rows()
    while chunk := list(islice(source, _CHUNK_ROWS)):
        yield [line for line, _ in chunk], [row for _, row in chunk]


def _read_parquet(path: Path, runs: str) -> _Columns:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataFileError(f"{path}: needs pyarrow: pip install 'edge-graph-agent[parquet]'") from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, ValueError) as error:
        raise DataFileError(f"{path}: not a Parquet file, or damaged: {str(error).splitlines()[0]}") from error
    names = [name for name in table.schema.names if not name.startswith("__index_level_")]
    _check_names(path, names)
    stamps = _numpy(table, "timestamp") if "timestamp" in names and runs != "timestamp" else None
    return _Columns(
        names=names,
        numeric={name: _parquet_numbers(path, table, name) for name in names if name not in ("timestamp", runs)},
        runs={name: _parquet_runs(table, name) for name in names if name == runs},
        time_ns=None if stamps is None else _parquet_times(path, stamps),
        timestamp=stamps,
    )


def _numpy(table: Any, name: str) -> NDArray[Any]:
    return np.asarray(table.column(name).to_numpy())


def _parquet_runs(table: Any, name: str) -> NDArray[Any]:
    column = _numpy(table, name)
    return column if column.dtype.kind in "iu" else column.astype(np.str_)


def _parquet_numbers(path: Path, table: Any, name: str) -> NDArray[np.float64]:
    column = _numpy(table, name)
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    try:
        return numbers(["" if cell is None else str(cell) for cell in column.tolist()])
    except CellError as error:
        raise DataFileError(f"{path}: row {error.row + 1}, column {name!r}: {error}") from error


def _parquet_times(path: Path, stamps: NDArray[Any]) -> NDArray[np.int64]:
    try:
        if stamps.dtype.kind == "M":
            absent = np.flatnonzero(np.isnat(stamps))
            if len(absent):
                raise CellError(int(absent[0]), "got no value, expected a time")
            return stamps.astype("datetime64[ns]").astype(np.int64)
        if stamps.dtype.kind in "iu":
            return numeric_times(stamps.astype(np.int64))
        if stamps.dtype.kind == "f":
            return numeric_times(stamps.astype(np.float64))
        return times(["" if cell is None else str(cell) for cell in stamps.tolist()])
    except CellError as error:
        raise DataFileError(f"{path}: row {error.row + 1}, column 'timestamp': {error}") from error
