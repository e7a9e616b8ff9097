"""Keeps adapters running: starts, restarts with jittered back-off, and never lets one failing take another down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from edge_agent.backoff import full_jitter, is_own_cancellation
from edge_agent.channel import Channel, ClosedError, Full
from edge_agent.contract import AdapterContext, Source, SourceOptions, StartBehaviour
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Counter, Metrics
from edge_agent.sample import Batch

_log = logging.getLogger(__name__)

_DRAIN = 256  # frames handed over before the event loop gets a turn


class Lives:
    """The lives of one adapter instance, one after the other; ``what`` is what the log calls it.

    A life that was longer than ``retry_max_s`` was a success: pauses begin to grow anew after it.
    """

    def __init__(self, what: str, context: AdapterContext, restarts: Counter, retry_max_s: float) -> None:
        self._what = what
        self._context = context
        self._restarts = restarts
        self._retry_max_s = retry_max_s
        self._attempt = 0
        self._began_s = 0.0

    async def live(self, run: Callable[[], Awaitable[None]]) -> AdapterError | None:
        """One life; None when it has ended by itself, else why it failed. :raises ClosedError: as ``run`` does."""
        self._context.state = "starting"
        self._began_s = asyncio.get_running_loop().time()
        try:
            await run()
        except AdapterError as error:
            return error
        except ClosedError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if is_own_cancellation(error):
                raise
            # A fault in an adapter must not take the others down; it is told in full, and tried again.
            _log.exception("%s: fault in its adapter", self._what)
            return RetryableAdapterError("a fault in the adapter, see the log")
        return None

    async def rest(self, error: AdapterError) -> None:
        """Between a life that failed with ``error`` and the next one."""
        lived_s = asyncio.get_running_loop().time() - self._began_s
        self._attempt = 1 if lived_s > self._retry_max_s else self._attempt + 1
        self._context.disconnected(str(error))
        self._restarts.inc()
        await asyncio.sleep(self._pause_s(error))

    def _pause_s(self, error: AdapterError) -> float:
        # What a retry will not mend is tried at leisure all the same: passwords are corrected at brokers.
        if not isinstance(error, RetryableAdapterError):
            return self._retry_max_s
        return full_jitter(self._context.random, self._attempt, self._retry_max_s)


class SourceEmitter:
    """The channel behind one source (see :class:`~edge_agent.contract.Emitter`)."""

    def __init__(self, channel: Channel[Batch]) -> None:
        self.channel = channel
        self.offer = channel.offer
        self.send = channel.send


class SourceRunner:
    """Runs one source for as long as the daemon lives, and hands what it reads to ``take``."""

    def __init__(
        self,
        name: str,
        build: Callable[[], Source],
        options: SourceOptions,
        when_full: Full,
        context: AdapterContext,
        metrics: Metrics,
        take: Callable[[Batch], None],
        capacity: int,
    ) -> None:
        self.name = name
        self.options = options
        self.context = context
        self.channel: Channel[Batch] = Channel(capacity, options.when_full or when_full)
        self.ended = False
        self._build = build
        self._metrics = metrics
        self._lives = Lives(f"source {name}", context, metrics.source_restarts.labels(name), options.retry_max)
        self._take = take
        self._dropped = 0

    async def run(self) -> None:
        """Until cancelled. :raises AdapterError: only under ``start: fail``, before the source ever connected."""
        async with asyncio.TaskGroup() as tasks:
            consumer = tasks.create_task(self._consume(), name=f"intake of {self.name}")
            try:
                error = await self._keep_running()
            finally:
                # Accepted means scored: what is in the channel is handed over before the source counts as stopped.
                self.channel.close()
                self.hand_over_all()
            await consumer
        if error is not None:  # raised out here, where it does not become a group of one
            raise AdapterError(f"sources.{self.name}: {error} (start: fail)") from error

    async def _keep_running(self) -> AdapterError | None:
        """Until the source ends or is given up; the error if that is to stop the agent."""
        while True:
            try:
                error = await self._lives.live(lambda: self._build().run(SourceEmitter(self.channel)))
            except ClosedError:
                return None
            if error is None:
                self.ended = True
                self.context.ended("ended")
                _log.info("source %s: has come to its end", self.name)
                return None
            if not self.context.ever_connected and self.options.start is not StartBehaviour.RETRY:
                return self._give_up(error)
            await self._lives.rest(error)

    def _give_up(self, error: AdapterError) -> AdapterError | None:
        if self.options.start is StartBehaviour.FAIL:
            return error
        self.context.ended(f"ignored: {error}")
        _log.warning("source %s: ignored as configured: %s", self.name, error)
        return None

    async def _consume(self) -> None:
        while await self.channel.wait():
            self._hand_over(_DRAIN)
            await asyncio.sleep(0)

    def hand_over_all(self) -> None:
        """Hand over everything accepted so far; called before each tick."""
        self._hand_over(len(self.channel))

    def _hand_over(self, limit: int) -> None:
        for batch in self.channel.drain(limit):
            try:
                self._take(batch)
            except Exception as error:  # whatever an adapter handed over, its next batch and the others' are taken
                self.context.reject("malformed_batch", f"by the adapter: {error!r}")
        if self.channel.when_full is Full.DROP_OLDEST and self.channel.dropped != self._dropped:
            self._metrics.source_dropped.labels(self.name).inc(self.channel.dropped - self._dropped)
            self._dropped = self.channel.dropped
