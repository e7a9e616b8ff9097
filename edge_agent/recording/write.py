"""Writing tables. A file appears whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import DataFileError

_CHUNK_ROWS = 4_096


def write_table(path: Path | str, columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> None:
    """Write ``columns`` (of equal length) as ``.csv`` or ``.parquet``.

    ``datetime64`` columns are taken as UTC. In Parquet a column of objects is text, even where every cell is None, so
    that tables of one kind always have one schema. In CSV a missing value (None, NaN, NaT) is an empty cell, and floats
    are written so that reading gives the same number.

    :raises DataFileError: it cannot be written. :raises ValueError: the columns differ in length.
    """
    path = Path(path)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise DataFileError(f"{path}: got {path.suffix!r}, expected a .csv or .parquet file")
    with whole_file(path) as temporary:
        write(temporary, columns)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Where to write, so that ``target`` appears when everything is written, or not at all.

    :raises DataFileError: it cannot be written.
    """
    temporary = target.with_name(target.name + ".new")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise DataFileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write_csv(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        rows = zip(*(cells(column) for column in columns.values()), strict=True)
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            writer.writerows(chunk)


def cells(column: Sequence[Any] | np.ndarray[Any, Any]) -> list[Any]:
    """A column as it stands in CSV: what is missing is empty, times are UTC, flags are 0 and 1."""
    array = np.asarray(column)
    if array.dtype.kind == "M":
        texts = np.datetime_as_string(array, timezone="naive").tolist()
        return ["" if text == "NaT" else f"{text}Z" for text in texts]
    cells = array.astype(np.int64).tolist() if array.dtype.kind == "b" else array.tolist()
    if array.dtype.kind in "fO":
        return ["" if cell is None or cell != cell else cell for cell in cells]
    return list(cells)


def _write_parquet(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]) -> None:
    pa, pq = load_pyarrow(path)
    arrays = {}
    for name, column in columns.items():
        array = np.asarray(column)
        if array.dtype.kind == "M":
            arrays[name] = pa.array(array.astype("datetime64[ns]"), type=pa.timestamp("ns", tz="UTC"))
        else:
            arrays[name] = pa.array(array, type=pa.string() if array.dtype.kind == "O" else None)
    pq.write_table(pa.table(arrays), path)


def load_pyarrow(path: Path) -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``. :raises DataFileError: they are not installed, so ``path`` cannot be."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataFileError(f"{path}: needs pyarrow: pip install 'edge-graph-agent[parquet]'") from error
    return pa, pq
