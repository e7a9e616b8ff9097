"""A connection to a syslog receiver over TCP or TLS.

Syslog has no acknowledgement. The most that can be known is what the other machine's TCP has acknowledged, and whether
the receiver has closed the connection meanwhile; both are looked at here.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import ssl
import struct
import termios
from typing import Any, Final

from edge_agent.errors import RetryableAdapterError

_FIRST_LOOK_S: Final = 0.0005
_LONGEST_LOOK_S: Final = 0.05
_CLOSE_S: Final = 1.0
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))


class Stream(asyncio.Protocol):
    """One connection. ``lost``: why it is no more. ``reset``: it broke off, so the receiver may have read less than
    its machine took; a receiver that ends in order has read everything (RFC 1122, 4.2.2.13)."""

    def __init__(self, address: str, timeout_s: float) -> None:
        self.lost: str | None = None
        self.reset = False
        self.gone = asyncio.Event()
        self._address = address
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(
        cls, host: str, port: int, address: str, timeout_s: float, tls: ssl.SSLContext | None, server_name: str | None
    ) -> Stream:
        """Connect. :raises RetryableAdapterError: not reachable, or its certificate is not trusted."""
        loop = asyncio.get_running_loop()
        stream = cls(address, timeout_s)
        name = (server_name or host) if tls is not None else None
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_connection(lambda: stream, host, port, ssl=tls, server_hostname=name)
        except TimeoutError as error:
            raise RetryableAdapterError(f"{address}: no connection within {timeout_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise RetryableAdapterError(
                f"{address}: its certificate is not trusted: {error.verify_message}; see `tls.ca_file` and "
                "`tls.server_name`"
            ) from error
        except (OSError, UnicodeError) as error:
            raise RetryableAdapterError(f"{address}: cannot connect: {_reason(error)}") from error
        return stream

    # -- asyncio.Protocol --------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=1)  # "writable" then means: (almost) everything has gone to the kernel
        _keep_alive(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        """A syslog receiver says nothing; if it does, it is not for us."""

    def eof_received(self) -> bool:
        self._ended("the receiver has closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset = self.reset or (exc is not None and self.lost is None)
        self._ended("the connection was closed" if exc is None else _reason(exc))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- ours --------------------------------------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Send, and return when the other machine has acknowledged all of it and the connection still stands.

        :raises RetryableAdapterError: it may not have arrived; the connection is of no more use.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                # What the receiver did meanwhile is seen before anything is written into a dead connection.
                await asyncio.sleep(0)
                self._check()
                assert self._transport is not None
                self._transport.write(data)
                await self._writable.wait()
                await self._acknowledged()
        except TimeoutError as error:
            self._abort(f"no acknowledgement within {self._timeout_s:g} s")
            raise RetryableAdapterError(
                f"{self._address}: the receiver's machine acknowledged nothing within {self._timeout_s:g} s"
            ) from error
        except BaseException:
            # Half of a message may have been sent: nothing can follow it.
            self._abort("given up in the middle of a message")
            raise

    async def close(self) -> None:
        """Say goodbye, so that the receiver knows that nothing is missing."""
        if self._transport is None or self.lost is not None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self.gone.wait()
        except TimeoutError:
            self._transport.abort()

    async def _acknowledged(self) -> None:
        """Wait until nothing is under way, and nothing was put under way by a turn of the event loop."""
        pause_s, quiet = _FIRST_LOOK_S, 0
        while quiet < 2:
            self._check()
            quiet = quiet + 1 if self._under_way() == 0 else 0
            await asyncio.sleep(0 if quiet else pause_s)
            pause_s = min(pause_s * 2, _LONGEST_LOOK_S)
        self._check()

    def _under_way(self) -> int:
        """Bytes not sent yet, or not acknowledged by the other machine (``SIOCOUTQ``, tcp(7))."""
        assert self._transport is not None
        if waiting := self._transport.get_write_buffer_size():
            return waiting
        sock = self._transport.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError) as error:
            raise RetryableAdapterError(f"{self._address}: {_reason(error)}") from error
        return int(struct.unpack("i", answer)[0])

    def _check(self) -> None:
        if self.lost is not None:
            raise RetryableAdapterError(f"{self._address}: {self.lost}")

    def _abort(self, why: str) -> None:
        self.reset = self.reset or self.lost is None
        self._ended(why)
        if self._transport is not None:
            self._transport.abort()

    def _ended(self, why: str) -> None:
        if self.lost is None:
            self.lost = why
        self._writable.set()
        self.gone.set()


def _keep_alive(descriptor: int) -> None:
    """A machine that has gone without a word is noticed while nothing is sent. uvloop's sockets have no options."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: BaseException) -> str:
    """What is wrong in a few words; asyncio's own texts repeat the address."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
