"""The MQTT source: broker to batches, with acknowledgement after acceptance and reconnects of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fnmatch import fnmatchcase

from edge_adapters.mqtt.link import Link
from edge_adapters.mqtt.options import TOPIC, MqttSourceOptions, SubscriptionOptions
from edge_adapters.mqtt.wire import Message
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import PayloadError, RetryableAdapterError
from edge_agent.payload import Field, build_decoder
from edge_agent.sample import Batch

_HEADROOM = 70_000
"""A topic may have 65,535 bytes; they come on top of the payload."""

_CACHED_TOPICS = 20_000
_FIRST_PAUSE_S = 0.5


class _Route:
    """What to do with the messages of one topic. ``decode`` None: nothing, they hold no readings."""

    __slots__ = ("decode", "retained", "sensors")

    def __init__(self, decode: Callable[[bytes], list[Field]] | None, *, retained: bool = True) -> None:
        self.decode = decode
        self.retained = retained
        self.sensors: tuple[str, ...] = ()


class _Subscription:
    """A compiled subscription."""

    def __init__(self, options: SubscriptionOptions, share: str | None) -> None:
        self._pattern = options.pattern()
        self._decoder = build_decoder(options.effective_payload())
        self._ignored = options.ignored()
        self._retained = options.retained
        self.filter = self._pattern.filter if share is None else f"$share/{share}/{self._pattern.filter}"
        self.qos = options.qos
        self.max_bytes = options.effective_payload().max_bytes

    def route(self, topic: str) -> _Route | None:
        """None when ``topic`` is not ours."""
        captures = self._pattern.match(topic)
        if captures is None:
            return None
        if any(fnmatchcase(topic, pattern) for pattern in self._ignored):
            return _Route(None)
        captures = captures or {TOPIC: topic.strip("/").replace("/", ".")}
        return _Route(self._decoder.bind(captures), retained=self._retained)


class MqttSource:
    """Reads subscriptions until cancelled. A lost broker is reached again from within; only the first try may fail."""

    def __init__(self, options: MqttSourceOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._subscriptions = [_Subscription(each, options.share) for each in options.subscriptions]
        self._max_packet = max(each.max_bytes for each in self._subscriptions) + _HEADROOM
        self._monotonic_ns = context.clock.monotonic_ns
        self._routes: dict[bytes, _Route] = {}
        self._received: set[int] = set()
        self._waiting: tuple[Message, Batch] | None = None

    async def run(self, emit: Emitter) -> None:
        """Connect, read and emit until cancelled, through any number of connections."""
        subscribed = False
        failures = 0
        while True:
            link = self._link(emit)
            try:
                session_present = await link.open()
                if not (subscribed and session_present):
                    await link.subscribe([(each.filter, each.qos) for each in self._subscriptions])
                subscribed = True
                failures = 0
                self._context.connected(self._options.address)
                await self._serve(link, emit)
            except RetryableAdapterError as error:
                self._context.disconnected(str(error))
                if not subscribed:
                    raise
            finally:
                await link.close()
            await asyncio.sleep(self._pause_s(failures))
            failures += 1

    def _link(self, emit: Emitter) -> Link:
        return Link(
            self._options,
            on_message=lambda message: self._take(message, emit.offer),
            received=self._received,
            session_expiry_s=self._options.session_expiry,
            receive_maximum=self._options.receive_maximum,
            max_packet=self._max_packet,
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

    def _pause_s(self, failures: int) -> float:
        """Full jitter: a fleet that lost its broker must not return in step."""
        longest = min(self._options.reconnect_max, _FIRST_PAUSE_S * 2.0 ** min(failures, 32))
        return self._context.random.uniform(0.0, longest)

    def _take(self, message: Message, offer: Callable[[Batch], bool]) -> bool:
        """True when done with ``message``: its readings are accepted, or it has none and never will."""
        route = self._routes.get(message.topic) or self._resolve(message.topic)
        if route.decode is None or (message.retained and not route.retained):
            return True
        if message.payload is None:
            self._reject_oversize(message)
            return True
        try:
            fields = route.decode(message.payload)
        except PayloadError as error:
            self._context.reject(error.reason, f"topic {message.topic.decode()!r}: {error}")
            return True
        batch = _batch(route, fields, self._monotonic_ns())
        if offer(batch):
            return True
        self._waiting = (message, batch)
        return False

    def _resolve(self, raw_topic: bytes) -> _Route:
        if len(self._routes) >= _CACHED_TOPICS:
            self._routes.clear()  # topics come from outside: bounded, not remembered for ever
        route = self._routes[raw_topic] = self._find_route(raw_topic)
        return route

    def _find_route(self, raw_topic: bytes) -> _Route:
        try:
            topic = raw_topic.decode()
        except UnicodeDecodeError:
            self._context.reject("topic", f"topic {raw_topic[:80]!r} is not UTF-8")
            return _Route(None)
        for subscription in self._subscriptions:
            route = subscription.route(topic)
            if route is not None:
                return route
        self._context.reject(
            "topic",
            f"topic {topic[:200]!r} matches no subscription; the broker may have an old one for this `client_id`",
        )
        return _Route(None)

    def _reject_oversize(self, message: Message) -> None:
        longest = self._max_packet - _HEADROOM
        self._context.reject(
            "too_large",
            f"topic {message.topic[:200]!r}: got {message.size} bytes, expected at most {longest} (`max_bytes`)",
        )


def _batch(route: _Route, fields: list[Field], arrival_ns: int) -> Batch:
    """Columns of one message; the same layout again gives the same tuple object of sensors."""
    if len(fields) == 1:
        name, value, time_ns, _ = fields[0]
        sensors = route.sensors
        if len(sensors) != 1 or sensors[0] is not name:
            sensors = route.sensors = (name,)
        return Batch(sensors, (value,), arrival_ns, time_ns)
    names = tuple([field.name for field in fields])
    if names != route.sensors:
        route.sensors = names
    times = [field.time_ns for field in fields]
    same = times.count(times[0]) == len(times)
    return Batch(route.sensors, [field.value for field in fields], arrival_ns, times[0] if same else times)
