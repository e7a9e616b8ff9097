"""One small blob that survives power loss at any byte: learned state, calibration, counters.

Layout: ``EDGESTATE1\\n``, sha256 of the payload (32 bytes), its length (8 bytes, big endian), the payload.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from pathlib import Path

from edge_agent.clock import Clock, SystemClock
from edge_agent.durable import make_folder, quarantine, replace_durably
from edge_agent.errors import StoreError

_MAGIC = b"EDGESTATE1\n"
_HEADER = len(_MAGIC) + 32 + 8
_log = logging.getLogger("edge_agent.history")


class StateFile:
    """A file that holds the whole of what was saved last, or of what was saved before it, never a mixture.

    Calls block on the disk: make them from a thread.
    """

    def __init__(self, path: Path, clock: Clock | None = None, max_bytes: int = 64_000_000) -> None:
        self.path = path
        self._clock = clock or SystemClock()
        self._max_bytes = max_bytes

    def save(self, payload: bytes) -> int:
        """Replace the content; durable on return. Returns the bytes written. :raises StoreError: nothing changed."""
        if len(payload) > self._max_bytes:
            raise StoreError(f"{self.path}: got {len(payload)} bytes to save, expected at most {self._max_bytes}")
        content = _MAGIC + hashlib.sha256(payload).digest() + len(payload).to_bytes(8, "big") + payload
        try:
            make_folder(self.path.parent)
            replace_durably(self.path, content)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error
        return len(content)

    def load(self) -> bytes | None:
        """What was saved last; None when there is nothing, or it is damaged (then it is put aside and logged)."""
        try:
            with self.path.open("rb") as file:
                content = file.read(_HEADER + self._max_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.error("%s: cannot be read: %s; going on without it", self.path, error.strerror or error)
            return None
        why = _damage(content)
        if why is None:
            return content[_HEADER:]
        with suppress(OSError):
            quarantine(self.path, why, self._clock.wall_ns())
        return None


def _damage(content: bytes) -> str | None:
    if not content.startswith(_MAGIC) or len(content) < _HEADER:
        return "not a state file of this version"
    digest = content[len(_MAGIC) : len(_MAGIC) + 32]
    length = int.from_bytes(content[len(_MAGIC) + 32 : _HEADER], "big")
    if len(content) - _HEADER != length:
        return f"{len(content) - _HEADER} bytes of content, expected {length}"
    if hashlib.sha256(content[_HEADER:]).digest() != digest:
        return "checksum does not match"
    return None
