"""How files of a repository are read, whatever holds them: one interface, its errors, and the choice by address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from edge_agent.errors import OtaError
from edge_agent.ota.trust.settings import Settings

CHUNK_BYTES = 65_536


class AbsentError(OtaError):
    """The server is there and says that the file is not. ``status``: as of HTTP."""

    def __init__(self, message: str, status: int = 404) -> None:
        super().__init__("missing", message)
        self.status = status


class RangeRefusedError(OtaError):
    """The file can be had, but not from the byte asked for: begin at its first."""

    def __init__(self, message: str) -> None:
        super().__init__("mismatch", message)


@dataclass(frozen=True, slots=True)
class Reply:
    """A file that is being read. ``start``: which of its bytes comes first. ``total``: its length, if that was said.

    ``chunks`` gives at most :data:`CHUNK_BYTES` at a time, each as soon as it is there, and raises
    :class:`~edge_agent.errors.OtaError` (``unreachable``) when the rest cannot be had.
    """

    start: int
    total: int | None
    chunks: Iterator[bytes]


class Transport(Protocol):
    """Reads files under one origin."""

    def read(self, url: str, start: int = 0) -> AbstractContextManager[Reply]:
        """Begin to read ``url`` at byte ``start``; the server may begin at 0 all the same.

        :raises OtaError: :class:`AbsentError`, :class:`RangeRefusedError`, or ``unreachable``.
        """
        ...


class Patience:
    """How long one order may wait: until ``timeout_s`` after it began, or until somebody calls :meth:`stop`."""

    def __init__(self, timeout_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._monotonic = monotonic
        self._ends = monotonic() + timeout_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make what uses it end at its next step. May be called from another thread."""
        self._stopped.set()

    def check_stopped(self) -> None:
        """:raises OtaError: ``timeout``, after :meth:`stop`."""
        if self._stopped.is_set():
            raise OtaError("timeout", "the look for updates was ended before it was done")

    def check(self, doing: str) -> None:
        """:raises OtaError: ``timeout``; the time is over, or :meth:`stop` was called."""
        self.check_stopped()
        if self._monotonic() >= self._ends:
            raise OtaError("timeout", f"{doing}: not done within {self._timeout_s:g} s, tried again later")


def transport_for(origin: str, settings: Settings) -> Transport:
    """What reads files of ``origin`` (``https://…``, ``http://…``, ``file:///…``).

    :raises OtaError: ``unreachable``; the address or the TLS files cannot be used.
    """
    parts = urlsplit(origin)
    if parts.scheme == "file":
        from edge_agent.ota.trust.folder import Folder

        return Folder(origin)
    if parts.scheme in ("http", "https") and parts.hostname:
        from edge_agent.ota.trust.web import Web

        return Web(origin, settings)
    raise OtaError("unreachable", f"repository: got {origin!r}, expected an address with https, http or file")
