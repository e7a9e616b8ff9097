"""A connected, TLS-protected, non-blocking socket, made without blocking the event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl

from edge_adapters.mqtt.connection import ConnectionOptions
from edge_adapters.mqtt.failures import network_failure
from edge_agent.errors import RetryableAdapterError
from edge_agent.tls import client_context


async def open_socket(options: ConnectionOptions) -> socket.socket | ssl.SSLSocket:
    """Look the broker up, connect, shake hands; the caller closes the socket and bounds the time.

    :raises RetryableAdapterError: not reachable now. :raises AdapterError: TLS files or certificates are refused.
    """
    # Built anew for each connection: renewed certificate files are taken up without a restart.
    context = None if options.tls is None else await asyncio.to_thread(client_context, options.tls)
    sock = await _connect(options)
    if context is None or options.tls is None:
        return sock
    try:
        secured = context.wrap_socket(
            sock, server_hostname=options.tls.server_name or options.host, do_handshake_on_connect=False
        )
    except BaseException:
        sock.close()
        raise
    try:
        await _handshake(secured)
    except OSError as error:
        secured.close()
        raise network_failure(options.address, "TLS", error) from error
    except BaseException:
        secured.close()
        raise
    return secured


async def _connect(options: ConnectionOptions) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(options.host, options.effective_port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RetryableAdapterError(f"{options.address}: cannot find the broker: {error}; check `host`") from error
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            # Otherwise acknowledgements wait for one another: 40 ms a message (Nagle against delayed ACK).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise network_failure(options.address, "cannot reach the broker", failure) from failure


async def _handshake(sock: ssl.SSLSocket) -> None:
    while True:
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            await ready(sock.fileno(), write=False)
        except ssl.SSLWantWriteError:
            await ready(sock.fileno(), write=True)
        else:
            return


async def ready(fd: int, *, write: bool) -> None:
    """Wait until ``fd`` can be read or written."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)

    def done() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, done)
    try:
        await future
    finally:
        remove(fd)
