"""Syslog messages as datagrams (RFC 5426): what is lost on the way is lost, unless somebody on the way says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from edge_agent.errors import RetryableAdapterError


class Datagrams(asyncio.DatagramProtocol):
    """A connected UDP socket."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._transport: asyncio.DatagramTransport | None = None
        self._error: Exception | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, host: str, port: int, address: str, timeout_s: float) -> Datagrams:
        """Look the receiver up. :raises RetryableAdapterError: there is no such name, or no way to it."""
        loop = asyncio.get_running_loop()
        datagrams = cls(address)
        try:
            async with asyncio.timeout(timeout_s):
                await loop.create_datagram_endpoint(lambda: datagrams, remote_addr=(host, port))
        except TimeoutError as error:
            raise RetryableAdapterError(f"{address}: not found within {timeout_s:g} s; check `host`") from error
        except (OSError, UnicodeError) as error:
            raise RetryableAdapterError(f"{address}: {error}; check `host`") from error
        return datagrams

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def error_received(self, exc: Exception) -> None:
        self._error = exc

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = self._error or exc
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def send(self, messages: Sequence[bytes]) -> None:
        """Hand ``messages`` to the network, one datagram each.

        :raises RetryableAdapterError: this machine cannot send, or was told that nobody listens there (ICMP).
        """
        assert self._transport is not None
        self._error = None
        for message in messages:
            self._transport.sendto(message)
            await self._writable.wait()
            await asyncio.sleep(0)  # an ICMP message about the one before is heard here
            if self._error is not None:
                break
        await asyncio.sleep(0)
        if self._error is not None:
            reason = getattr(self._error, "strerror", None) or str(self._error)
            raise RetryableAdapterError(f"{self._address}: {reason}")

    def close(self) -> None:
        """Release the socket."""
        if self._transport is not None:
            self._transport.close()
