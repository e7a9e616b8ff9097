"""Rules for a running source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from edge_agent.contract import AdapterContext, SourceAdapter
from edge_agent.errors import AdapterError
from edge_agent.registry import build_source
from edge_agent.sample import Batch
from edge_agent.testing.announcement import check_announcement
from edge_agent.testing.rule import new_context, nothing_left_over, require, until

STOP_S = 2.0
Step = Callable[[], Awaitable[None]]


class CollectingEmitter:
    """Keeps what a source emits. While ``full`` is set it takes nothing, as a full channel under ``block`` does."""

    def __init__(self, *, full: bool = False) -> None:
        self.batches: list[Batch] = []
        self.refused = 0
        self._room = asyncio.Event()
        if not full:
            self._room.set()

    def open(self) -> None:
        """Make room; from now on everything is taken."""
        self._room.set()

    def offer(self, batch: Batch) -> bool:
        if not self._room.is_set():
            self.refused += 1
            return False
        self.batches.append(batch)
        return True

    async def send(self, batch: Batch) -> None:
        if not self._room.is_set():
            self.refused += 1
        await self._room.wait()
        self.batches.append(batch)

    def sensors(self) -> list[str]:
        """Names of all readings, sorted, repeated as often as they came."""
        return sorted(name for batch in self.batches for name in batch.sensors)


async def check_source(
    adapter: SourceAdapter,
    options: Mapping[str, Any],
    *,
    feed: Step | None = None,
    garbage: Step | None = None,
    unreachable: Mapping[str, Any] | None = None,
    refuses: bool = False,
    timeout_s: float = 10.0,
) -> list[Batch]:
    """Run the source against a far side that is up, through all rules; returns what it read first.

    ``options`` as they would be in the file. ``feed`` makes the far side send one or more readings (None for a source
    that polls); ``garbage`` makes it send what cannot be understood. ``unreachable``: options of a far side that is
    not there. ``refuses``: a protocol that answers "not now" while the agent is full, so that the far side sends again.
    """
    check_announcement(adapter)
    parsed = adapter.options.model_validate(dict(options))
    async with nothing_left_over():
        batches = await _check_reading(adapter, parsed, feed, timeout_s)
        await _check_waits_when_full(adapter, parsed, feed, None if refuses else batches, timeout_s)
        if garbage is not None:
            await _check_garbage(adapter, parsed, garbage, feed, timeout_s)
        if unreachable is not None:
            await _check_unreachable(adapter, adapter.options.model_validate(dict(unreachable)), timeout_s)
    return batches


async def _check_reading(adapter: SourceAdapter, options: Any, feed: Step | None, timeout_s: float) -> list[Batch]:
    emitter = CollectingEmitter()
    async with _running(adapter, options, emitter, timeout_s):
        await _fed(feed)
        await until(lambda: emitter.batches, timeout_s, "the source emits what the far side has")
        await _settled(emitter, feed)
    for batch in emitter.batches:
        _check_batch(batch)
    return emitter.batches


async def _check_waits_when_full(
    adapter: SourceAdapter, options: Any, feed: Step | None, before: list[Batch] | None, timeout_s: float
) -> None:
    emitter = CollectingEmitter(full=True)
    async with _running(adapter, options, emitter, timeout_s):
        await _fed(feed)
        await until(lambda: emitter.refused, timeout_s, "the source offers what it has read")
        require(not emitter.batches, "a refused batch is not counted as accepted")
        emitter.open()
        if before is None:
            await _fed(feed)
        await until(lambda: emitter.batches, timeout_s, "the source goes on when there is room again")
        await _settled(emitter, feed)
    if feed is not None and before is not None:
        sent = sorted(name for batch in before for name in batch.sensors)
        require(
            emitter.sensors() == sent, f"nothing is lost while the agent is full: got {emitter.sensors()} of {sent}"
        )


async def _check_garbage(
    adapter: SourceAdapter, options: Any, garbage: Step, feed: Step | None, timeout_s: float
) -> None:
    emitter = CollectingEmitter()
    async with _running(adapter, options, emitter, timeout_s) as context:
        await garbage()
        await until(lambda: _rejected(context), timeout_s, "what cannot be understood is counted by context.reject")
        emitter.batches.clear()
        await _fed(feed)
        await until(lambda: emitter.batches, timeout_s, "the source goes on reading after garbage")


async def _check_unreachable(adapter: SourceAdapter, options: Any, timeout_s: float) -> None:
    context = new_context("unreachable")
    task = asyncio.create_task(build_source(adapter, options, context).run(CollectingEmitter()), name="unreachable")
    await asyncio.wait({task}, timeout=min(timeout_s, 0.5))
    require(context.state != "connected", "a source that reaches nobody does not say it is connected")
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    expected = isinstance(outcome, AdapterError | asyncio.CancelledError)
    require(expected, f"a far side that is not there is an AdapterError or is retried, not {outcome!r}")


@asynccontextmanager
async def _running(
    adapter: SourceAdapter, options: Any, emitter: CollectingEmitter, timeout_s: float
) -> AsyncIterator[AdapterContext]:
    """A source at work; at the end it is cancelled and has to stop promptly."""
    context = new_context(f"{adapter.name}-under-test")
    task = asyncio.create_task(build_source(adapter, options, context).run(emitter), name=context.name)

    def at_work() -> bool:
        if task.done():
            task.result()  # shows why it ended
        return context.state == "connected" or bool(emitter.batches) or bool(emitter.refused) or task.done()

    try:
        await until(at_work, timeout_s, "the source reports context.connected once it has reached the far side")
        yield context
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_S)
        require(task.done(), f"run() ends within {STOP_S:g} s of being cancelled")
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _fed(feed: Step | None) -> None:
    if feed is not None:
        await feed()


async def _settled(emitter: CollectingEmitter, feed: Step | None) -> None:
    """Wait until one feed has come through: nothing new for a while."""
    seen = -1
    while feed is not None and seen != len(emitter.batches):
        seen = len(emitter.batches)
        await asyncio.sleep(0.2)


def _rejected(context: AdapterContext) -> float:
    return sum(counter.value for labels, counter in context.metrics.rejected.series() if labels[0] == context.name)


def _check_batch(batch: Batch) -> None:
    count = len(batch.sensors)
    require(count and all(isinstance(name, str) and name for name in batch.sensors), "every reading has a sensor name")
    require(len(batch.values) == count, f"a batch has one value a sensor, not {len(batch.values)} for {count}")
    require(np.asarray(batch.values, dtype=np.float64).ndim == 1, "values are plain numbers")
    for name, column in (("quality", batch.quality), ("source_time_ns", batch.source_time_ns)):
        if column is not None and not isinstance(column, int):
            require(len(column) == count, f"{name} is one for all or one a reading, not {len(column)} for {count}")
    require(batch.arrival_ns > 0, "arrival_ns is monotonic time of the agent's clock")
