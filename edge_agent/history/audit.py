"""Who did what, and when: one JSON object a line, durable, bounded by rotation. Blocking: use it from a thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from edge_agent.durable import sync_folder
from edge_agent.errors import StoreError

_MOST_BYTES = 1_000_000
KEPT = 4
"""Older files beside the one that is written to."""


class AuditLog:
    """``path``, and before it ``path.1`` (newest) to ``path.4``. A line torn by a power loss is passed over."""

    def __init__(self, path: Path, max_bytes: int = _MOST_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    def append(self, entry: Mapping[str, Any]) -> int:
        """Add ``entry``, durable on return. Returns the bytes written. :raises StoreError: it could not be written."""
        line = orjson.dumps(entry) + b"\n"
        with self._lock:
            try:
                self._rotate(len(line))
                return self._write(line)
            except OSError as error:
                raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def latest(self, limit: int) -> list[dict[str, Any]]:
        """The last ``limit`` entries, newest first. :raises StoreError: a file is there and cannot be read."""
        found: list[dict[str, Any]] = []
        with self._lock:
            for path in (self.path, *map(self._older, range(1, KEPT + 1))):
                if len(found) >= limit:
                    break
                found += _entries(path)
        return found[:limit]

    def _write(self, line: bytes) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("ab") as file:
            if not new and _torn(self.path):
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.path.parent)
        return len(line)

    def _rotate(self, coming_bytes: int) -> None:
        if not self.path.exists() or self.path.stat().st_size + coming_bytes <= self._max_bytes:
            return
        for number in range(KEPT, 1, -1):
            with suppress(FileNotFoundError):
                self._older(number - 1).replace(self._older(number))
        self.path.replace(self._older(1))
        sync_folder(self.path.parent)

    def _older(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _entries(path: Path) -> list[dict[str, Any]]:
    """Newest first."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from error
    found = []
    for line in reversed(lines):
        with suppress(orjson.JSONDecodeError):
            entry = orjson.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found
