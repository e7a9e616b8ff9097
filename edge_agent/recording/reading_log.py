"""A log of what arrived, for ``edge-agent record`` and ``replay``: JSON lines, one a batch.

A file starts with ``{"edge-agent readings": 1}``. ``{"layout": 3, "source": "plc", "sensors": [...], "wall": ...}``
names a set of sensors once, and what was to be added to ``arrival_ns`` then to give wall time;
``[3, arrival_ns, time_ns, quality, values]`` is a batch of it, where ``time_ns`` and ``quality`` are one for all or a
list, and a value may be null. Each file stands alone; the full one becomes ``NAME.1``, that one ``NAME.2``, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import orjson

from edge_agent.errors import DataFileError, StoreError
from edge_agent.sample import Batch

_HEADER = b'{"edge-agent readings":1}\n'
_MAX_LINE = 16_000_000


class ReadingLog:
    """Appends batches to ``path``. Calls block on the disk; what was not closed or flushed may be lost."""

    def __init__(self, path: Path, max_bytes: int = 50_000_000, keep: int = 4) -> None:
        if max_bytes < 1_000 or keep < 0:
            raise ValueError(f"reading log: got max_bytes {max_bytes}, keep {keep}, expected at least 1000 and 0")
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._layouts: dict[tuple[str, tuple[str, ...]], int] = {}
        self._file: IO[bytes] | None = None
        self._size = 0

    def __enter__(self) -> ReadingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, source: str, batch: Batch, wall_ns: int) -> int:
        """Append ``batch`` of ``source``, which arrived at wall time ``wall_ns``; returns the bytes written.

        Readings without source time get ``wall_ns``.

        :raises StoreError: the file cannot be written.
        """
        time_ns: Any = batch.source_time_ns
        if time_ns is None:
            time_ns = wall_ns
        elif not isinstance(time_ns, int):
            time_ns = [wall_ns if each is None else int(each) for each in time_ns]
        quality = int(batch.quality) if isinstance(batch.quality, int) else [int(flag) for flag in batch.quality]
        values = np.asarray(batch.values, dtype=np.float64)
        try:
            if self._file is None or self._size >= self._max_bytes:
                self._rotate()
            before = self._size
            layout = self._layout(source, batch.sensors, wall_ns - batch.arrival_ns)
            record = [layout, batch.arrival_ns, time_ns, quality, values]
            self._append(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        return self._size - before

    def flush(self) -> None:
        """Hand what is buffered to the system. :raises StoreError: the file cannot be written."""
        try:
            if self._file is not None:
                self._file.flush()
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Flush and close. :raises StoreError: the file cannot be written."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def _layout(self, source: str, sensors: tuple[str, ...], wall_offset_ns: int) -> int:
        key = source, sensors
        number = self._layouts.get(key)
        if number is None:
            number = self._layouts[key] = len(self._layouts)
            entry = {"layout": number, "source": source, "sensors": sensors, "wall": wall_offset_ns}
            self._append(orjson.dumps(entry) + b"\n")
        return number

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)
        self._size += len(line)

    def _rotate(self) -> None:
        """Begin a new file. One that was left by an earlier start is rotated too: its layouts are not known here."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._numbered(self._keep).unlink(missing_ok=True)
            for number in range(self._keep - 1, -1, -1):
                older = self._numbered(number)
                if older.exists():
                    os.replace(older, self._numbered(number + 1))
        self._file = self.path.open("wb")
        self._layouts.clear()
        self._size = 0
        self._append(_HEADER)

    def _numbered(self, number: int) -> Path:
        return self.path if number == 0 else self.path.with_name(f"{self.path.name}.{number}")


class ReadingLogReader:
    """Reads a log and its rotated files, the oldest first. ``damaged`` counts lines that could not be used.

    ``wall_offset_ns``, while reading: what makes wall time of the arrival times that come now.
    """

    def __init__(self, path: Path) -> None:
        self._files = _files(path)
        if not self._files:
            raise DataFileError(f"{path}: no such file")
        self.damaged = 0
        self.wall_offset_ns = 0

    def __iter__(self) -> Iterator[tuple[str, Batch]]:
        """Source and batch, each with source times. :raises DataFileError: a file is no log or cannot be read."""
        for path in self._files:
            try:
                with path.open("rb") as file:
                    yield from self._read(path, file)
            except OSError as error:
                raise DataFileError(f"{path}: cannot be read: {error.strerror or error}") from error

    def _read(self, path: Path, file: IO[bytes]) -> Iterator[tuple[str, Batch]]:
        if file.readline(len(_HEADER)) != _HEADER:
            raise DataFileError(f"{path}: no log of readings (made by `edge-agent record`)")
        layouts: dict[int, tuple[str, tuple[str, ...]]] = {}
        while line := file.readline(_MAX_LINE):
            try:
                record = orjson.loads(line)
                if isinstance(record, dict):
                    self.wall_offset_ns = int(record["wall"])
                    layouts[record["layout"]] = str(record["source"]), tuple(map(str, record["sensors"]))
                    continue
                item = _batch(record, layouts)
            except (ValueError, KeyError, TypeError):  # orjson's error is a ValueError
                self.damaged += 1
            else:
                yield item


def _batch(record: Any, layouts: dict[int, tuple[str, tuple[str, ...]]]) -> tuple[str, Batch]:
    number, arrival_ns, time_ns, quality, values = record
    source, sensors = layouts[number]
    readings = np.array(values, dtype=np.float64)
    for column in (readings, time_ns, quality):
        if not isinstance(column, int) and len(column) != len(sensors):
            raise ValueError("columns of unequal length")
    return source, Batch(sensors, readings, int(arrival_ns), time_ns, quality)


def _files(path: Path) -> list[Path]:
    older = []
    number = 1
    while (file := path.with_name(f"{path.name}.{number}")).exists():
        older.append(file)
        number += 1
    return [*reversed(older), *([path] if path.exists() else [])]
