"""The MQTT sink: events to a broker as JSON messages."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.options import MqttSinkOptions
from edge_agent.contract import AdapterContext
from edge_agent.errors import AdapterError
from edge_agent.verdict import Event


class MqttSink:
    """Publishes each event's body. A connection that is lost is made anew by the next delivery."""

    def __init__(self, options: MqttSinkOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._link: Link | None = None

    async def open(self) -> None:
        """Connect. :raises RetryableAdapterError, AdapterError: as in the contract."""
        # Nothing of an earlier connection is taken over: undelivered events are given to us again.
        self._link = Link(self._options)
        await self._link.open()
        self._context.connected(self._options.address)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when the broker has acknowledged every event (PUBACK or PUBCOMP; QoS 0: when sent)."""
        messages = [(self._topic(event), orjson.dumps(event.body)) for event in events]
        try:
            if self._link is None:
                await self.open()
            if self._link is not None:
                await self._link.publish(
                    messages, qos=self._options.qos, retain=self._options.retain, timeout_s=self._options.timeout
                )
        except AdapterError as error:
            self._context.disconnected(str(error))
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect and release the socket."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    def _topic(self, event: Event) -> str:
        severity = str(event.body.get("severity", "none"))
        return self._options.topic.format(kind=event.kind.value, id=event.id, severity=severity)
