"""Messages to batches: which subscription reads a topic, and what its readings are called. No input or output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from edge_adapters.mqtt.options import TOPIC, SubscriptionOptions
from edge_adapters.mqtt.wire import Message
from edge_agent.errors import PayloadError
from edge_agent.payload import Field, build_decoder
from edge_agent.sample import Batch

_CACHED_TOPICS = 20_000

Reject = Callable[[str, str], None]
"""Called with reason and message for what could not be understood."""


class _Route:
    """What to do with the messages of one topic. ``decode`` None: nothing, they hold no readings."""

    __slots__ = ("decode", "retained", "sensors")

    def __init__(self, decode: Callable[[bytes], list[Field]] | None, *, retained: bool = True) -> None:
        self.decode = decode
        self.retained = retained
        self.sensors: tuple[str, ...] = ()


class _Subscription:
    """A compiled subscription."""

    def __init__(self, options: SubscriptionOptions) -> None:
        payload = options.effective_payload()
        self._pattern = options.pattern()
        self._decoder = build_decoder(payload)
        self._ignored = options.ignored()
        self._retained = options.retained
        self.max_bytes = payload.max_bytes

    def route(self, topic: str) -> _Route | None:
        """None when ``topic`` is not ours."""
        captures = self._pattern.match(topic)
        if captures is None:
            return None
        if any(fnmatchcase(topic, pattern) for pattern in self._ignored):
            return _Route(None)
        captures = captures or {TOPIC: topic.strip("/").replace("/", ".")}
        return _Route(self._decoder.bind(captures), retained=self._retained)


class Router:
    """All subscriptions of a source. What a topic resolves to is remembered, within bounds."""

    def __init__(self, subscriptions: Sequence[SubscriptionOptions], reject: Reject) -> None:
        self._subscriptions = [_Subscription(options) for options in subscriptions]
        self._reject = reject
        self._routes: dict[bytes, _Route] = {}
        self.max_bytes = max(subscription.max_bytes for subscription in self._subscriptions)

    def read(self, message: Message, arrival_ns: int) -> Batch | None:
        """The readings, or None when there are none and never will be; what is not understood is rejected."""
        route = self._routes.get(message.topic) or self._resolve(message.topic)
        if route.decode is None or (message.retained and not route.retained):
            return None
        if message.payload is None:
            self._reject("too_large", f"{_named(message)}: got {message.size} bytes; see the option `max_bytes`")
            return None
        try:
            fields = route.decode(message.payload)
        except PayloadError as error:
            self._reject(error.reason, f"{_named(message)}: {error}")
            return None
        return _batch(route, fields, arrival_ns)

    def _resolve(self, raw_topic: bytes) -> _Route:
        if len(self._routes) >= _CACHED_TOPICS:
            self._routes.clear()  # topics come from outside: bounded, not remembered for ever
        route = self._routes[raw_topic] = self._find(raw_topic)
        return route

    def _find(self, raw_topic: bytes) -> _Route:
        try:
            topic = raw_topic.decode()
        except UnicodeDecodeError:
            self._reject("topic", f"topic {raw_topic[:80]!r} is not UTF-8")
            return _Route(None)
        for subscription in self._subscriptions:
            route = subscription.route(topic)
            if route is not None:
                return route
        self._reject(
            "topic",
            f"topic {topic[:200]!r} matches no subscription; the broker may have an old one for this `client_id`",
        )
        return _Route(None)


def _named(message: Message) -> str:
    return f"topic {message.topic.decode(errors='replace')[:200]!r}"


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
