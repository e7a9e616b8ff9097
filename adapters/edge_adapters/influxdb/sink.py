"""The InfluxDB sink: points in batches; those the server refuses are counted, and take no others with them.

==============================================  ========================================================
2xx                                             delivered
400, 422 "partial write"                        the rest is delivered, ``dropped=N`` is counted
other 400, 422; 413                             halved until the points at fault are found, which are counted
429, 503 with ``Retry-After``                   waited for, then ``RetryableAdapterError``
everything else, no connection, no answer       ``RetryableAdapterError``: delivered again later
==============================================  ========================================================
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import aiohttp

from edge_adapters.http.echo import Mask
from edge_adapters.influxdb.lines import Lines
from edge_adapters.influxdb.options import InfluxOptions
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext
from edge_agent.errors import RetryableAdapterError
from edge_agent.tls import client_context
from edge_agent.verdict import Event

_REFUSED: Final = frozenset({400, 422})
_TOO_LARGE: Final = 413
_LATER: Final = frozenset({429, 503})
_DROPPED: Final = re.compile(r"dropped=(\d+)")
_SHOWN_BYTES: Final = 2_000
_LONGEST_WAIT_S: Final = 300.0


class InfluxSink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: InfluxOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._lines = Lines(options.prefix, options.tags)
        self._session: aiohttp.ClientSession | None = None
        self._url, self._query, self._headers = _request(options)
        self._mask = Mask("", self._headers)

    async def open(self) -> None:
        """Prepare TLS and the session. Nothing is sent: a server that is down is met at the first event.

        :raises AdapterError: a certificate or key file cannot be used.
        """
        tls = await asyncio.to_thread(client_context, self._options.tls)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=1),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when the server has all points that it takes. :raises RetryableAdapterError: it takes none now."""
        async for batch in self._batches(events):
            await self._write(batch)
        if events:
            self._context.connected(self._options.target)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _batches(self, events: Sequence[Event]) -> AsyncIterator[list[str]]:
        batch: list[str] = []
        for event in events:
            for line in self._lines.lines(event):
                batch.append(line)
                if len(batch) == self._options.batch:
                    yield batch
                    batch = []
            await asyncio.sleep(0)  # an event can hold thousands of points: the tick comes first
        if batch:
            yield batch

    async def _write(self, lines: Sequence[str]) -> None:
        status, said = await self._post(lines)
        if status // 100 == 2:
            return
        if status in _REFUSED and "partial write" in said:
            self._refused(said, int(found[1]) if (found := _DROPPED.search(said)) else 0)
        elif status in _REFUSED or status == _TOO_LARGE:
            await self._halve(lines, said)
        else:
            raise self._unusable(f"HTTP {status}: {said!r}")

    async def _halve(self, lines: Sequence[str], said: str) -> None:
        """The server took none of ``lines``: one that it cannot stand must not take the others down."""
        if len(lines) == 1:
            self._refused(said, 1)
            return
        middle = len(lines) // 2
        await self._write(lines[:middle])
        await self._write(lines[middle:])

    def _refused(self, said: str, count: int) -> None:
        self._context.parts_lost("refused", f"{self._options.target} refuses points: {said!r:.500}", count)

    async def _post(self, lines: Sequence[str]) -> tuple[int, str]:
        """Status and text of the answer; waits as long as the server asks for."""
        if self._session is None:
            raise RetryableAdapterError(f"{self._options.target}: the sink is not open")
        body = "\n".join(lines).encode(errors="replace")
        headers = {}
        if self._options.gzip:
            body = await asyncio.to_thread(gzip.compress, body, 5)
            headers["Content-Encoding"] = "gzip"
        try:
            async with self._session.post(
                self._url,
                params=self._query,
                data=body,
                headers=headers,
                allow_redirects=False,
                server_hostname=self._options.tls.server_name,
            ) as response:
                said = self._mask((await response.content.read(_SHOWN_BYTES)).decode(errors="replace").strip())
                status, after = response.status, response.headers.get("Retry-After", "")
        except TimeoutError as error:
            raise self._unusable(f"no answer within {self._options.timeout:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._unusable(
                f"its certificate is not trusted: {error.certificate_error}; see `tls.ca_file`"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unusable(f"{type(error).__name__}: {error}") from error
        if status in _LATER and after:
            await self._wait(status, after)
        return status, said

    async def _wait(self, status: int, after: str) -> None:
        """As long as ``Retry-After`` says in seconds (RFC 9110, 10.2.3); dates and rubbish are left to the back-off."""
        if not re.fullmatch(r"\d{1,6}", after.strip()):
            return
        wait_s = min(float(after), _LONGEST_WAIT_S)
        self._context.disconnected(f"HTTP {status}, again in {wait_s:g} s")
        await self._context.clock.sleep_until(self._context.clock.monotonic_ns() + round(wait_s * NS_PER_S))

    def _unusable(self, reason: str) -> RetryableAdapterError:
        return RetryableAdapterError(f"{self._options.target}: {reason}")


def _request(options: InfluxOptions) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
    """Address, query and headers of every request."""
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if options.bucket is not None:
        query = {"bucket": options.bucket, "org": options.org or "", "precision": "ns"}
        if options.token is not None:
            headers["Authorization"] = f"Token {options.token.reveal()}"
        return f"{options.url}/api/v2/write", {name: value for name, value in query.items() if value}, headers
    query = {"db": options.database or "", "rp": options.retention_policy or "", "precision": "ns"}
    if options.username is not None:
        password = options.password.reveal() if options.password is not None else ""
        pair = base64.b64encode(f"{options.username}:{password}".encode()).decode()  # RFC 7617
        headers["Authorization"] = f"Basic {pair}"
    return f"{options.url}/write", {name: value for name, value in query.items() if value}, headers
