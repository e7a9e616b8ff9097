"""Many simulated gateways in one process, each with the agent's own updater, trust, state and MQTT uplink.

Run by ``bench_fleet`` with an order as JSON on standard input. Says ``subscribed`` when all are, ``looked`` when all
have looked once, and gives their moments (monotonic clock, s) as JSON when all have got as far as they are told to.

Real in each: MQTT connection and subscription (:class:`MqttUplink`), :class:`Updater`, TUF and downloads
(:class:`InProcessTrust`), state, audit log, verified files, model slots, a folder of its own. Not real: the running
agent (:class:`SimulatedAgent`: no ticks, vitals that never change) and the probe (:class:`CheapProber`: a child process
for each gateway cannot be paid on one machine).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import platform
import random
import resource
import sys
import tarfile
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import uvloop

from edge_adapters.mqtt.options import MqttUplinkOptions
from edge_adapters.mqtt.uplink import MqttUplink
from edge_agent import __version__
from edge_agent.bundle import Bundle, ModelSlots
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.clock import Clock, SystemClock
from edge_agent.contract import AdapterContext, Hint
from edge_agent.metrics import Metrics
from edge_agent.ota.effects import put_model
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Comparison, Facts, Probed, Vitals
from edge_agent.ota.ring import Limits
from edge_agent.ota.state import InForce, Phase
from edge_agent.ota.trust.in_process import InProcessTrust
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.updater import Updater
from edge_agent.ota.uplinks import Switchboard, UplinkRunner

THREADS = 2
CONNECTING_AT_ONCE = 100
STEP_S = 0.5
"""Longer than what comes after a switch takes."""
NOT_RETAINED_YET = 9_999
"""Counter of the nudge that begins a control: the broker has those before it, and says them to whoever subscribes."""
Look = Callable[[Hint], None]
Update = Callable[[Switchboard], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Order:
    """``gateways``: names, each with its folder ``<folder>/<name>``. ``plain``: only get that, as the control.

    ``until``: the phase at which a gateway is done, ``staged`` or ``trial``.
    """

    gateways: Sequence[str]
    folder: str
    origin: str
    root: str
    broker: int
    fleet: str
    ring: str
    plain: str | None
    until: str


@dataclass
class Moments:
    """Of one gateway, monotonic s."""

    told: float | None = None
    verified: float | None = None
    switched: float | None = None


class CheapProber:
    """In place of ``ChildProber``: says which bundle it is, and runs nothing."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments

    async def gate(self, path: Path) -> str:
        self._moments.verified = time.monotonic()
        return await asyncio.to_thread(_identity, path)

    async def probe(self, path: Path, limits: Limits) -> Probed:
        return Probed(await asyncio.to_thread(_identity, path), 1.0, 1.0, 50.0, 0.0)


def _identity(path: Path) -> str:
    with tarfile.open(path, "r:") as archive:
        manifest = archive.extractfile(MANIFEST)
        assert manifest is not None
        return hashlib.sha256(manifest.read()).hexdigest()


class SimulatedAgent:
    """In place of the daemon: model slots are written as it would, nothing is scored."""

    def __init__(self, data_dir: Path, moments: Moments, done: Any) -> None:
        self._data_dir = data_dir
        self._moments = moments
        self._done = done
        self.in_force = InForce(model=ModelSlots(data_dir).names[0])

    def facts(self) -> Facts:
        return Facts(__version__, (platform.machine(),), self.in_force, 1 << 30, 1 << 34)

    def vitals(self) -> Vitals:
        return Vitals(0, 0, 0, 0.0, 80.0, (), ())

    async def begin_shadow(self, bundle: Bundle) -> None:
        raise AssertionError("no shadow is asked for")

    def shadow(self) -> Comparison:
        return Comparison(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)

    async def end_shadow(self) -> None:
        pass

    async def put_in_force(self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str) -> None:
        await asyncio.to_thread(lambda: put_model(ModelSlots(self._data_dir), bundle))
        self.in_force = wanted
        self._moments.switched = time.monotonic()
        self._done()

    def notice(self, code: str, message: str) -> None:
        if code != "update_refused":  # as long as the ring has no release
            print(f"{self._data_dir.name}: {code}: {message}", file=sys.stderr)


