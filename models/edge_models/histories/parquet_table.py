"""Parquet, batch by batch. Units come from the names or from the field metadata ``unit``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import DataFileError
from edge_models.histories.block import Rows
from edge_models.histories.cells import Cells, rows_of
from edge_models.histories.header import read_header


class ParquetTable:
    """A ``.parquet`` file. Written in row groups of some 100,000 rows it needs the least memory."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, run_column: str | None, units: Mapping[str, str]) -> None:
        self.where = str(path)
        self._path = path
        with _opened(path) as file:
            fields = [field for field in file.schema_arrow if not field.name.startswith("__index_level_")]
        names = self._names = [field.name for field in fields]
        described = {field.name: unit for field in fields if (unit := _unit(field))}
        self._header = read_header(self.where, names, run_column, described | dict(units))
        self.sensors, self.units = self._header.sensors, self._header.units

    def rows(self, most: int) -> Iterator[Rows]:
        first = 0
        with _opened(self._path) as file:
            for batch in file.iter_batches(batch_size=most, columns=self._names, use_threads=False):
                columns = {name: _cells(batch.column(name)) for name in self._names}
                if len(batch):
                    yield rows_of(self.where, self._header, columns, lambda row, at=first: f"row {at + row + 1}")  # type: ignore[misc]
                first += len(batch)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # No pre-buffering: it would hold the columns of a whole row group.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 18) as file:
            yield file
    except (pa.ArrowException, ValueError) as error:
        raise DataFileError(f"{path}: not a Parquet file, or damaged: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _unit(field: Any) -> str | None:
    metadata = field.metadata or {}
    raw = metadata.get(b"unit") or metadata.get(b"units")
    return raw.decode() if raw else None


def _cells(column: Any) -> Cells:
    array = np.asarray(column.to_numpy(zero_copy_only=False))
    return array if array.dtype.kind in "fiubM" else column.to_pylist()
