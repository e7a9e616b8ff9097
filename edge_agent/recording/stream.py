"""Tables and JSON lines, written page by page. A file appears whole or not at all."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_agent.recording.write import cells, load_pyarrow, whole_file

Page = Mapping[str, Sequence[Any] | NDArray[Any]]


class Format(StrEnum):
    """Ways to write."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


class TableWriter(Protocol):
    """Takes pages of columns, all with the columns given at the start."""

    def write(self, page: Page) -> None:
        """Append the rows of ``page``."""
        ...


class CsvWriter:
    """As :func:`~edge_agent.recording.write.write_table` writes CSV."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._columns = columns
        self._writer.writerow(columns)

    def write(self, page: Page) -> None:
        self._writer.writerows(zip(*(cells(page[name]) for name in self._columns), strict=True))


class ParquetWriter:
    """One row group a page; ``kinds`` gives each column's type: ``time``, ``text``, ``number``, ``whole``, ``flag``."""

    def __init__(self, file: Path, kinds: Mapping[str, str]) -> None:
        self._pa, pq = load_pyarrow(file)
        pa = self._pa
        types = {
            "time": pa.timestamp("ns", tz="UTC"),
            "text": pa.string(),
            "number": pa.float64(),
            "whole": pa.int64(),
            "flag": pa.bool_(),
        }
        self._schema = pa.schema([(name, types[kind]) for name, kind in kinds.items()])
        self._writer = pq.ParquetWriter(file, self._schema)

    def write(self, page: Page) -> None:
        arrays = []
        for field in self._schema:
            column = page[field.name]
            if self._pa.types.is_timestamp(field.type):
                column = np.asarray(column).astype("datetime64[ns]")
            arrays.append(self._pa.array(column, type=field.type, from_pandas=True))
        self._writer.write_table(self._pa.table(arrays, schema=self._schema))

    def close(self) -> None:
        """Write what makes the file a Parquet file."""
        self._writer.close()


class JsonLinesWriter:
    """One record a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append ``records``."""
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
        self._file.writelines(orjson.dumps(record, option=options) for record in records)


@contextmanager
def table_writer(target: Path | None, kind: Format, kinds: Mapping[str, str]) -> Iterator[TableWriter]:
    """A writer of CSV or Parquet into ``target``, or CSV to standard output (None).

    :raises DataFileError: it cannot be written, or pyarrow is not installed.
    """
    if target is None and kind is not Format.CSV:
        raise DataFileError(f"{kind} cannot be written to standard output; name a file")
    with _whole(target) as path:
        if kind is Format.PARQUET:
            assert path is not None
            writer = ParquetWriter(path, kinds)
            try:
                yield writer
            finally:
                writer.close()
        elif path is None:
            yield CsvWriter(sys.stdout, list(kinds))
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                yield CsvWriter(file, list(kinds))


@contextmanager
def json_lines_writer(target: Path | None) -> Iterator[JsonLinesWriter]:
    """A writer of JSON lines into ``target``, or to standard output (None). :raises DataFileError: as above."""
    with _whole(target) as path:
        if path is None:
            yield JsonLinesWriter(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        else:
            with path.open("wb") as file:
                yield JsonLinesWriter(file)


@contextmanager
def _whole(target: Path | None) -> Iterator[Path | None]:
    """:func:`~edge_agent.recording.write.whole_file`, or None for standard output."""
    if target is None:
        yield None
        return
    with whole_file(target) as temporary:
        yield temporary
