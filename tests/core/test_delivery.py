"""A sink that fails, comes back, or refuses: no event lost, each lane in order, exact counts."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Sink, SinkOptions
from edge_agent.delivery import SinkRunner
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.outbox import Outbox
from edge_agent.verdict import Event, EventKind


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


class ScriptedSink:
    """Fails as told, else keeps what it gets."""

    def __init__(self, script: list[BaseException | None], got: list[str], poison: str = "") -> None:
        self.script, self.got, self.poison = script, got, poison
        self.closed = False
        self.opened: Callable[[], None] = lambda: None
        self.delivering: Callable[[], None] = lambda: None

    async def open(self) -> None:
        step = self.script.pop(0) if self.script else None
        if step is not None:
            raise step
        self.opened()

    async def deliver(self, events: Sequence[Event]) -> None:
        self.delivering()
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
    def __init__(self, folder: Path, script: list[BaseException | None], poison: str = "", **options: object) -> None:
        self.metrics = Metrics()
        self.script = script
        self.got: list[str] = []
        self.sinks: list[ScriptedSink] = []
        self.opened: Callable[[], None] = lambda: None
        self.delivering: Callable[[], None] = lambda: None
        parsed = SinkOptions.model_validate({"type": "test", "retry_max": "1ms", **options})
        context = AdapterContext("hook", SystemClock(), random.Random(0), self.metrics, kind="sink")

        def build() -> Sink:
            self.sinks.append(ScriptedSink(script, self.got, poison))
            self.sinks[-1].opened, self.sinks[-1].delivering = self.opened, self.delivering
            return self.sinks[-1]

        outbox = Outbox("hook", folder, parsed.buffer, SystemClock())
        self.runner = SinkRunner("hook", build, parsed, context, self.metrics, outbox)

    async def deliver(self, count: int) -> None:
        for i in range(count):
            self.runner.offer(Event(f"e{i}", EventKind.INCIDENT, 0, {}))
        self.runner.finish()
        async with asyncio.timeout(5):
            await self.runner.run()


async def test_every_event_arrives_in_order_over_failures(tmp_path: Path) -> None:
    down = RetryableAdapterError("down")
    bench = SinkBench(tmp_path, [down, None, down, None, None])
    await bench.deliver(250)
    assert bench.got == [f"e{i}" for i in range(250)]
    assert bench.metrics.events_delivered.labels("hook").value == 250
    assert bench.metrics.events_retried.labels("hook").value == 2
    assert all(sink.closed for sink in bench.sinks)


async def test_a_sink_that_opens_but_delivers_nothing_is_down_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down = RetryableAdapterError("mail server: refused")
    bench = SinkBench(tmp_path, [None, down] * 5)
    context, up = bench.runner.context, bench.metrics.sink_up.labels("hook")
    states: list[tuple[str, float]] = []
    bench.opened = lambda: context.connected("mail")  # as sinks do that only see that somebody is there
    bench.delivering = lambda: states.append((context.state, up.value))
    with caplog.at_level(logging.INFO, "edge_agent.sink.hook"):
        await bench.deliver(3)
    assert states == [("connected", 1.0)] + [("disconnected: mail server: refused", 0.0)] * 5
    assert [record.message for record in caplog.records] == [
        "connected to mail",
        "disconnected: mail server: refused",
        "connected to mail",
    ]
    assert bench.got == ["e0", "e1", "e2"]


async def test_a_sink_that_only_prepares_is_connected_at_its_first_delivery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = SinkBench(tmp_path, [], start="fail")
    context, up = bench.runner.context, bench.metrics.sink_up.labels("hook")
    with caplog.at_level(logging.INFO, "edge_agent.sink.hook"):
        task = asyncio.ensure_future(bench.runner.run())
        await until(lambda: context.state == "ready")
        assert up.value == 1  # nothing is known against it
        assert not caplog.records
        bench.script += [RetryableAdapterError("down"), None]  # no reason to stop the agent: it has started
        bench.runner.offer(Event("e0", EventKind.INCIDENT, 0, {}))
        await until(lambda: context.state == "connected")
        bench.runner.finish()
        await task
    assert [record.message for record in caplog.records] == ["disconnected: down", "connected to hook"]
    assert bench.got == ["e0"]


async def test_a_sink_that_fails_while_closing_stops_nothing(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [RetryableAdapterError("down")], poison="close")
    await bench.deliver(3)
    assert bench.got == ["e0", "e1", "e2"]


async def test_a_cancellation_that_a_library_lets_out_of_a_sink_is_tried_again(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [None, asyncio.CancelledError()])
    await bench.deliver(3)
    assert bench.got == ["e0", "e1", "e2"]
    assert bench.metrics.sink_up.labels("hook").value == 0


async def test_a_stop_does_not_wait_for_a_long_back_off(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [RetryableAdapterError("down")] * 12, retry_max="1h")
    bench.runner.offer(Event("e0", EventKind.INCIDENT, 0, {}))
    bench.runner._attempt = 30
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: bench.metrics.events_retried.labels("hook").value == 1)
    bench.script.clear()
    bench.runner.finish()
    async with asyncio.timeout(5):
        await task
    assert bench.got == ["e0"]


async def test_what_was_not_acknowledged_stays_in_the_outbox_for_another_runner(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [None, RetryableAdapterError("down")], retry_max="1h")
    bench.runner._attempt = 30
    for i in range(150):
        bench.runner.offer(Event(f"e{i}", EventKind.INCIDENT, 0, {}))
    task = asyncio.ensure_future(bench.runner.run())
    await until(lambda: bench.metrics.events_retried.labels("hook").value == 1)
    task.cancel()
    await asyncio.wait([task])
    assert bench.runner.backlog == 150
    assert [item.event.id for item in bench.runner.outbox.live(200)] == [f"e{i}" for i in range(150)]


async def test_an_event_the_sink_refuses_does_not_block_the_others(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [], poison="e3")
    await bench.deliver(6)
    assert bench.got == ["e0", "e1", "e2", "e4", "e5"]
    assert bench.metrics.events_dropped.labels("hook", "refused").value == 1


async def test_a_sink_gets_only_the_kinds_it_asked_for(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [], events=["status"])
    bench.runner.offer(Event("s", EventKind.STATUS, 0, {}))
    await bench.deliver(3)
    assert bench.got == ["s"]


async def test_a_sink_under_start_fail_stops_the_agent(tmp_path: Path) -> None:
    bench = SinkBench(tmp_path, [RetryableAdapterError("refused")], start="fail")
    with pytest.raises(AdapterError, match=r"sinks\.hook: refused \(start: fail\)"):
        await bench.deliver(1)
