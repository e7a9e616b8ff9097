"""The CoAP source: one endpoint that serves devices, follows resources of devices, or both."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiocoap

from edge_adapters.coap.client import Availability, Follower
from edge_adapters.coap.endpoint import open_endpoint
from edge_adapters.coap.options import CoapOptions, ServerOptions, split_address
from edge_adapters.coap.security import oscore_credentials
from edge_adapters.coap.site import ReadingSite
from edge_agent.contract import AdapterContext, Emitter


class CoapSource:
    """See :class:`edge_agent.contract.Source`."""

    def __init__(self, options: CoapOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context

    async def run(self, emit: Emitter) -> None:
        """Serve and follow until cancelled.

        :raises RetryableAdapterError: the address to listen on is taken or not there.
        :raises AdapterError: an OSCORE context cannot be used, or the kernel has no IPv6 sockets.
        """
        server = self._options.server
        async with AsyncExitStack() as stack:
            server_keys = await stack.enter_async_context(oscore_credentials(_server_folders(server)))
            client_keys = await stack.enter_async_context(oscore_credentials(self._client_folders()))
            site: Any = None if server is None else ReadingSite(server, self._context, emit)
            if server_keys:
                from edge_adapters.coap.protected import ProtectedSite

                site = ProtectedSite(site, server_keys)
            listen = None if server is None else split_address(server.listen)
            coap = await stack.enter_async_context(
                open_endpoint(
                    self._context,
                    listen,
                    site,
                    server_oscore=server_keys,
                    client_oscore=client_keys,
                    server_psk={} if server is None else {f":{key.identity}": key for key in server.dtls},
                    client_psk={
                        _pattern(each.uri): each.dtls for each in self._options.client if each.dtls is not None
                    },
                )
            )
            if server is not None:
                self._context.connected(f"{server.listen} (listening)")
            await self._follow(coap, emit)

    async def _follow(self, coap: aiocoap.Context, emit: Emitter) -> None:
        availability = Availability(self._context, serving=self._options.server is not None)
        turns: dict[str, asyncio.Lock] = {}
        async with asyncio.TaskGroup() as tasks:
            for resource in self._options.client:
                turn = turns.setdefault(urlsplit(resource.uri).netloc, asyncio.Lock())
                longest_pause_s = self._options.retry_max
                follower = Follower(resource, self._context, emit, coap, turn, availability, longest_pause_s)
                tasks.create_task(follower.run(), name=f"coap {self._context.name}: {resource.uri}")
            await asyncio.Event().wait()

    def _client_folders(self) -> dict[str, Path]:
        """OSCORE folders by the URI that the library will look for."""
        return {_pattern(each.uri): each.oscore for each in self._options.client if each.oscore is not None}


def _pattern(uri: str) -> str:
    """``uri`` as the library writes it when it looks for credentials."""
    return str(aiocoap.Message(code=aiocoap.GET, uri=uri).get_request_uri())


def _server_folders(server: ServerOptions | None) -> dict[str, Path]:
    return {} if server is None else {f":{folder}": folder for folder in server.oscore}
