"""The webhook sink: one POST for each event or for an array of them.

================================================  ==================================================
2xx                                               delivered
408, 425, 429, 5xx, no connection, timeout, TLS   ``RetryableAdapterError``: delivered again later
3xx and every other 4xx                           ``AdapterError``: the receiver refuses this event
================================================  ==================================================

When one event of several is refused the others are delivered, and known as delivered when they are given again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import orjson

from edge_adapters.webhook.options import PostBody, WebhookOptions, WebhookTls, origin
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.verdict import Event

TIMESTAMP_HEADER: Final = "X-Edge-Agent-Timestamp"
SIGNATURE_HEADER: Final = "X-Edge-Agent-Signature"
_RETRYABLE: Final = frozenset({401, 403, 407, 408, 425, 429})  # tokens expire and are mended: no reason to lose events
_SHOWN_BYTES: Final = 300
_REMEMBERED: Final = 10_000


class WebhookSink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: WebhookOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._origin = origin(options.url)
        self._session: aiohttp.ClientSession | None = None
        self._acknowledged: set[str] = set()

    async def open(self) -> None:
        """Prepare TLS and the session. Nothing is sent: a webhook that is down is met at the first event.

        :raises AdapterError: a certificate or key file cannot be used.
        """
        tls = await asyncio.to_thread(_tls_context, self._options.tls)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=1),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={name: value.reveal() for name, value in self._options.headers.items()},
        )

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when every event is acknowledged.

        :raises RetryableAdapterError: the receiver cannot take events now.
        :raises AdapterError: it refuses one or more events; all others have been delivered.
        """
        if len(self._acknowledged) > _REMEMBERED:
            self._acknowledged.clear()
        waiting = [event for event in events if event.id not in self._acknowledged]
        refused = await (
            self._post_array(waiting) if self._options.body is PostBody.ARRAY else self._post_each(waiting)
        )
        self._context.connected(self._origin)
        if refused is not None:
            raise refused
        self._acknowledged.difference_update(event.id for event in events)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post_array(self, events: Sequence[Event]) -> AdapterError | None:
        if len(events) < 2:
            return await self._post_each(events, as_array=True)
        key = hashlib.sha256("\n".join(event.id for event in events).encode()).hexdigest()
        try:
            await self._post([event.message() for event in events], key)
        except RetryableAdapterError:
            raise
        except AdapterError:
            # One event the receiver cannot stand must not take the others down with it.
            return await self._post_each(events, as_array=True)
        return None

    async def _post_each(self, events: Sequence[Event], as_array: bool = False) -> AdapterError | None:
        """Post one by one; the last refusal, if any."""
        refused: AdapterError | None = None
        for event in events:
            document = event.message()
            try:
                await self._post([document] if as_array else document, event.id)
            except RetryableAdapterError:
                raise
            except AdapterError as error:
                refused = AdapterError(f"event {event.id}: {error}")
            else:
                self._acknowledged.add(event.id)
        return refused

    async def _post(self, document: Any, idempotency_key: str) -> None:
        if self._session is None:
            raise RetryableAdapterError(f"{self._origin}: the sink is not open")
        body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            async with self._session.post(
                self._options.url,
                data=body,
                headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key, **self._signed(body)},
                allow_redirects=False,
                server_hostname=self._options.tls.server_name,
            ) as response:
                if response.status // 100 != 2:
                    raise _refusal(self._origin, response, await response.content.read(_SHOWN_BYTES))
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {self._options.timeout:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise self._unreachable(
                f"its certificate is not trusted: {error.certificate_error}; see `tls.ca_file`"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(f"{type(error).__name__}: {error}") from error

    def _signed(self, body: bytes) -> dict[str, str]:
        """HMAC-SHA256 over timestamp, a dot and the body: a recorded POST cannot be replayed later or changed."""
        if self._options.signing_key is None:
            return {}
        timestamp = str(self._context.clock.wall_ns() // NS_PER_S)
        key = self._options.signing_key.reveal().encode()
        digest = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: f"sha256={digest}"}

    def _unreachable(self, reason: str) -> RetryableAdapterError:
        self._context.disconnected(reason)
        return RetryableAdapterError(f"{self._origin}: {reason}")


def _refusal(where: str, response: aiohttp.ClientResponse, text: bytes) -> AdapterError:
    status = response.status
    said = f": {text.decode(errors='replace')!r}" if text else ""
    if status in _RETRYABLE or status >= 500:
        after = response.headers.get("Retry-After")
        wait = f" (Retry-After: {after!r:.40})" if after else ""
        return RetryableAdapterError(f"{where}: HTTP {status} {response.reason}{wait}{said}")
    if status // 100 == 3:
        return AdapterError(f"{where}: HTTP {status} {response.reason}: redirects are not followed; correct `url`")
    return AdapterError(f"{where}: HTTP {status} {response.reason}{said}")


def _tls_context(tls: WebhookTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            # A password is never asked for on the terminal of a daemon: an encrypted key is an error.
            context.load_cert_chain(tls.cert_file, tls.key_file, password=b"")
    except (OSError, ValueError) as error:
        files = ", ".join(str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None)
        raise AdapterError(f"tls: {files} cannot be used: {error}") from error
    return context
