"""Requests to one server, and what its answers mean for a delivery.

==========================================================  ==================================================
2xx                                                         delivered
what says nothing of the event (:mod:`.status`), no         ``RetryableAdapterError``: delivered again later
connection, no answer in time, an untrusted certificate
every other 4xx                                             ``AdapterError``: refused
==========================================================  ==================================================

Redirects are not followed: they would take secrets elsewhere. Of an answer at most 300 bytes are shown when it is a
refusal, without what the request carried.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from edge_adapters.http.echo import Mask
from edge_adapters.http.status import may_pass
from edge_adapters.http.url import origin
from edge_agent.clock import NS_PER_S, Clock
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.tls import TlsOptions, client_context

_SHOWN: Final = 300
_READ_BYTES: Final = 4_000  # more than is shown: a secret that is cut off would not be known again


class HttpClient:
    """One connection to the server of ``url``, kept open between requests."""

    def __init__(self, url: str, tls: TlsOptions, timeout_s: float, headers: Mapping[str, str], clock: Clock) -> None:
        self.url = url
        self.origin = origin(url)
        self._clock = clock
        self._server_ns: int | None = None  # its clock less our monotonic one
        self._tls = tls
        self._timeout_s = timeout_s
        self._headers = headers
        self._mask = Mask(url, headers)
        self._session: aiohttp.ClientSession | None = None

    @property
    def server_time_ns(self) -> int | None:
        """What the server's clock says now, by its last answer (since 1970); None when that had no time in it."""
        return None if self._server_ns is None else self._server_ns + self._clock.monotonic_ns()

    async def open(self) -> None:
        """Prepare TLS and the session; nothing is sent. :raises AdapterError: a certificate file cannot be used."""
        tls = await asyncio.to_thread(client_context, self._tls)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=1),
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=dict(self._headers),
        )

    async def reach(self) -> None:
        """Connect, with TLS where the URL has it, and let go again; no request is sent.

        :raises RetryableAdapterError: there is nobody, or nobody whose certificate is trusted.
        """
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        context = await asyncio.to_thread(client_context, self._tls) if secure else None
        name = (self._tls.server_name or parts.hostname) if secure else None
        try:
            async with asyncio.timeout(self._timeout_s):
                _, writer = await asyncio.open_connection(
                    parts.hostname, parts.port or (443 if secure else 80), ssl=context, server_hostname=name
                )
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {self._timeout_s:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from error
        except OSError as error:
            raise self._unreachable(f"cannot connect: {_reason(error)}") from error
        writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(
        self,
        method: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        accept: Collection[int] = (),
    ) -> None:
        """Return when the server has answered with a status of ``accept`` (none given: 2xx).

        :raises RetryableAdapterError: it cannot be reached, or cannot take this now. :raises AdapterError: it refuses.
        """
        await self._exchange(method, body, headers, url, accept)

    async def fetch(self, url: str, headers: Mapping[str, str], max_bytes: int) -> bytes:
        """What the server has at ``url``.

        :raises RetryableAdapterError: it cannot be reached, or answers with more than ``max_bytes``.
        :raises AdapterError: it refuses.
        """
        return await self._exchange("GET", None, headers, url, (), max_bytes)

    async def _exchange(
        self,
        method: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        url: str | None,
        accept: Collection[int],
        max_bytes: int | None = None,
    ) -> bytes:
        """One request; of the answer at most ``max_bytes`` are read, None: nothing."""
        if self._session is None:
            raise RetryableAdapterError(f"{self.origin}: the connection is not open")
        try:
            async with self._session.request(
                method,
                url or self.url,
                data=body,
                headers=headers,
                allow_redirects=False,
                server_hostname=self._tls.server_name,
            ) as response:
                self._note_time(response.headers.get("Date"))
                if response.status not in accept if accept else response.status // 100 != 2:
                    raise self._refusal(response, await response.content.read(_READ_BYTES))
                return b"" if max_bytes is None else await self._content(response.content, max_bytes)
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._untrusted(error.certificate_error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(self._mask(_words(error))[:_SHOWN]) from error

    async def _content(self, stream: aiohttp.StreamReader, max_bytes: int) -> bytes:
        found = bytearray()
        while chunk := await stream.read(max_bytes + 1 - len(found)):
            found += chunk
            if len(found) > max_bytes:
                raise self._unreachable(f"it answers with more than {max_bytes} bytes")
        return bytes(found)

    def _untrusted(self, reason: Exception) -> RetryableAdapterError:
        return self._unreachable(f"its certificate is not trusted: {reason}; see `tls.ca_file`")

    def _unreachable(self, reason: str) -> RetryableAdapterError:
        return RetryableAdapterError(f"{self.origin}: {reason}")

    def _refusal(self, response: aiohttp.ClientResponse, text: bytes) -> AdapterError:
        status = response.status
        shown = self._mask(text.decode(errors="replace"))[:_SHOWN]
        said = f": {shown!r}" if shown else ""
        reason = self._mask(response.reason or "")[:60]
        if status // 100 == 3:
            where = f"{self.origin}: HTTP {status} {reason}"
            return RetryableAdapterError(f"{where}: redirects are not followed; correct the URL")
        if may_pass(status):
            after = self._mask(response.headers.get("Retry-After", ""))
            wait = f" (Retry-After: {after!r:.40})" if after else ""
            return RetryableAdapterError(f"{self.origin}: HTTP {status} {reason}{wait}{said}")
        return AdapterError(f"{self.origin}: HTTP {status} {reason}{said}")

    def _note_time(self, date: str | None) -> None:
        self._server_ns = None
        if date is not None:
            with contextlib.suppress(ValueError, OverflowError):
                answered_ns = round(parsedate_to_datetime(date).timestamp() * NS_PER_S)
                self._server_ns = answered_ns - self._clock.monotonic_ns()


def _words(error: Exception) -> str:
    """What the library says, but for the URL."""
    if isinstance(error, aiohttp.ClientResponseError):
        said = " ".join(error.message.split())
        return f"it answers something that is no HTTP: {said}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect: {_reason(error.os_error)}"
    if isinstance(error, aiohttp.InvalidURL):
        return "its URL cannot be used"
    return f"{type(error).__name__}: {error}"


def _reason(error: OSError) -> str:
    number = error.errno or 0
    return os.strerror(number) if number > 0 else str(error)  # name resolution and TLS have numbers of their own
