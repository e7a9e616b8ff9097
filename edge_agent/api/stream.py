"""Live events for any number of watchers, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import orjson

from edge_agent.channel import Channel, Full
from edge_agent.errors import ControlError
from edge_agent.metrics import Counter
from edge_agent.verdict import Event, EventKind

_CAPACITY = 256


class EventStream:
    """Gives every published event to every subscriber; one that reads too slowly loses the oldest (``dropped``)."""

    def __init__(self, max_streams: int, dropped: Counter) -> None:
        self._max_streams = max_streams
        self._dropped = dropped
        self._channels: dict[Channel[bytes], Collection[EventKind]] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def publish(self, event: Event) -> None:
        """Hand over ``event``; costs nothing while nobody watches and never waits."""
        wanted = [channel for channel, kinds in self._channels.items() if event.kind in kinds]
        if not wanted:
            return
        frame = encode(event)
        for channel in wanted:
            lost_before = channel.dropped
            channel.offer(frame)
            self._dropped.inc(channel.dropped - lost_before)

    @contextmanager
    def subscribe(self, kinds: Collection[EventKind]) -> Iterator[Channel[bytes]]:
        """A channel of encoded events. :raises ControlError: 503 when there are too many watchers already."""
        if len(self._channels) >= self._max_streams:
            raise ControlError(
                f"{self._max_streams} clients already watch the events (option api.max_streams); close one", status=503
            )
        channel: Channel[bytes] = Channel(_CAPACITY, Full.DROP_OLDEST)
        self._channels[channel] = kinds
        try:
            yield channel
        finally:
            del self._channels[channel]

    def close(self) -> None:
        """End all streams once they have sent what is buffered."""
        for channel in self._channels:
            channel.close()


def encode(event: Event) -> bytes:
    """One frame; JSON has no line ends inside, so one ``data`` line is enough."""
    data = orjson.dumps(event.body, option=orjson.OPT_SERIALIZE_NUMPY)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.value.encode(), data)


def missed(count: int) -> bytes:
    """The frame that tells a slow client how many events it did not get."""
    return b'event: missed\ndata: {"count": %d}\n\n' % count
