"""How the API tests reach the server they have started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.api.address import TcpAddress
from edge_agent.api.server import ApiServer

TOKEN = "a-token-of-sixteen-or-more"

Serve = Callable[..., Awaitable[ApiServer]]
"""The fixture ``serve``: starts a server with these options."""


def url(server: ApiServer, path: str) -> str:
    return f"http://{server.address}{path}"


async def raw(server: ApiServer, request: bytes, *, end: bool = True) -> bytes:
    """Send bytes as they are and return all that comes back until the server hangs up."""
    assert isinstance(server.address, TcpAddress)
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
    try:
        writer.write(request)
        if end and writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
