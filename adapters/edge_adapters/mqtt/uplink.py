"""The MQTT uplink: nudges of the ring in, the status report out as a retained message."""

from __future__ import annotations

import asyncio

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.nudge import MAX_NUDGE_BYTES, nudge_topic, parse_nudge, status_topic
from edge_adapters.mqtt.options import MqttUplinkOptions
from edge_adapters.mqtt.wire import Message
from edge_agent.contract import AdapterContext, UplinkPort
from edge_agent.errors import AdapterError, PayloadError

_HEADER_BYTES = 512
"""Room for topic (at most 265 bytes and the prefix) and properties beside the payload."""

_BURST = 500
_PER_S = 5_000.0
_PAUSE_S = 0.1
_RECEIVE_MAXIMUM = 20


class MqttUplink:
    """One connection; when it is lost, the agent makes another uplink after a pause.

    A flood is taken at 5,000 messages a second at most; what is beyond waits at the broker, under its own limits.
    """

    def __init__(self, options: MqttUplinkOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._room = float(_BURST)
        self._counted_s = 0.0
        self._waiting: Message | None = None

    async def run(self, port: UplinkPort) -> None:
        """Subscribe and publish until cancelled. :raises RetryableAdapterError, AdapterError: as in the contract."""
        options = self._options.of_gateway(port.fleet, port.gateway)
        topic = nudge_topic(options.prefix, port.fleet, port.ring)
        link = self._link(options, topic, port)
        failure: AdapterError | None = None
        try:
            await link.open()
            link.subscribe([(topic, 1)])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._serve(link), name=f"nudges to {self._context.name}")
                tasks.create_task(self._report(link, port), name=f"reports of {self._context.name}")
        except* AdapterError as errors:
            failure = _first(errors)
        finally:
            await link.close()
        if failure is not None:  # raised out here, where it does not become a group of one
            raise failure

    def _link(self, options: MqttUplinkOptions, topic: str, port: UplinkPort) -> Link:
        now_s = asyncio.get_running_loop().time
        self._counted_s = now_s()
        wanted = topic.encode()

        def take(message: Message) -> bool:
            """False when too many have come of late: reading stops for a moment."""
            self._hear(message, wanted, port)
            self._room = min(_BURST, self._room + (now_s() - self._counted_s) * _PER_S) - 1
            self._counted_s = now_s()
            if self._room > 0:
                return True
            self._waiting = message
            return False

        return Link(
            options,
            on_message=take,
            on_subscribed=lambda: self._context.connected(options.address),
            session_expiry_s=options.session_expiry,
            receive_maximum=_RECEIVE_MAXIMUM,
            max_packet=MAX_NUDGE_BYTES + len(wanted) + _HEADER_BYTES,
        )

    def _hear(self, message: Message, wanted: bytes, port: UplinkPort) -> None:
        if message.topic != wanted:
            self._context.reject("topic", f"got {message.topic[:80]!r}, expected {wanted!r}; an old subscription?")
        elif message.payload != b"":  # empty: what the broker had kept was taken back
            try:
                port.look(parse_nudge(message.payload))
            except PayloadError as error:
                self._context.reject(error.reason, str(error))

    async def _serve(self, link: Link) -> None:
        """Let a flood wait; ends by the link's exception only."""
        while True:
            await link.wait_paused()
            await asyncio.sleep(_PAUSE_S)
            if self._waiting is not None:
                link.accept(self._waiting)
                self._waiting = None
            link.resume()

    async def _report(self, link: Link, port: UplinkPort) -> None:
        topic = status_topic(self._options.prefix, port.fleet, port.gateway)
        while True:
            report = await port.next_report()
            await link.publish([(topic, report)], qos=1, retain=True, timeout_s=self._options.timeout)


def _first(errors: BaseExceptionGroup[AdapterError]) -> AdapterError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, AdapterError)
    return found
