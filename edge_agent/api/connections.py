"""A bound on the connections of the API, so that no client can take the memory or the file handles of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

_BODY = b'{"error":"too many connections (option api.max_connections); try again later"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class _Busy(asyncio.Protocol):
    """Answers before reading anything and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `isinstance`: the transports of uvloop do not derive from asyncio's.
        cast(asyncio.Transport, transport).write(_BUSY)
        transport.close()


class _Counted(asyncio.Protocol):
    """Passes everything on to ``inner`` and says when the connection has ended."""

    def __init__(self, inner: asyncio.Protocol, ended: Callable[[], None]) -> None:
        self._inner = inner
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        self._inner.connection_lost(exc)


class ConnectionLimit:
    """Makes the protocol for each new connection: the one of ``serve``, or one that says 503 beyond ``limit``.

    Counts from the moment a connection is accepted: the event loop may accept a hundred before it tells any of them.
    """

    def __init__(self, serve: Callable[[], asyncio.Protocol], limit: int, refused: Callable[[], None]) -> None:
        self._serve = serve
        self._limit = limit
        self._refused = refused
        self.open = 0

    def __call__(self) -> asyncio.Protocol:
        if self.open >= self._limit:
            self._refused()
            return _Busy()
        self.open += 1
        return _Counted(self._serve(), self._ended)

    def _ended(self) -> None:
        self.open -= 1
