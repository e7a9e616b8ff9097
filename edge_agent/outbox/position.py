"""How far the sink has acknowledged, in a file of two slots. Losing it loses no event: some are delivered again.

A slot is the sequence number (8 bytes) and its CRC-32 (4 bytes), big endian. The slots are written in turn, so that a
write that is cut off spoils only itself. Blocking.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

_SLOT = struct.Struct(">QI")
_SLOTS = 2


class Position:
    """The highest sequence number up to which everything is done. 0 at first."""

    def __init__(self, path: Path) -> None:
        self.value = 0
        self.bytes_written = 0
        self._path = path
        self._descriptor: int | None = None
        self._turn = 0
        self._synced = 0

    def load(self) -> int:
        """Read what was stored; 0 when there is nothing readable."""
        try:
            content = self._path.read_bytes()
        except OSError:
            content = b""
        found = [_value(content[slot * _SLOT.size : (slot + 1) * _SLOT.size]) for slot in range(_SLOTS)]
        self.value = self._synced = max(found)
        self._turn = 1 - found.index(self.value)
        return self.value

    def store(self, value: int) -> None:
        """Write ``value``; it is safe from a crash of the process, and after :meth:`sync` from power loss."""
        if value == self.value:
            return
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        packed = value.to_bytes(8, "big")
        slot = _SLOT.pack(value, zlib.crc32(packed))
        os.pwrite(self._descriptor, slot, self._turn * _SLOT.size)
        self.bytes_written += len(slot)
        self._turn = 1 - self._turn
        self.value = value

    def sync(self) -> None:
        """Make the stored value durable."""
        if self._descriptor is not None and self._synced != self.value:
            os.fdatasync(self._descriptor)
            self._synced = self.value

    def close(self) -> None:
        """Make it durable and let go of the file."""
        if self._descriptor is not None:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = None


def _value(slot: bytes) -> int:
    if len(slot) != _SLOT.size:
        return 0
    value, checksum = _SLOT.unpack(slot)
    return int(value) if zlib.crc32(slot[:8]) == checksum else 0
