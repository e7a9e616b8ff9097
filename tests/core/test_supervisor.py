"""Sources that fail, come back, and never take another down; exact counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from edge_agent.backoff import full_jitter
from edge_agent.channel import Full
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Emitter, Source, SourceOptions
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch
from edge_agent.supervisor import SourceRunner


class ScriptedSource:
    """Does what it was told, once an attempt."""

    def __init__(
        self, context: AdapterContext, script: list[Callable[[Emitter], None] | BaseException], log: list[int]
    ):
        self.context, self.script, self.log = context, script, log

    async def run(self, emit: Emitter) -> None:
        step = self.script.pop(0) if self.script else None
        self.log.append(1)
        if isinstance(step, BaseException):
            raise step
        if step is None:
            self.context.connected("nowhere")
            await asyncio.Event().wait()
            return
        self.context.connected("nowhere")
        step(emit)


class Bench:
    """A source runner without waiting between attempts."""

    def __init__(self, script: list[Callable[[Emitter], None] | BaseException], **options: object) -> None:
        self.metrics = Metrics()
        self.taken: list[Batch] = []
        self.attempts: list[int] = []
        parsed = SourceOptions.model_validate({"type": "test", "retry_max": "1ms", **options})
        self.context = AdapterContext("press", SystemClock(), random.Random(0), self.metrics)
        self.runner = SourceRunner(
            "press", self.build(script), parsed, Full.BLOCK, self.context, self.metrics, self.taken.append, 4
        )

    def build(self, script: list[Callable[[Emitter], None] | BaseException]) -> Callable[[], Source]:
        return lambda: ScriptedSource(self.context, script, self.attempts)


def batch(value: float) -> Batch:
    return Batch(("a",), (value,), 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_source_that_cannot_start_is_tried_again() -> None:
    bench = Bench([RetryableAdapterError("refused"), AdapterError("wrong password"), ValueError("a bug")])
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: len(bench.attempts) == 4)
    await until(lambda: bench.context.state == "connected")
    assert bench.metrics.source_restarts.labels("press").value == 3
    task.cancel()
    await asyncio.wait([task])


async def test_start_fail_stops_the_agent_and_names_the_source() -> None:
    bench = Bench([RetryableAdapterError("connection refused")], start="fail")
    with pytest.raises(AdapterError, match=r"^sources\.press: connection refused \(start: fail\)$"):
        await bench.runner.run()


async def test_start_fail_does_not_count_once_it_was_connected() -> None:
    def lose(emit: Emitter) -> None:
        raise RetryableAdapterError("gone")

    bench = Bench([lose], start="fail")
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: len(bench.attempts) == 2)
    task.cancel()
    await asyncio.wait([task])


async def test_start_ignore_gives_up_quietly() -> None:
    bench = Bench([RetryableAdapterError("refused")], start="ignore")
    await bench.runner.run()
    assert bench.context.state == "ignored: refused"
    assert len(bench.attempts) == 1


async def test_start_fail_holds_for_a_fault_in_the_adapter_too() -> None:
    with pytest.raises(AdapterError, match=r"sources\.press: a fault in the adapter"):
        await Bench([ZeroDivisionError("a bug")], start="fail").runner.run()


async def test_a_cancellation_that_a_library_lets_out_is_a_fault_and_no_stop() -> None:
    bench = Bench([asyncio.CancelledError()])
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: bench.context.state == "connected")
    assert len(bench.attempts) == 2
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_source_that_has_ended_is_not_up() -> None:
    bench = Bench([lambda emit: None])
    await bench.runner.run()
    assert bench.context.state == "ended"
    assert bench.metrics.source_up.labels("press").value == 0


async def test_what_a_source_has_handed_over_is_taken_even_when_it_is_stopped_at_once() -> None:
    def give(emit: Emitter) -> None:
        assert [emit.offer(batch(i)) for i in range(6)] == [True] * 4 + [False] * 2

    bench = Bench([give])
    await bench.runner.run()
    assert [one.values[0] for one in bench.taken] == [0, 1, 2, 3]
    assert bench.runner.ended


async def test_a_malformed_batch_is_counted_and_the_next_one_taken() -> None:
    bench = Bench([])
    good: list[Batch] = []

    def take(one: Batch) -> None:
        if len(one.values) != len(one.sensors):
            raise ValueError("2 names but 1 values")
        good.append(one)

    bench.runner._take = take
    bench.runner.channel.offer(Batch(("a", "b"), (1.0,), 0))
    bench.runner.channel.offer(batch(2.0))
    bench.runner.hand_over_all()
    assert len(good) == 1
    assert bench.metrics.rejected.labels("press", "malformed_batch").value == 1


def test_full_jitter_spreads_over_a_doubling_bound_up_to_the_limit() -> None:
    rng = random.Random(0)
    for attempt, bound in ((1, 0.5), (2, 1.0), (5, 8.0), (50, 30.0)):
        pauses = [full_jitter(rng, attempt, 30.0) for _ in range(500)]
        assert min(pauses) >= 0
        assert 0.9 * bound < max(pauses) <= bound
