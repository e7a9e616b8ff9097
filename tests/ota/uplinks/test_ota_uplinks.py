"""What runs the uplinks: each gets every latest report, hints are counted, failures are told and tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Hint, UplinkOptions, UplinkPort
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.ota.uplinks import Port, Switchboard, UplinkRunner

Life = Callable[[UplinkPort, AdapterContext], Awaitable[None]]


class Scripted:
    """One life after the other, as written; the last one is repeated."""

    def __init__(self, lives: list[Life], context: AdapterContext) -> None:
        self._lives, self._context = lives, context

    async def run(self, port: UplinkPort) -> None:
        life = self._lives.pop(0) if len(self._lives) > 1 else self._lives[0]
        await life(port, self._context)


class Stand:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.looks: list[Hint] = []
        self.switchboard = Switchboard("plant-4", "canary", "gateway-7", self.looks.append)

    def runner(self, *lives: Life, name: str = "broker") -> UplinkRunner:
        options = UplinkOptions.model_validate({"type": "test", "retry_max": "1ms"})
        context = AdapterContext(name, SystemClock(), random.Random(0), self.metrics, kind="uplink")
        script = list(lives)
        return UplinkRunner(name, lambda: Scripted(script, context), options, context, self.metrics, self.switchboard)

    def port(self, name: str = "broker") -> Port:
        return Port(self.switchboard, self.metrics.uplink_hints.labels(name))


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0)


async def test_each_port_gets_the_latest_report_once() -> None:
    stand = Stand()
    first, second = stand.port(), stand.port()
    stand.switchboard.tell(b"1")
    assert await first.next_report() == b"1"
    stand.switchboard.tell(b"2")
    stand.switchboard.tell(b"3")
    assert await first.next_report() == b"3"
    assert await second.next_report() == b"3"
    waiting = asyncio.create_task(first.next_report())
    await asyncio.sleep(0)
    assert not waiting.done()
    stand.switchboard.tell(b"4")
    assert await waiting == b"4"


async def test_cancelled_wait_loses_no_report() -> None:
    stand = Stand()
    port = stand.port()
    waiting = asyncio.create_task(port.next_report())
    await asyncio.sleep(0)
    stand.switchboard.tell(b"1")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await port.next_report() == b"1"


async def test_reports_of_the_updater_are_followed() -> None:
    stand = Stand()
    reports: asyncio.Queue[bytes] = asyncio.Queue()
    task = asyncio.create_task(stand.switchboard.follow(reports.get))
    port = stand.port()
    for text in b"1", b"2":
        reports.put_nowait(text)
        assert await port.next_report() == text
    await stopped(task)


async def test_two_uplinks_hear_and_tell_independently() -> None:
    stand = Stand()
    told: dict[str, list[bytes]] = {"a": [], "b": []}

    def life(name: str) -> Life:
        async def run(port: UplinkPort, context: AdapterContext) -> None:
            assert (port.fleet, port.ring, port.gateway) == ("plant-4", "canary", "gateway-7")
            context.connected(name)
            port.look(Hint(1 if name == "a" else 2))
            while True:
                told[name].append(await port.next_report())

        return run

    tasks = [asyncio.create_task(stand.runner(life(name), name=name).run()) for name in told]
    stand.switchboard.tell(b"1")
    await until(lambda: told == {"a": [b"1"], "b": [b"1"]})
    assert stand.looks == [Hint(1), Hint(2)]
    assert [stand.metrics.uplink_hints.labels(name).value for name in told] == [1, 1]
    assert [stand.metrics.uplink_up.labels(name).value for name in told] == [1, 1]
    for task in tasks:
        await stopped(task)
    assert [stand.metrics.uplink_up.labels(name).value for name in told] == [0, 0]


async def test_failures_are_tried_again_and_the_latest_report_told_anew() -> None:
    stand = Stand()
    told: list[bytes] = []

    async def fetches_and_dies(port: UplinkPort, context: AdapterContext) -> None:
        context.connected("here")
        await port.next_report()
        raise RetryableAdapterError("gone")

    async def refused(port: UplinkPort, context: AdapterContext) -> None:
        raise AdapterError("wrong password")

    async def faulty(port: UplinkPort, context: AdapterContext) -> None:
        raise ZeroDivisionError

    async def ends(port: UplinkPort, context: AdapterContext) -> None:
        return

    async def works(port: UplinkPort, context: AdapterContext) -> None:
        context.connected("here")
        told.append(await port.next_report())
        await asyncio.Event().wait()

    stand.switchboard.tell(b"1")
    runner = stand.runner(fetches_and_dies, refused, faulty, ends, works)
    task = asyncio.create_task(runner.run())
    await until(lambda: told)
    assert told == [b"1"]
    assert stand.metrics.uplink_restarts.labels("broker").value == 4
    assert runner.context.state == "connected"
    await stopped(task)
    assert runner.context.state == "stopped"
