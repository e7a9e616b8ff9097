"""One UDP socket for both directions, with the library's weak spots contained.

The ``udp6`` transport of aiocoap is used because it alone serves and asks on one socket, answers from the address
that was asked (IPv4 and IPv6, also on ``0.0.0.0`` and ``::``) and learns of unreachable peers by ICMP. Around it:

* A datagram that is not CoAP, or whose text options are not UTF-8 (aiocoap lets ``UnicodeDecodeError`` out), is
  counted and dropped; a confirmable one is answered with Reset, so that its sender need not repeat it (RFC 7252, 4.2).
* Requests are remembered for de-duplication for EXCHANGE_LIFETIME, 247 s, at 2 kB each. Here it is 45 s, which still
  covers every repetition by the sender (MAX_TRANSMIT_SPAN), and 0.25 s while a thousand are remembered: in such a
  flood a repetition may be taken twice, which for readings is harmless, but the memory stays bounded.
* SO_REUSEPORT is not set: with it a second agent would silently take half of the datagrams.
* The library warns in the log of every misbehaving peer; these warnings are counted and limited instead.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiocoap
from aiocoap import error, interfaces
from aiocoap.credentials import CredentialsMap
from aiocoap.message import Direction
from aiocoap.numbers.constants import TransportTuning
from aiocoap.transports.udp6 import MessageInterfaceUDP6, UDP6EndpointAddress
from aiocoap.util import socknumbers
from aiocoap.util.asyncio.recvmsg import create_recvmsg_datagram_endpoint

from edge_adapters.coap.options import PreSharedKey
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError

Reject = Callable[[str, str], None]

_MAX_DATAGRAM: Final = 65_535
_HEADER: Final = struct.Struct("!BBH")
_CON: Final = 0
_RESET: Final = 0x70  # version 1, type RST, no token
_REMEMBERED: Final = 1_000


class Remember(TransportTuning):  # type: ignore[misc]  # aiocoap has no annotations
    """Timing of requests to us: how long each is remembered depends on how many already are."""

    def __init__(self, remembered: dict[Any, Any]) -> None:
        self._remembered = remembered

    @property
    def EXCHANGE_LIFETIME(self) -> float:  # noqa: N802  (the name of RFC 7252)
        return 0.25 if len(self._remembered) >= _REMEMBERED else 45.0


class _Endpoint(MessageInterfaceUDP6):  # type: ignore[misc]
    """The transport of aiocoap, taking only what can be decoded."""

    def __init__(self, manager: Any, log: logging.Logger, loop: asyncio.AbstractEventLoop, reject: Reject) -> None:
        super().__init__(manager, log, loop)
        self._reject = reject
        self._tuning = Remember(manager._recent_messages)

    def datagram_msg_received(self, data: bytes, ancdata: list[Any], flags: int, address: Any) -> None:
        local = next((value for level, kind, value in ancdata if (level, kind) == _PKTINFO), None)
        try:
            message = decode(data, UDP6EndpointAddress(address, self, pktinfo=local))
        except (error.UnparsableMessage, ValueError, ArithmeticError, LookupError) as problem:
            reason = "not_utf8" if isinstance(problem, UnicodeDecodeError) else "not_coap"
            self._reject(reason, f"datagram of {len(data)} bytes from {address[0]}: {problem}")
            self._reset(data, ancdata, address)
            return
        message.transport_tuning = self._tuning
        self._contained(lambda: self._ctx.dispatch_message(message), address)

    def datagram_errqueue_received(self, data: bytes, ancdata: list[Any], flags: int, address: Any) -> None:
        receive = super().datagram_errqueue_received
        self._contained(lambda: receive(data, ancdata, flags, address), address)

    def connection_lost(self, exc: Exception | None) -> None:
        # Told to stop a second time while stopping, the library would fail here for want of anyone who waits.
        if self._shutting_down is None or not self._shutting_down.done():
            super().connection_lost(exc)

    def _contained(self, step: Callable[[], None], address: Any) -> None:
        """Run ``step``; a fault of the library met by one datagram must not cost the ones after it."""
        try:
            step()
        except Exception as problem:
            self._reject("library", f"datagram from {address[0]}: {type(problem).__name__}: {problem}")

    def _reset(self, data: bytes, ancdata: list[Any], address: Any) -> None:
        if len(data) < _HEADER.size:
            return
        first, _, message_id = _HEADER.unpack_from(data)
        if first >> 6 == 1 and (first >> 4) & 3 == _CON and not self._asked_group(ancdata):
            source = [item for item in ancdata if item[:2] == _PKTINFO]
            self.transport.sendmsg(_HEADER.pack(_RESET, 0, message_id), source, 0, address)

    @staticmethod
    def _asked_group(ancdata: list[Any]) -> bool:
        """Whether the datagram went to a multicast address, which must never be answered with Reset."""
        for level, kind, value in ancdata:
            if (level, kind) == _PKTINFO:
                mapped = value[:12] == b"\0" * 10 + b"\xff\xff"
                return bool(value[12] >> 4 == 14 if mapped else value[0] == 0xFF)
        return True


_PKTINFO: Final = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)


def decode(data: bytes, remote: Any) -> Any:
    """The message in one datagram. :raises UnparsableMessage, ValueError, ArithmeticError, LookupError: it is none."""
    if data and data[0] & 0x0F > 8:
        raise error.UnparsableMessage("token length 9 to 15 is reserved (RFC 7252, section 3)")
    message = aiocoap.Message.decode(data, remote)
    message.direction = Direction.INCOMING
    return message


class _PeerWarnings(logging.Filter):
    """Counts what aiocoap would log of a misbehaving peer; :meth:`AdapterContext.reject` limits the log.

    What it says about single datagrams at level INFO (duplicates, repetitions) is for those who debug.
    """

    def __init__(self, reject: Reject, log: logging.Logger) -> None:
        super().__init__()
        self._reject = reject
        self._log = log

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self._reject("protocol", record.getMessage())
            return False
        return self._log.isEnabledFor(logging.DEBUG)


@asynccontextmanager
async def open_endpoint(
    context: AdapterContext,
    listen: tuple[str, int] | None,
    site: interfaces.Resource | None,
    *,
    server_oscore: CredentialsMap,
    client_oscore: CredentialsMap,
    server_psk: Mapping[str, PreSharedKey],
    client_psk: Mapping[str, PreSharedKey],
) -> AsyncIterator[aiocoap.Context]:
    """A CoAP endpoint on ``listen`` (host, port), or on any free port when only asking; shut down at the end.

    Credentials are by URI pattern for the client side, by any label for the server side.
    :raises RetryableAdapterError: the address is taken or not there.
    :raises AdapterError: no IPv6 sockets, or DTLS is asked for and not installed.
    """
    log = logging.getLogger(f"{context.log.name}.aiocoap")
    peer_warnings = _PeerWarnings(context.reject, log)
    coap = aiocoap.Context(
        serversite=site,
        loggername=log.name,
        client_credentials=CredentialsMap(client_oscore),
        server_credentials=CredentialsMap(server_oscore),
    )
    sock = await _bound_socket(listen)
    log.addFilter(peer_warnings)
    try:
        if client_oscore:
            from aiocoap.transports.oscore import TransportOSCORE

            coap.request_interfaces.append(TransportOSCORE(coap, coap))
        await coap._append_tokenmanaged_messagemanaged_transport(lambda manager: _open(manager, sock, context, log))
        if server_psk or client_psk:
            await _add_dtls(coap, listen, log, server_psk, client_psk)
        yield coap
    finally:
        try:
            if coap.request_interfaces:
                await coap.shutdown()
        finally:
            sock.close()
            log.removeFilter(peer_warnings)


async def _add_dtls(
    coap: aiocoap.Context,
    listen: tuple[str, int] | None,
    log: logging.Logger,
    server_psk: Mapping[str, PreSharedKey],
    client_psk: Mapping[str, PreSharedKey],
) -> None:
    from edge_adapters.coap import dtls

    dtls.require_dtls()
    coap.server_credentials.update(dtls.psk_credentials(server_psk))
    coap.client_credentials.update(dtls.psk_credentials(client_psk))
    if server_psk and listen is not None:
        await dtls.serve_dtls(coap, listen, log)
    if client_psk:
        await dtls.ask_over_dtls(coap, log)


async def _open(manager: Any, sock: socket.socket, context: AdapterContext, log: logging.Logger) -> _Endpoint:
    loop = asyncio.get_running_loop()
    transport, endpoint = await create_recvmsg_datagram_endpoint(
        loop, lambda: _Endpoint(manager, log, loop, context.reject), sock
    )
    transport.max_size = _MAX_DATAGRAM  # otherwise a datagram over 4 kB would be cut off without a word
    await endpoint.ready
    result: _Endpoint = endpoint
    return result


async def _bound_socket(listen: tuple[str, int] | None) -> socket.socket:
    """A socket for IPv4 and IPv6 that tells the local address of each datagram and receives ICMP errors."""
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError as problem:
        raise AdapterError(
            f"CoAP needs IPv6 sockets, also to speak IPv4, and this kernel has none ({problem}): "
            "start it without ipv6.disable=1 (net.ipv6.conf.all.disable_ipv6=1 is enough to keep IPv6 off)"
        ) from problem
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socknumbers.IPV6_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socknumbers.IP_RECVERR, 1)
        if listen is not None:
            sock.bind(await _local_address(*listen))
    except OSError as problem:
        sock.close()
        where = "any port" if listen is None else f"{listen[0]}:{listen[1]} (UDP)"
        raise RetryableAdapterError(f"cannot listen on {where}: {problem.strerror or problem}") from problem
    except BaseException:
        sock.close()
        raise
    return sock


async def _local_address(host: str, port: int) -> Any:
    """What to bind to; IPv4 as IPv4-mapped IPv6."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as problem:
        raise RetryableAdapterError(f"cannot listen on {host}:{port}: {problem}") from problem
    family, *_, address = found[0]
    return (f"::ffff:{address[0]}", address[1], 0, 0) if family == socket.AF_INET else address
