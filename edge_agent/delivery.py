"""Events to one sink: buffered, in order, retried with back-off, counted. A slow sink delays only itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from edge_agent.backoff import full_jitter, is_own_cancellation
from edge_agent.channel import Channel, Full
from edge_agent.contract import AdapterContext, Sink, SinkOptions, StartBehaviour
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind

_log = logging.getLogger(__name__)

_BATCH = 100
_LAST_PAUSE_S = 0.5


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
        self._wanted = frozenset(options.events) | ({EventKind.DIGEST} if options.digest is not None else set())
        self._in_hand: list[Event] = []
        self._attempt = 0
        self._finishing = asyncio.Event()
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
        self._finishing.set()

    def give_back(self) -> list[Event]:
        """Events not acknowledged, oldest first, for another runner to deliver; call it when :meth:`run` has ended."""
        events, self._in_hand = self._in_hand + self.channel.drain(), []
        self._backlog.set(0)
        return events

    async def run(self) -> None:
        """Until the buffer is closed and empty. :raises AdapterError: only under ``start: fail``."""
        while self._in_hand or not (self.channel.closed and not len(self.channel)):
            error = await self._try()
            if error is None or self._gives_up(error):
                break
            self.context.disconnected(str(error))
            self._attempt += 1
            self._retried.inc()
            await self._pause()
        if self.context.state == "connected":
            self.context.ended("finished")

    async def _try(self) -> AdapterError | None:
        """Connect and deliver until the buffer is closed and empty; the error when that did not go well."""
        sink = None
        try:
            sink = self._build()
            await sink.open()
            self.context.connected(self.options.type)
            await self._deliver_all(sink)
        except AdapterError as error:
            return error
        except (Exception, asyncio.CancelledError) as error:
            if is_own_cancellation(error):
                raise
            _log.exception("sink %s: fault in its adapter", self.name)
            return RetryableAdapterError("a fault in the adapter, see the log")
        finally:
            if sink is not None:
                await self._close(sink)
        return None

    async def _pause(self) -> None:
        """Back off; while the agent is told to stop there is no time for long pauses."""
        longest_s = _LAST_PAUSE_S if self._finishing.is_set() else self.options.retry_max
        pause_s = full_jitter(self.context.random, self._attempt, longest_s)
        if self._finishing.is_set():
            await asyncio.sleep(pause_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._finishing.wait()

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
            self.context.ended(f"ignored: {error}")
            self.channel.close()
            self.channel.drain()
            _log.warning("sink %s: ignored as configured: %s", self.name, error)
            return True
        return False

    async def _close(self, sink: Sink) -> None:
        try:
            await sink.close()
        except Exception as error:  # what was delivered is delivered, however the sink takes its leave
            _log.warning("sink %s: while closing: %s", self.name, error)