class Gateways:
    """All of one order on one event loop."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._metrics = Metrics()
        self._clock = SystemClock()
        self._moments = {name: Moments() for name in order.gateways}
        self._subscribed = self._finished = 0
        self._changed = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        """Connect all, wait until the last has switched; what they did."""
        count = len(self._order.gateways)
        async with asyncio.TaskGroup() as tasks:
            running: list[asyncio.Task[None]] = []
            for number, name in enumerate(self._order.gateways, 1):
                running += await self._start(tasks, name)
                if number % CONNECTING_AT_ONCE == 0 or number == count:
                    await self._until(lambda number=number: self._subscribed >= number)
            print("subscribed", flush=True)
            if self._order.plain is None:
                await self._until(lambda: self._looks() >= count)
                print("looked", flush=True)
            began_s = _cpu_s()
            await self._until(lambda: self._finished == count)
            spent_s = _cpu_s() - began_s
            for task in running:
                task.cancel()
        moments = [[one.told, one.verified, one.switched] for one in self._moments.values()]
        return {"moments": moments, "cpu_s": spent_s, "rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    async def _start(self, tasks: asyncio.TaskGroup, name: str) -> list[asyncio.Task[None]]:
        order, moments = self._order, self._moments[name]
        if order.plain is None:
            look, updates = await self._updater(name, moments)
        else:
            look, updates = self._plain(Path(order.folder, name), moments)

        def told(hint: Hint) -> None:
            moments.told = time.monotonic()  # of the last one: those before are kept by the broker, or a rehearsal
            look(hint)

        switchboard = Switchboard(order.fleet, order.ring, name, told)
        context = Counted(name, self._clock, random.Random(name), self._metrics, self._count_subscribed)
        options = MqttUplinkOptions(type="mqtt", port=order.broker, session_expiry="0s", keepalive="600s")
        runner = UplinkRunner(
            "fleet", lambda: MqttUplink(options, context), options, context, self._metrics, switchboard
        )
        return [
            tasks.create_task(runner.run(), name=f"{name}: uplink"),
            *(tasks.create_task(update(switchboard), name=f"{name}: updates") for update in updates),
        ]

    async def _updater(self, name: str, moments: Moments) -> tuple[Look, list[Update]]:
        order, folder = self._order, Path(self._order.folder, name)
        options = OtaOptions(
            repository=order.origin, root=Path(order.root), fleet=order.fleet, ring=order.ring, poll_every="7d"
        )
        until = Phase(order.until)
        over = asyncio.Event()

        def switched() -> None:
            if until is Phase.TRIAL:
                self._count_finished()
                over.set()

        agent = SimulatedAgent(folder, moments, switched)
        trust = InProcessTrust(Settings.of(options, folder))
        updater = Updater(
            options, folder, trust, CheapProber(moments), agent, self._clock, random.Random(name), self._metrics,
            gateway=name,
        )  # fmt: skip
        await updater.boot()

        async def report(switchboard: Switchboard) -> None:
            finished = False
            while True:
                found = await updater.next_report()
                switchboard.tell(found.to_json())
                self._changed.set()
                if found.phase is until is Phase.STAGED and not finished:
                    finished, moments.switched = True, time.monotonic()
                    self._count_finished()

        async def run(switchboard: Switchboard) -> None:
            """Until it has switched: what a gateway does on trial is done by its own processor."""
            running = asyncio.create_task(updater.run())
            try:
                await over.wait()
                await asyncio.sleep(STEP_S)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

        return updater.look, [report, run]

    def _looks(self) -> float:
        return sum(child.value for _, child in self._metrics.ota_checks.series())

    def _plain(self, folder: Path, moments: Moments) -> tuple[Look, list[Update]]:
        """The control: the same file by HTTP, to the same disk, checked by nothing."""
        told = asyncio.Event()
        waits_s: list[float] = []

        def look(hint: Hint) -> None:
            if hint.counter != NOT_RETAINED_YET:
                return
            waits_s.append(random.uniform(0.0, hint.spread_s))
            told.set()

        def get() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            with urllib3.PoolManager() as pool, (folder / "plain").open("wb") as file:
                file.write(pool.request("GET", str(self._order.plain)).data)

        async def update(switchboard: Switchboard) -> None:
            await told.wait()
            await asyncio.sleep(waits_s[0])
            await asyncio.to_thread(get)
            moments.verified = moments.switched = time.monotonic()
            self._count_finished()

        return look, [update]

    def _count_subscribed(self) -> None:
        self._subscribed += 1
        self._changed.set()

    def _count_finished(self) -> None:
        self._finished += 1
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            with suppress(TimeoutError):  # looks that find nothing new are told by nobody
                async with asyncio.timeout(0.5):
                    await self._changed.wait()


class Counted(AdapterContext):
    """Says when the uplink is subscribed for the first time."""

    def __init__(self, name: str, clock: Clock, rng: random.Random, metrics: Metrics, told: Callable[[], None]) -> None:
        super().__init__(name, clock, rng, metrics, kind="uplink")
        self._told = told

    def connected(self, what: str) -> None:
        first = not self.ever_connected
        super().connected(what)
        if first:
            self._told()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _main(order: Order) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    print(json.dumps(await Gateways(order).run()), flush=True)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.basicConfig(level=logging.ERROR)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(Order(**json.loads(sys.stdin.readline()))))
