"""DTLS with pre-shared keys, through aiocoap's tinydtls transports. Imported only when a key is configured.

The library calls this support experimental, and it needs DTLSSocket, which is built from source. What is contained
here: connections are bounded (each datagram from a new address makes one, and addresses can be forged), and a datagram
that cannot be handled costs only itself.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Mapping
from typing import Any

import aiocoap
from aiocoap import error
from aiocoap.credentials import DTLS
from aiocoap.transports.tinydtls import MessageInterfaceTinyDTLS
from aiocoap.transports.tinydtls_server import MessageInterfaceTinyDTLSServer, _DatagramServerSocketSimpleDTLS

from edge_adapters.coap.endpoint import Remember, decode
from edge_adapters.coap.options import PreSharedKey
from edge_agent.errors import AdapterError, RetryableAdapterError


def require_dtls() -> None:
    """:raises AdapterError: the package that DTLS needs is not installed; says which."""
    if importlib.util.find_spec("DTLSSocket") is None:
        raise AdapterError(
            "DTLS needs the package DTLSSocket, which is not installed: pip install 'aiocoap[tinydtls]' builds it from "
            "source with a C compiler, autoconf, automake and libtool. Or use OSCORE, which needs none of them"
        )


def psk_credentials(keys: Mapping[str, PreSharedKey]) -> dict[str, Any]:
    """Credentials of the library, by URI pattern or label."""
    return {label: DTLS(key.key.reveal().encode(), key.identity.encode()) for label, key in keys.items()}


class _Sockets(_DatagramServerSocketSimpleDTLS):  # type: ignore[misc]  # aiocoap has no annotations
    def datagram_received(self, data: bytes, sockaddr: Any) -> None:
        if sockaddr not in self._connections:
            self._maybe_purge_sockets()
        try:
            super().datagram_received(data, sockaddr)
        except Exception as problem:
            self.log.warning("DTLS datagram from %s: %s: %s", sockaddr[0], type(problem).__name__, problem)


class _Server(MessageInterfaceTinyDTLSServer):  # type: ignore[misc]
    _serversocket = _Sockets

    def _received_datagram(self, address: Any, datagram: bytes) -> None:
        try:
            message = decode(datagram, address)
            message.transport_tuning = Remember(self._mman._recent_messages)
            self._mman.dispatch_message(message)
        except Exception as problem:
            self._log.warning("CoAP over DTLS from %s: %s: %s", address.hostinfo, type(problem).__name__, problem)


async def serve_dtls(coap: aiocoap.Context, listen: tuple[str, int], log: logging.Logger) -> None:
    """Serve on the port after ``listen`` too. :raises RetryableAdapterError: the port is taken."""
    loop = asyncio.get_running_loop()
    try:
        await coap._append_tokenmanaged_messagemanaged_transport(
            lambda manager: _Server.create_server(
                listen, manager, log=log, loop=loop, server_credentials=coap.server_credentials
            )
        )
    except (OSError, error.Error) as problem:
        raise RetryableAdapterError(f"cannot listen on {listen[0]}:{listen[1] + 1} (DTLS): {problem}") from problem


async def ask_over_dtls(coap: aiocoap.Context, log: logging.Logger) -> None:
    """Let ``coaps://`` requests be sent."""
    loop = asyncio.get_running_loop()
    await coap._append_tokenmanaged_messagemanaged_transport(
        lambda manager: MessageInterfaceTinyDTLS.create_client_transport_endpoint(manager, log=log, loop=loop)
    )
