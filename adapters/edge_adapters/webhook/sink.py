"""The webhook sink: one request for each event or for an array of them.

When one event of several is refused the others are delivered, and known as delivered when they are given again.
What an answer means: see :mod:`edge_adapters.http.client`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import orjson

from edge_adapters.http.client import HttpClient
from edge_adapters.webhook.options import PostBody, WebhookOptions
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.templates import EventText
from edge_agent.verdict import Event

TIMESTAMP_HEADER: Final = "X-Edge-Agent-Timestamp"
SIGNATURE_HEADER: Final = "X-Edge-Agent-Signature"
_JSON: Final = "application/json"
_REMEMBERED: Final = 10_000


class WebhookSink:
    """See :class:`edge_agent.contract.Sink`."""

    def __init__(self, options: WebhookOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        headers = {name: value.reveal() for name, value in options.headers.items()}
        self._client = HttpClient(options.url, options.tls, options.timeout, headers, context.clock)
        self._text = EventText(
            "template", options.template, _event_json, context.template_failed, accept=options.accept_text
        )
        # Known still when the agent builds the sink anew, as it does after each failure.
        self._acknowledged: set[str] = context.carried if isinstance(context.carried, set) else set()
        context.carried = self._acknowledged

    async def open(self) -> None:
        """Connect once to see that somebody is there; no request is sent.

        :raises RetryableAdapterError: nobody is, or the certificate is not trusted.
        :raises AdapterError: a certificate or key file cannot be used.
        """
        await self._client.open()
        await self._client.reach()
        self._context.connected(self._client.origin)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when every event is acknowledged.

        :raises RetryableAdapterError: the receiver cannot take events now.
        :raises AdapterError: it refuses one or more events; all others have been delivered.
        """
        if len(self._acknowledged) > _REMEMBERED:
            self._acknowledged.clear()
        waiting = [event for event in events if event.id not in self._acknowledged]
        try:
            refused = await (
                self._send_array(waiting) if self._options.body is PostBody.ARRAY else self._send_each(waiting)
            )
        except RetryableAdapterError as error:
            self._context.disconnected(str(error))
            raise
        self._context.connected(self._client.origin)
        if refused is not None:
            raise refused
        self._acknowledged.difference_update(event.id for event in events)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _send_array(self, events: Sequence[Event]) -> AdapterError | None:
        if len(events) < 2:
            return await self._send_each(events, as_array=True)
        key = hashlib.sha256("\n".join(event.id for event in events).encode()).hexdigest()
        try:
            await self._send(_json([event.message() for event in events]), _JSON, key)
        except RetryableAdapterError:
            raise
        except AdapterError:
            # One event the receiver cannot stand must not take the others down with it.
            return await self._send_each(events, as_array=True)
        return None

    async def _send_each(self, events: Sequence[Event], as_array: bool = False) -> AdapterError | None:
        """Send one by one; the last refusal, if any."""
        refused: AdapterError | None = None
        for event in events:
            if as_array:
                body, content_type = _json([event.message()]), _JSON
            else:
                body, content_type = self._text.of(event).encode(), self._options.content_type
            try:
                await self._send(body, content_type, event.id)
            except RetryableAdapterError:
                raise
            except AdapterError as error:
                refused = AdapterError(f"event {event.id}: {error}")
            else:
                self._acknowledged.add(event.id)
        return refused

    async def _send(self, body: bytes, content_type: str, idempotency_key: str) -> None:
        headers = {"Content-Type": content_type, "Idempotency-Key": idempotency_key, **self._signed(body)}
        await self._client.send(self._options.method.value, body, headers, accept=self._options.accept_status)

    def _signed(self, body: bytes) -> dict[str, str]:
        """HMAC-SHA256 over timestamp, a dot and the body: a recorded request cannot be replayed later or changed."""
        if self._options.signing_key is None:
            return {}
        timestamp = str(self._context.clock.wall_ns() // NS_PER_S)
        key = self._options.signing_key.reveal().encode()
        digest = hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: f"sha256={digest}"}


def _event_json(event: Event) -> str:
    return _json(event.message()).decode()


def _json(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
