"""The message bus of the plant: an embedded broker, and the publisher of stages 1, 2 and 6."""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson
import paho.mqtt.client as paho
from amqtt.broker import Broker
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.demo.effects import Vector
from edge_agent.demo.tags import INDEX
from edge_agent.demo.wiring import PUBLISHED, Address, topic
from edge_agent.verdict import rfc3339


class EmbeddedBroker:
    """An MQTT 3.1.1 broker on loopback, open to everyone who can reach it: for demonstrations only."""

    def __init__(self) -> None:
        self._broker: Broker | None = None

    async def start(self, host: str, port: int) -> Address:
        """Listen (port 0: any free one) and give the address. :raises OSError: the port is taken."""
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.ERROR)
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        await broker.start()
        self._broker = broker
        listener: Any = broker._servers["default"].instance
        return Address(host, int(listener.sockets[0].getsockname()[1]))

    async def stop(self) -> None:
        """Disconnect everyone and close."""
        if self._broker is not None:
            await self._broker.shutdown()


class Publisher:
    """Publishes one JSON message a tag and tick: ``{"value": 612.5, "unit": "mm", "time": "…Z"}``."""

    def __init__(self, broker: Address) -> None:
        self._broker = broker
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="")
        self._client.reconnect_delay_set(min_delay=1, max_delay=5)
        self._topics = [(INDEX[tag.name], topic(tag), tag.unit) for tag in PUBLISHED]

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._client.connect_async(self._broker.host, self._broker.port, keepalive=30)
        self._client.loop_start()

    def update(self, values: Vector, time_ns: int) -> None:
        """Publish what has a reading; nothing while the broker is away (a real device would not queue either)."""
        if not self._client.is_connected():
            return
        time = rfc3339(time_ns)
        for index, name, unit in self._topics:
            value = float(values[index])
            if not math.isnan(value):
                self._client.publish(name, orjson.dumps({"value": value, "unit": unit, "time": time}))

    def stop(self) -> None:
        """Say good-bye to the broker and end the background thread."""
        self._client.disconnect()
        self._client.loop_stop()
