"""A sink that goes away and comes back, in virtual time, with its runner and a plant that goes on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import AdapterContext, SinkOptions
from edge_agent.delivery import SinkRunner
from edge_agent.errors import RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.outbox import Outbox
from edge_agent.verdict import Event, EventKind

T0 = 1_760_000_000 * NS_PER_S
SENSORS = tuple(f"plant.area{number // 10}.sensor{number}" for number in range(50))


class FarSide:
    """What is at the other end of a sink; ``down`` says why it takes nothing. Keeps what it gets, and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.down: str | None = None
        self.got: list[tuple[int, Event]] = []

    async def open(self) -> None:
        if self.down is not None:
            raise RetryableAdapterError(self.down)

    async def deliver(self, events: Sequence[Event]) -> None:
        await self.open()
        self.got += [(self.clock.monotonic_ns(), event) for event in events]

    async def close(self) -> None:
        pass

    def ids(self, *, replayed: bool) -> list[str]:
        return [event.id for _, event in self.got if event.replayed is replayed]


class Outage:
    """A plant with 50 readings and one event a second, and a sink that wants all of it."""

    def __init__(self, folder: Path, **buffer: Any) -> None:
        self.folder = folder
        self.clock = VirtualClock(T0)
        self.far_side = FarSide(self.clock)
        self.metrics = Metrics()
        self.given: list[str] = []
        options = {"type": "test", "events": ["incident", "readings"], "retry_max": "1ms", "buffer": buffer}
        self.options = SinkOptions.model_validate(options)
        self.runner = self.make()

    def make(self) -> SinkRunner:
        """The runner of a daemon that starts."""
        context = AdapterContext("desk", self.clock, random.Random(0), self.metrics, kind="sink")
        outbox = Outbox("desk", self.folder, self.options.buffer, self.clock)
        return SinkRunner("desk", lambda: self.far_side, self.options, context, self.metrics, outbox)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[SinkRunner]:
        """The runner from its start to its orderly stop."""
        self.runner = self.make()
        task = asyncio.create_task(self.runner.run())
        await until(lambda: self.runner.context.state != "starting")
        yield self.runner
        self.runner.finish()
        await task
        await self.runner.close()

    def second(self, length_s: int = 1) -> None:
        """One second of the plant, or a longer one."""
        self.clock.advance(length_s * NS_PER_S)
        number, now_ns = len(self.given), self.clock.wall_ns()
        chance = random.Random(number)
        readings = {name: round(20 + chance.gauss(0, 1), 4) for name in SENSORS}
        body = {"state": "updated", "summary": f"LIT{number} rises, first seen {number}", "score": chance.random()}
        for kind, content in ((EventKind.READINGS, {"readings": readings}), (EventKind.INCIDENT, body)):
            event = Event(f"E{len(self.given):07d}", kind, now_ns, content)
            self.given.append(event.id)
            self.runner.offer(event)

    async def live(self, seconds: int) -> None:
        """Time while the sink is up; everything new is delivered within its second."""
        for _ in range(seconds):
            self.second()
            last = self.given[-1]
            await until(lambda last=last: last in [event.id for _, event in self.far_side.got[-300:]])  # type: ignore[misc]

    async def down(self, seconds: int, length_s: int = 1) -> None:
        """Time while the sink is down; it ends when the outbox has what has to be in it."""
        self.far_side.down = "broker is gone"
        for _ in range(seconds):
            self.second(length_s)
            for _ in range(5):
                await asyncio.sleep(0)
            await until(lambda: not self.runner.outbox.must_write)  # days pass here while the disk writes one block
        self.clock.advance(round(self.options.buffer.spill_after * NS_PER_S))
        await until(lambda: self.runner.outbox.due_ns() is None and not self.runner.outbox.must_write)
        self.far_side.down = None

    async def catch_up(self) -> float:
        """Let time pass until all is delivered; the seconds that took."""
        began_ns = self.clock.monotonic_ns()
        while self.runner.backlog:
            before = self.runner.backlog
            self.clock.advance(NS_PER_S // 10)
            with suppress(TimeoutError):  # a pause between two attempts, in virtual time
                await until(lambda before=before: self.runner.backlog < before, 0.05)  # type: ignore[misc]
        return (self.clock.monotonic_ns() - began_ns) / NS_PER_S


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0)
