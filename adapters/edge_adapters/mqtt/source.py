"""The MQTT source: broker to batches, with acknowledgement after acceptance and reconnects of its own."""

from __future__ import annotations

import asyncio

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.options import MqttSourceOptions
from edge_adapters.mqtt.routing import Router
from edge_adapters.mqtt.wire import Message
from edge_agent.backoff import full_jitter
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import RetryableAdapterError
from edge_agent.sample import Batch

_HEADROOM = 70_000
"""A topic may have 65,535 bytes; they come on top of the payload."""


class MqttSource:
    """Reads subscriptions until cancelled. A lost broker is reached again from within; only the first try may fail."""

    def __init__(self, options: MqttSourceOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._router = Router(options.subscriptions, context.reject)
        share = "" if options.share is None else f"$share/{options.share}/"
        self._filters = [(share + each.pattern().filter, each.qos) for each in options.subscriptions]
        self._received: set[int] = set()
        self._subscribed = False
        self._failures = 0
        self._waiting: tuple[Message, Batch] | None = None

    async def run(self, emit: Emitter) -> None:
        """Connect, read and emit until cancelled, through any number of connections."""
        while True:
            link = self._link(emit)
            try:
                session_present = await link.open()
                if self._subscribed and session_present:
                    self._on_subscribed()
                else:
                    link.subscribe(self._filters)
                await self._serve(link, emit)
            except RetryableAdapterError as error:
                self._context.disconnected(str(error))
                if not self._subscribed:
                    raise
            finally:
                await link.close()
            self._failures += 1
            await asyncio.sleep(full_jitter(self._context.random, self._failures, self._options.reconnect_max))

    def _on_subscribed(self) -> None:
        self._subscribed = True
        self._failures = 0
        self._context.connected(self._options.address)

    def _link(self, emit: Emitter) -> Link:
        read, monotonic_ns = self._router.read, self._context.clock.monotonic_ns

        def take(message: Message) -> bool:
            """True when done with ``message``: its readings are accepted, or it has none."""
            batch = read(message, monotonic_ns())
            if batch is None or emit.offer(batch):
                return True
            self._waiting = (message, batch)
            return False

        return Link(
            self._options,
            on_message=take,
            on_subscribed=self._on_subscribed,
            received=self._received,
            session_expiry_s=self._options.session_expiry,
            receive_maximum=self._options.receive_maximum,
            max_packet=self._router.max_bytes + _HEADROOM,
        )

    async def _serve(self, link: Link, emit: Emitter) -> None:
        """Wait for room whenever there is none; ends by the link's exception only."""
        while True:
            await link.wait_paused()
            if self._waiting is not None:
                message, batch = self._waiting
                self._waiting = None
                await emit.send(batch)
                link.accept(message)
            link.resume()
