"""A file of lines that never holds half a line before a whole one, and that never outgrows its share of the disk.

All calls block and exclude each other; the sink makes them in a thread.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path


class RotatingFile:
    """Appends to ``path``; older files are ``path.1`` (newest) to ``path.<max_files - 1>``.

    What is not a regular file (a pipe, a device) is written to but never rotated or repaired.
    """

    def __init__(self, path: Path, max_size: int, max_files: int, sync: bool) -> None:
        self._path = path
        self._max_size = max_size
        self._max_files = max_files
        self._sync = sync
        self._fd = -1
        self._regular = False
        self._lock = threading.Lock()

    def open(self) -> None:
        """Open or create the file and close off a line torn by a crash. :raises OSError: it cannot be written."""
        with self._lock:
            self._open()

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none. :raises OSError: nothing was written (disk full, card gone)."""
        with self._lock:
            if self._fd < 0 or self._was_moved():
                self._close()
                self._open()
            size = os.fstat(self._fd).st_size
            if self._regular and size and size + len(lines) > self._max_size:
                self._rotate()
                size = 0
            self._write(lines, size)

    def close(self) -> None:
        """Close the file, after a write in progress has ended."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        existed = self._path.exists()
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        size = os.fstat(self._fd).st_size
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        if self._regular and size and os.pread(self._fd, 1, size - 1) != b"\n":
            self._write(b"\n", size)
        if self._sync and not existed:
            self._sync_folder()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes, size_before: int) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
            if self._sync and self._regular:
                os.fdatasync(self._fd)
        except OSError:
            if self._regular:
                os.ftruncate(self._fd, size_before)
            raise

    def _was_moved(self) -> bool:
        """Whether somebody else rotated or removed the file, so that we would write where nobody looks."""
        if not self._regular:
            return False
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        ours = os.fstat(self._fd)
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def _rotate(self) -> None:
        self._close()
        for number in range(self._max_files - 1, 0, -1):
            source = self._numbered(number - 1)
            if source.exists():
                source.replace(self._numbered(number))
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
