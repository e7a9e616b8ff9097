"""Events to one sink: kept, in order, retried with back-off, counted. A slow sink delays only itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from edge_agent.backoff import full_jitter, is_own_cancellation
from edge_agent.clock import NS_PER_S
from edge_agent.contract import AdapterContext, Sink, SinkOptions, StartBehaviour
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.outbox import Outbox, Waiting
from edge_agent.verdict import Event, EventKind

_log = logging.getLogger(__name__)

_PER_REPLAY_S = 0.1  # what is late comes in portions of so long, and whatever is new waits no longer than for one
_LAST_PAUSE_S = 0.5
_LAST_ATTEMPTS_S = 2.0  # for a sink that is down when the agent stops; the outbox keeps what it does not take
_LOOK_EVERY_S = 5.0  # at a disk that has not answered yet, or did not take what it was given
_LOOK_AGAIN_MAX_S = 60.0


class SinkRunner:
    """Delivers to one sink what is in its outbox, until :meth:`finish` has let it empty the live lane, or cancelled.

    Live events go first, then those that are late, paced and flagged; each lane in order, each event at least once: a
    batch that was not acknowledged is delivered again, and the event's ``id`` lets the receiver see it.
    """

    def __init__(
        self,
        name: str,
        build: Callable[[], Sink],
        options: SinkOptions,
        context: AdapterContext,
        metrics: Metrics,
        outbox: Outbox,
    ) -> None:
        self.name = name
        self.options = options
        self.context = context
        self.outbox = outbox
        self._build = build
        self._wanted = frozenset(options.events) | {EventKind.DIGEST}  # made for one sink, of what it wants
        self._attempt = 0
        self._finishing = asyncio.Event()
        self._ignored = False
        self._patience: asyncio.Timeout | None = None
        self._news = asyncio.Event()
        self._waits = asyncio.Event()
        self._replay_at_ns = 0
        self._catching_up = False
        self._clock = context.clock
        self._metrics = metrics
        self._delivered = metrics.events_delivered.labels(name)
        self._replayed = metrics.events_replayed.labels(name)
        self._retried = metrics.events_retried.labels(name)
        self._refused = metrics.events_dropped.labels(name, "refused")
        self._backlog = metrics.sink_backlog.labels(name)
        self._backlog_bytes = metrics.sink_backlog_bytes.labels(name)
        self._backlog_age = metrics.sink_backlog_age.labels(name)
        self._disk_bytes = metrics.store_bytes.labels("outbox")
        self._counted_bytes = outbox.bytes_written
        self._counted_drops = outbox.dropped
        outbox.use(options.buffer)

    @property
    def backlog(self) -> int:
        """Events not yet acknowledged."""
        return len(self.outbox)

    def offer(self, event: Event) -> None:
        """Take an event if the sink wants its kind. Never waits."""
        if event.kind in self._wanted and not self._finishing.is_set() and not self._ignored:
            first = self.outbox.due_ns() is None
            self.outbox.offer(event)
            self._backlog.set(self.backlog)
            self._news.set()
            if first or self.outbox.is_crowded:
                self._waits.set()

    def finish(self) -> None:
        """No more events will come; :meth:`run` returns when the live ones are delivered, or soon if the sink is down.

        What is left then is in the outbox, and durable once that is closed.
        """
        self._finishing.set()
        self._news.set()
        self._limit_patience()

    async def close(self) -> None:
        """Make durable whatever was not delivered; call it when :meth:`run` has ended for good."""
        await asyncio.to_thread(self.outbox.close)
        self.measure()
        if self.backlog and not self._ignored:
            where = "lost, as the disk does not take them" if self.outbox.failing else "in the outbox"
            _log.warning("sink %s: %d undelivered events are %s", self.name, self.backlog, where)

    async def run(self) -> None:
        """Until :meth:`finish` and its last deliveries. :raises AdapterError: only under ``start: fail``."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keep(), name=f"sink {self.name}: outbox")
            failure = await self._deliver_until_finished()
            keeping.cancel()
        self.measure()
        if failure is not None:
            raise failure

    # -- the sink ----------------------------------------------------------------------------------------------

    async def _deliver_until_finished(self) -> AdapterError | None:
        """What stops the whole agent, if anything."""
        try:
            async with asyncio.timeout(None) as self._patience:
                self._limit_patience()
                await self._attempts()
        except TimeoutError:
            _log.warning("sink %s: does not take events now, and the agent stops", self.name)
        except AdapterError as error:
            return error
        finally:
            self._patience = None
        if self.context.is_up:
            self.context.ended("finished")
        return None

    async def _attempts(self) -> None:
        while True:
            error = await self._try()
            if error is None or self._gives_up(error):
                return
            self.context.disconnected(str(error))
            self._catching_up = False
            self._limit_patience()
            self._attempt += 1
            self._retried.inc()
            await self._pause()

    async def _try(self) -> AdapterError | None:
        """Connect and deliver until there is nothing to come; the error when that did not go well."""
        sink = None
        try:
            sink = self._build()
            await sink.open()
            self.context.opened()
            self._limit_patience()
            await self._deliver_all(sink)
        except AdapterError as error:
            return error
        except (Exception, asyncio.CancelledError) as error:
            if is_own_cancellation(error):
                raise
            _log.exception("sink %s: fault in its adapter", self.name)
            return RetryableAdapterError("a fault in the adapter, see the log")
        finally:
            self.outbox.rewind()
            if sink is not None:
                await self._close(sink)
        return None

    def _limit_patience(self) -> None:
        """While the agent is told to stop, a sink that is down is not waited for."""
        if self._patience is None or not self._finishing.is_set():
            return
        if self.context.is_up:
            self._patience.reschedule(None)
        elif self._patience.when() is None:
            self._patience.reschedule(asyncio.get_running_loop().time() + _LAST_ATTEMPTS_S)

    async def _pause(self) -> None:
        """Back off; while the agent is told to stop there is no time for long pauses."""
        finishing = self._finishing.is_set()
        pause_s = full_jitter(
            self.context.random, self._attempt, _LAST_PAUSE_S if finishing else self.options.retry_max
        )
        if finishing:
            await asyncio.sleep(pause_s)
        else:
            await self._wait_for(self._finishing, self._clock.monotonic_ns() + round(pause_s * NS_PER_S))

    async def _deliver_all(self, sink: Sink) -> None:
        while batch := await self._next():
            try:
                await self._deliver(sink, batch)
            except BaseException:
                self.context.delivery_failed()
                raise
            self.context.delivered()
            self._limit_patience()
            self._attempt = 0
            if self.outbox.must_settle:
                await asyncio.to_thread(self.outbox.settle)
            self.measure()

    async def _next(self) -> Sequence[Waiting]:
        """The next events to deliver, as soon as there are any; none when there is nothing to come."""
        while True:
            self._news.clear()
            batch: Sequence[Waiting] = self.outbox.live(self.context.batch)
            if batch:
                return batch
            if self._finishing.is_set():
                return ()
            if not self.outbox.late:
                self._catching_up = False
                await self._news.wait()
            elif self._clock.monotonic_ns() < self._replay_at_ns:
                await self._wait_for(self._news, self._replay_at_ns)
            elif batch := await self._late():
                return batch

    async def _late(self) -> Sequence[Waiting]:
        """A portion of what is late; the next one has to wait for its time."""
        rate = self.options.buffer.replay_rate
        portion = max(1, min(self.context.batch, round(rate * _PER_REPLAY_S)))
        batch = await asyncio.to_thread(self.outbox.fetch, portion, self.outbox.turn)
        pause_s = len(batch) / rate if batch else _LOOK_EVERY_S
        self._replay_at_ns = self._clock.monotonic_ns() + round(pause_s * NS_PER_S)
        return batch

    async def _deliver(self, sink: Sink, batch: Sequence[Waiting]) -> None:
        try:
            await sink.deliver([item.event for item in batch])
        except RetryableAdapterError:
            raise
        except AdapterError:
            await self._one_by_one(sink, batch)
        else:
            self._acknowledged(batch)

    async def _one_by_one(self, sink: Sink, batch: Sequence[Waiting]) -> None:
        """The sink refuses the batch for good: find the events it refuses, so that they do not block the others."""
        for item in batch:
            try:
                await sink.deliver([item.event])
            except RetryableAdapterError:
                raise
            except AdapterError as error:
                self.outbox.delivered([item])
                self._refused.inc()
                _log.error("sink %s: event %s refused and given up: %s", self.name, item.event.id, error)
            else:
                self._acknowledged([item])

    def _acknowledged(self, items: Sequence[Waiting]) -> None:
        self.outbox.delivered(items)
        late = sum(item.replay for item in items)
        if late and not self._catching_up:  # told once the far side takes them, not at each attempt
            self._catching_up = True
            rate, count = self.options.buffer.replay_rate, self.outbox.late + late
            _log.info("sink %s: %d late events follow, at most %g a second", self.name, count, rate)
        self._delivered.inc(len(items))
        self._replayed.inc(late)
        self._backlog.set(self.backlog)

    def _gives_up(self, error: AdapterError) -> bool:
        if self.context.ever_connected:
            return False
        if self.options.start is StartBehaviour.FAIL:
            raise AdapterError(f"sinks.{self.name}: {error} (start: fail)") from error
        if self.options.start is StartBehaviour.IGNORE:
            self.context.ended(f"ignored: {error}")
            self._ignored = True
            self.outbox.forget()
            _log.warning("sink %s: ignored as configured: %s", self.name, error)
            return True
        return False

    async def _close(self, sink: Sink) -> None:
        try:
            await sink.close()
        except Exception as error:  # what was delivered is delivered, however the sink takes its leave
            _log.warning("sink %s: while closing: %s", self.name, error)

    # -- the outbox --------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Have events written that wait for too long. Memory stays bounded even while the disk does not answer."""
        outbox, failures, write_at_ns = self.outbox, 0, 0
        await asyncio.to_thread(outbox.open)
        self._news.set()
        self.measure()
        writing: asyncio.Future[bool] | None = None
        try:
            while True:
                await self._until_due(write_at_ns)
                if self._is_due():
                    outbox.gather()
                if writing is None and outbox.must_write and self._clock.monotonic_ns() >= write_at_ns:
                    writing = asyncio.ensure_future(asyncio.to_thread(outbox.write))
                if writing is not None:
                    await asyncio.wait([writing], timeout=_LOOK_EVERY_S)
                if writing is not None and writing.done():
                    failures = 0 if writing.result() else failures + 1
                    write_at_ns = self._clock.monotonic_ns() + self._write_pause_ns(failures)
                    writing = None
                self._news.set()
                self.measure()
        finally:
            if writing is not None:
                writing.cancel()  # the thread goes on, and whoever needs the outbox next waits for it

    def _write_pause_ns(self, failures: int) -> int:
        if failures == 0:
            return 0
        self._metrics.store_failures.labels("outbox").inc()
        pause_s = min(_LOOK_AGAIN_MAX_S, self.options.buffer.spill_after * 2.0 ** min(failures, 10))
        return round(pause_s * NS_PER_S)

    def _is_due(self) -> bool:
        due_ns = self.outbox.due_ns()
        return due_ns is not None and (self.outbox.is_crowded or self._clock.monotonic_ns() >= due_ns)

    async def _until_due(self, write_at_ns: int) -> None:
        """Until there is something to gather or to write; what is waiting gets older, and that is measured."""
        outbox = self.outbox
        while True:
            self._waits.clear()
            now_ns, due_ns = self._clock.monotonic_ns(), outbox.due_ns()
            if self._is_due() or (outbox.must_write and now_ns >= write_at_ns):
                return
            if not self.backlog:
                await self._waits.wait()
                continue
            look_ns = now_ns + round(_LOOK_EVERY_S * NS_PER_S)
            await self._wait_for(self._waits, look_ns if due_ns is None else min(due_ns, look_ns))
            self.measure()

    def measure(self) -> None:
        """Bring the metrics up to date."""
        outbox = self.outbox
        self._backlog.set(self.backlog)
        self._backlog_bytes.set(outbox.size)
        self._backlog_age.set(outbox.age_s())
        written, dropped = outbox.bytes_written, outbox.dropped
        self._disk_bytes.inc(written - self._counted_bytes)
        for reason, count in (dropped - self._counted_drops).items():
            self._metrics.events_dropped.labels(self.name, reason).inc(count)
        self._counted_bytes, self._counted_drops = written, dropped

    async def _wait_for(self, event: asyncio.Event, until_ns: int) -> None:
        """Until ``event``, or until it is ``until_ns``."""
        either = [
            asyncio.ensure_future(event.wait()),
            asyncio.ensure_future(self._clock.sleep_until(until_ns)),
        ]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in either:
                one.cancel()
