"""A bound on the connections of the API, so that no client can take the memory or the file handles of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

_BODY = b'{"error":"too many connections (option api.max_connections); try again later"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)


class _Busy(asyncio.Protocol):
    """Answers before reading anything and hangs up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.write(_BUSY)
        transport.close()


class ConnectionLimit:
    """Makes the protocol for each new connection: the server's own, or one that says 503 beyond ``limit``."""

    def __init__(self, server: web.Server, limit: int, refused: Callable[[], None]) -> None:
        self._server = server
        self._limit = limit
        self._refused = refused

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) < self._limit:
            return self._server()
        self._refused()
        return _Busy()
