"""Sources and sinks that fail, come back, and never take another down; no event lost, exact counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from edge_agent.backoff import full_jitter
from edge_agent.channel import Full
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Emitter, Sink, SinkOptions, Source, SourceOptions
from edge_agent.delivery import SinkRunner
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch
from edge_agent.supervisor import SourceRunner
from edge_agent.verdict import Event, EventKind


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


class ScriptedSink:
    """Fails as told, else keeps what it gets."""

    def __init__(self, script: list[BaseException | None], got: list[str], poison: str = "") -> None:
        self.script, self.got, self.poison = script, got, poison
        self.closed = False

    async def open(self) -> None:
        step = self.script.pop(0) if self.script else None
        if step is not None:
            raise step

    async def deliver(self, events: Sequence[Event]) -> None:
        step = self.script.pop(0) if self.script else None
        if step is not None:
            raise step
        if self.poison in [event.id for event in events]:
            raise AdapterError("400 Bad Request")
        self.got += [event.id for event in events]

    async def close(self) -> None:
        self.closed = True
        if self.poison == "close":
            raise OSError("already gone")


class SinkBench:
    def __init__(self, script: list[BaseException | None], poison: str = "", **options: object) -> None:
        self.metrics = Metrics()
        self.script = script
        self.got: list[str] = []
        self.sinks: list[ScriptedSink] = []
        parsed = SinkOptions.model_validate({"type": "test", "retry_max": "1ms", **options})
        context = AdapterContext("hook", SystemClock(), random.Random(0), self.metrics, sink=True)

        def build() -> Sink:
            self.sinks.append(ScriptedSink(script, self.got, poison))
            return self.sinks[-1]

        self.runner = SinkRunner("hook", build, parsed, context, self.metrics)

    async def deliver(self, count: int) -> None:
        for i in range(count):
            self.runner.offer(Event(f"e{i}", EventKind.INCIDENT, 0, {}))
        self.runner.finish()
        async with asyncio.timeout(5):
            await self.runner.run()


async def test_every_event_arrives_in_order_over_failures() -> None:
    down = RetryableAdapterError("down")
    bench = SinkBench([down, None, down, None, None])
    await bench.deliver(250)
    assert bench.got == [f"e{i}" for i in range(250)]
    assert bench.metrics.events_delivered.labels("hook").value == 250
    assert bench.metrics.events_retried.labels("hook").value == 2
    assert all(sink.closed for sink in bench.sinks)


async def test_a_sink_that_fails_while_closing_stops_nothing() -> None:
    bench = SinkBench([RetryableAdapterError("down")], poison="close")
    await bench.deliver(3)
    assert bench.got == ["e0", "e1", "e2"]


async def test_a_cancellation_that_a_library_lets_out_of_a_sink_is_tried_again() -> None:
    bench = SinkBench([None, asyncio.CancelledError()])
    await bench.deliver(3)
    assert bench.got == ["e0", "e1", "e2"]
    assert bench.metrics.sink_up.labels("hook").value == 0


async def test_a_stop_does_not_wait_for_a_long_back_off() -> None:
    bench = SinkBench([RetryableAdapterError("down")] * 12, retry_max="1h")
    bench.runner.offer(Event("e0", EventKind.INCIDENT, 0, {}))
    bench.runner._attempt = 30
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: bench.metrics.events_retried.labels("hook").value == 1)
    bench.script.clear()
    bench.runner.finish()
    async with asyncio.timeout(5):
        await task
    assert bench.got == ["e0"]


async def test_what_was_not_acknowledged_can_be_given_to_another_runner() -> None:
    bench = SinkBench([None, RetryableAdapterError("down")], retry_max="1h")
    bench.runner._attempt = 30
    for i in range(150):
        bench.runner.offer(Event(f"e{i}", EventKind.INCIDENT, 0, {}))
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: bench.metrics.events_retried.labels("hook").value == 1)
    task.cancel()
    await asyncio.wait([task])
    assert [event.id for event in bench.runner.give_back()] == [f"e{i}" for i in range(150)]
    assert bench.runner.backlog == 0


async def test_an_event_the_sink_refuses_does_not_block_the_others() -> None:
    bench = SinkBench([], poison="e3")
    await bench.deliver(6)
    assert bench.got == ["e0", "e1", "e2", "e4", "e5"]
    assert bench.metrics.events_dropped.labels("hook", "refused").value == 1


async def test_while_the_sink_is_down_the_oldest_events_go_and_are_counted() -> None:
    bench = SinkBench([], capacity=3)
    await bench.deliver(10)
    assert bench.got == ["e7", "e8", "e9"]
    assert bench.metrics.events_dropped.labels("hook", "overflow").value == 7


async def test_a_sink_gets_only_the_kinds_it_asked_for() -> None:
    bench = SinkBench([], events=["status"])
    bench.runner.offer(Event("s", EventKind.STATUS, 0, {}))
    await bench.deliver(3)
    assert bench.got == ["s"]


async def test_a_sink_under_start_fail_stops_the_agent() -> None:
    bench = SinkBench([RetryableAdapterError("refused")], start="fail")
    with pytest.raises(AdapterError, match=r"sinks\.hook: refused \(start: fail\)"):
        await bench.deliver(1)
