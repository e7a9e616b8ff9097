"""The MQTT sink: events to a broker as JSON messages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.options import MqttSinkOptions
from edge_agent.backoff import full_jitter
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError
from edge_agent.templates import EventText
from edge_agent.verdict import Event


class MqttSink:
    """Publishes each event's body. Between deliveries, which may be days apart, a lost broker is reached again."""

    def __init__(self, options: MqttSinkOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._link: Link | None = None
        self._payload = EventText("template", options.template, _body_json, context.template_failed)
        self._connecting = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. :raises RetryableAdapterError, AdapterError: as in the contract."""
        await self._connected()
        self._keeper = asyncio.create_task(self._keep_connected(), name=f"mqtt sink {self._context.name}: reconnect")

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when the broker has acknowledged every event (PUBACK or PUBCOMP; QoS 0: when sent)."""
        messages = [(self._topic(event), self._payload.of(event).encode()) for event in events]
        link = await self._connected()
        try:
            await link.publish(
                messages, qos=self._options.qos, retain=self._options.retain, timeout_s=self._options.timeout
            )
        except AdapterError as error:
            # Unacknowledged events are given to us again: this connection must not send them as well.
            link.drop(error)
            raise

    async def close(self) -> None:
        """Disconnect and release the socket."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _connected(self) -> Link:
        """The connection, made anew if it is lost."""
        async with self._connecting:
            if self._link is None or self._link.lost:
                self._link = Link(self._options)
                try:
                    await self._link.open()
                except BaseException:
                    await self._link.close()
                    self._link = None
                    raise
                self._context.connected(self._options.address)
            return self._link

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                link = await self._connected()
                failures = 0
                await link.wait_lost()
            except AdapterError as error:
                # Not the end of the sink: the next delivery raises what is wrong to who can judge it.
                self._context.disconnected(str(error))
            failures += 1
            await asyncio.sleep(full_jitter(self._context.random, failures, self._options.retry_max))

    def _topic(self, event: Event) -> str:
        severity = str(event.body.get("severity", "none"))
        topic = self._options.replay_topic if event.replayed and self._options.replay_topic else self._options.topic
        return topic.format(kind=event.kind.value, id=event.id, severity=severity)


def _body_json(event: Event) -> str:
    # `id` in the body is the incident's; this one is the event's, by which a receiver knows a repetition.
    body = {**event.body, "event_id": event.id}
    if event.replayed:
        body["replayed"] = True
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY).decode()
