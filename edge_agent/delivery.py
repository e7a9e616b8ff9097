"""Events to one sink: buffered, in order, retried with back-off, counted. A slow sink delays only itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from edge_agent.backoff import full_jitter
from edge_agent.channel import Channel, Full
from edge_agent.contract import AdapterContext, Sink, SinkOptions, StartBehaviour
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event

_log = logging.getLogger(__name__)

_BATCH = 100


class SinkRunner:
    """Delivers to one sink until :meth:`finish` has emptied the buffer, or it is cancelled.

    Events are delivered in order and at least once: a batch that was not acknowledged is delivered again, and the
    event's ``id`` lets the receiver see it. While the sink is down at most ``capacity`` events are kept, then the
    oldest go, counted.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Sink],
        options: SinkOptions,
        context: AdapterContext,
        metrics: Metrics,
    ) -> None:
        self.name = name
        self.options = options
        self.context = context
        self.channel: Channel[Event] = Channel(options.capacity, Full.DROP_OLDEST)
        self._build = build
        self._wanted = frozenset(options.events)
        self._in_hand: list[Event] = []
        self._attempt = 0
        self._delivered = metrics.events_delivered.labels(name)
        self._retried = metrics.events_retried.labels(name)
        self._refused = metrics.events_dropped.labels(name, "refused")
        self._overflow = metrics.events_dropped.labels(name, "overflow")
        self._backlog = metrics.sink_backlog.labels(name)

    @property
    def backlog(self) -> int:
        """Events not yet acknowledged."""
        return len(self.channel) + len(self._in_hand)

    def offer(self, event: Event) -> None:
        """Take an event if the sink wants its kind. Never waits."""
        if event.kind in self._wanted and not self.channel.closed:
            self.channel.offer(event)
            self._overflow.value = float(self.channel.dropped)
            self._backlog.set(self.backlog)

    def finish(self) -> None:
        """No more events will come; :meth:`run` returns when those buffered are delivered."""
        self.channel.close()

    async def run(self) -> None:
        """Until the buffer is closed and empty. :raises AdapterError: only under ``start: fail``."""
        while self._in_hand or not (self.channel.closed and not len(self.channel)):
            sink = None
            try:
                sink = self._build()
                await sink.open()
                self.context.connected(self.options.type)
                await self._deliver_all(sink)
                return
            except AdapterError as error:
                if self._gives_up(error):
                    return
                self.context.disconnected(str(error))
            except Exception:
                self.context.disconnected("a fault in the adapter, see the log")
                _log.exception("sink %s: fault in its adapter", self.name)
            finally:
                if sink is not None:
                    await self._close(sink)
            self._attempt += 1
            self._retried.inc()
            await asyncio.sleep(full_jitter(self.context.random, self._attempt, self.options.retry_max))

    async def _deliver_all(self, sink: Sink) -> None:
        while self._in_hand or await self.channel.wait():
            if not self._in_hand:
                self._in_hand = self.channel.drain(_BATCH)
            try:
                await sink.deliver(self._in_hand)
                self._acknowledged(len(self._in_hand))
            except RetryableAdapterError:
                raise
            except AdapterError:
                await self._one_by_one(sink)
            self._attempt = 0

    async def _one_by_one(self, sink: Sink) -> None:
        """The sink refuses the batch for good: find the events it refuses, so that they do not block the others."""
        for event in list(self._in_hand):
            try:
                await sink.deliver([event])
                self._acknowledged(1)
            except RetryableAdapterError:
                raise
            except AdapterError as error:
                del self._in_hand[0]
                self._refused.inc()
                _log.error("sink %s: event %s refused and given up: %s", self.name, event.id, error)

    def _acknowledged(self, count: int) -> None:
        del self._in_hand[:count]
        self._delivered.inc(count)
        self._backlog.set(self.backlog)

    def _gives_up(self, error: AdapterError) -> bool:
        if self.context.ever_connected:
            return False
        if self.options.start is StartBehaviour.FAIL:
            raise AdapterError(f"sinks.{self.name}: {error} (start: fail)") from error
        if self.options.start is StartBehaviour.IGNORE:
            self.context.state = f"ignored: {error}"
            self.channel.close()
            self.channel.drain()
            _log.warning("sink %s: ignored as configured: %s", self.name, error)
            return True
        return False

    async def _close(self, sink: Sink) -> None:
        try:
            await sink.close()
        except AdapterError as error:
            _log.warning("sink %s: while closing: %s", self.name, error)
