"""An updater with the real model slots and disk; trust, probe and the rest of the agent do as they are told."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent.bundle import Bundle, ModelSlots, read_bundle, verify_bundle
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.durable import make_folder, sync_folder, write_durably
from edge_agent.errors import OtaError
from edge_agent.metrics import Metrics
from edge_agent.ota.boot import Booted, boot
from edge_agent.ota.effects import put_model, put_overlay
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Checked, Comparison, Facts, Probed, Vitals
from edge_agent.ota.ring import ConfigTarget, Limits, ModelTarget, Ring, Target
from edge_agent.ota.state import InForce, OtaState, Phase
from edge_agent.ota.state_store import StateStore
from edge_agent.ota.updater import Updater

T0_S = 1_800_000_000.0
ORIGIN = "https://updates.example.com/fleet"


class RestingClock(VirtualClock):
    """Knows when somebody waits for it: everything that could be done without time has been done then."""

    def __init__(self, wall_ns: int = int(T0_S * NS_PER_S)) -> None:
        super().__init__(wall_ns)
        self.asleep = asyncio.Event()

    async def sleep_until(self, monotonic_ns: int) -> None:
        if monotonic_ns > self.monotonic_ns():
            self.asleep.set()
        try:
            await super().sleep_until(monotonic_ns)
        finally:
            self.asleep.clear()


def tar_of(files: dict[str, bytes]) -> bytes:
    """A plain tar of a bundle, the same for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            archive.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()


class Package:
    """A model as it is published: bundle, tar, target."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.bundle: Bundle = verify_bundle(files)
        self.tar = tar_of(files)
        digest = hashlib.sha256(self.tar).hexdigest()
        self.target = ModelTarget(
            path=f"models/tests/{name}-1.tar", sha256=digest, bytes=len(self.tar), bundle=self.bundle.sha256
        )


def config_target(content: bytes) -> ConfigTarget:
    digest = hashlib.sha256(content).hexdigest()
    return ConfigTarget(path=f"config/{digest[:8]}.yaml", sha256=digest, bytes=len(content))


def ring_of(counter: int, **fields: Any) -> Ring:
    """A ring file that is activated at once, without shadow, with a short trial."""
    values: dict[str, Any] = {
        "ring": "stable",
        "release": f"r{counter}",
        "counter": counter,
        "issued": datetime.fromtimestamp(T0_S, UTC),
        "activate": {"mode": "now", "spread_s": 0},
        "shadow": {"seconds": 0},
        "trial": {"seconds": 60, "ticks": 50},
    }
    return Ring.model_validate(values | fields)


class FakeTrust:
    """Gives the ring file and targets that it is told to; ``error`` is raised by the next calls.

    Nothing can be fetched from the origin that is ``gone``.
    """

    def __init__(self) -> None:
        self.ring: Ring | bytes = ring_of(1)
        self.files: dict[str, bytes] = {}
        self.signed_s = T0_S
        self.expires_s = T0_S + 30 * 86_400
        self.error: OtaError | None = None
        self.fetch_error: OtaError | None = None
        self.gone: str | None = None
        self.checks: list[tuple[str, float]] = []
        self.fetches: list[str] = []
        self.may_fetch = asyncio.Event()
        self.may_fetch.set()
        self.may_check = asyncio.Event()
        self.may_check.set()

    def publish(self, ring: Ring, *content: bytes) -> None:
        self.ring = ring
        for item in content:
            self.files[hashlib.sha256(item).hexdigest()] = item

    async def check(self, origin: str, ring: str, now_s: float) -> Checked:
        self.checks.append((origin, now_s))
        await self.may_check.wait()
        if self.error is not None:
            raise self.error
        if now_s > self.expires_s:
            raise OtaError("expired", "timestamp metadata expired")
        raw = self.ring if isinstance(self.ring, bytes) else self.ring.to_json()
        return Checked(raw, self.signed_s, self.expires_s, 1)

    async def fetch(self, origin: str, target: Target, now_s: float, into: Path) -> None:
        self.fetches.append(target.sha256)
        await self.may_fetch.wait()
        if self.fetch_error is not None:
            raise self.fetch_error
        if origin == self.gone:
            raise OtaError("unreachable", "is it mounted?")
        part = into.parent.parent / "partial" / f"{into.name}.part"
        try:
            for folder in (into.parent, part.parent):
                make_folder(folder)
            write_durably(part, self.files[target.sha256])
            part.replace(into)
            for folder in (into.parent, part.parent):
                sync_folder(folder)
        except OSError as error:
            raise OtaError("disk", str(error)) from error


class FakeProber:
    """Believes what the tar says, unless it is told otherwise."""

    def __init__(self) -> None:
        self.errors: dict[str, OtaError] = {}
        self.calls: list[str] = []

    async def gate(self, path: Path) -> str:
        self.calls.append("gate")
        if "gate" in self.errors:
            raise self.errors["gate"]
        return read_bundle(path).sha256

    async def probe(self, path: Path, limits: Limits) -> Probed:
        self.calls.append("probe")
        if "probe" in self.errors:
            raise self.errors["probe"]
        return Probed("", 1.0, 2.0, 40.0, 0.0)


class FakeHost:
    """An agent that runs what is put in force; how well is told by :attr:`sick`, by model."""

    def __init__(self, data_dir: Path, clock: VirtualClock, in_force: InForce) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.in_force = in_force
        self.free_disk = 10**10
        self.free_memory = 10**10
        self.hardware = ("x86_64",)
        self.notices: list[str] = []
        self.put: list[tuple[InForce, str]] = []
        self.refuse: dict[str | None, Exception] = {}
        self.shadowing: Bundle | None = None
        self.comparison = Comparison(0, 0, 0.0, 0, 0, 1.0, 1.0)
        self.sick: dict[str | None, dict[str, Any]] = {}
        self.ticks_per_s = 1.0
        self.since_ns = clock.monotonic_ns()

    def facts(self) -> Facts:
        return Facts("1.2.3", self.hardware, self.in_force, self.free_memory, self.free_disk)

    def vitals(self) -> Vitals:
        ticks = int(self.clock.monotonic_ns() / NS_PER_S * self.ticks_per_s)
        chance = random.Random(1)
        scores = [chance.gauss(1.0, 0.1) for _ in range(min(ticks, 2_000))]
        well = Vitals(ticks, 0, 0, 0.0, 60.0, scores, [1.0] * min(ticks, 2_000))
        if self.clock.monotonic_ns() == self.since_ns:
            return well
        return replace(well, **self.sick.get(self.in_force.model, {}))

    async def begin_shadow(self, bundle: Bundle) -> None:
        self.shadowing = bundle

    def shadow(self) -> Comparison:
        return self.comparison

    async def end_shadow(self) -> None:
        self.shadowing = None

    async def put_in_force(self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str) -> None:
        if wanted.model in self.refuse:
            raise self.refuse[wanted.model]
        slots = ModelSlots(self.data_dir)
        if wanted.model != slots.names[0]:
            put_model(slots, bundle if bundle is not None or wanted.model is None else slots.read(wanted.model))
        put_overlay(self.data_dir, wanted.config)
        assert overlay is None or hashlib.sha256(overlay.read_bytes()).hexdigest() == wanted.config
        self.in_force, self.since_ns = wanted, self.clock.monotonic_ns()
        self.put.append((wanted, why))

    def notice(self, code: str, message: str) -> None:
        self.notices.append(f"{code}: {message}")


class Rig:
    """One gateway. :meth:`started` is one life of its process."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        values = {"repository": ORIGIN, "root": "/nowhere/root.json", "ring": "stable", "fleet": "tests"}
        self.options = OtaOptions.model_validate(values | options)
        self.data_dir = data_dir
        self.clock = RestingClock()
        self.trust = FakeTrust()
        self.prober = FakeProber()
        self.metrics = Metrics()
        self.sick: dict[str | None, dict[str, Any]] = {}
        self.loads: InForce | None = None
        self.host: FakeHost
        self.updater: Updater
        self.running: asyncio.Task[None]
        self.booted: Booted

    @property
    def state(self) -> OtaState:
        """As it is on the disk."""
        return StateStore(self.data_dir / "ota", self.clock).load().state

    @property
    def phase(self) -> Phase:
        return self.state.phase

    @asynccontextmanager
    async def started(self, seed: int = 1) -> AsyncIterator[Rig]:
        """Boot, run until the block ends, then stop at once as a crash does."""
        self.booted = boot(self.data_dir, self.clock)
        self.host = FakeHost(self.data_dir, self.clock, self.loads or self.loaded())
        self.host.sick = self.sick
        self.updater = Updater(
            self.options,
            self.data_dir,
            self.trust,
            self.prober,
            self.host,
            self.clock,
            random.Random(seed),
            self.metrics,
            gateway="gw-1",
        )
        await self.updater.boot(self.booted)
        self.running = running = asyncio.create_task(self.updater.run(), name="updater")
        try:
            await self.settle()
            yield self
            if running.done():
                await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    def loaded(self) -> InForce:
        """What an agent that starts now loads."""
        bundle = ModelSlots(self.data_dir).current()
        overlay = self.data_dir / "ota" / "config.yaml"
        config = hashlib.sha256(overlay.read_bytes()).hexdigest() if overlay.exists() else None
        return InForce(model=None if bundle is None else bundle.sha256, config=config)

    async def settle(self) -> None:
        """Until nothing is left to be done without time."""
        while True:
            asleep = asyncio.create_task(self.clock.asleep.wait(), name="asleep")
            await asyncio.wait([asleep, self.running], return_when=asyncio.FIRST_COMPLETED)
            asleep.cancel()
            if self.running.done():
                self.running.result()
            await yields()
            gates = {"updates: download": self.trust.may_fetch, "updates: look": self.trust.may_check}
            goes_on = [task for task in asyncio.all_tasks() if (gate := gates.get(task.get_name())) and gate.is_set()]
            if goes_on:
                await asyncio.wait(goes_on)
            elif self.clock.asleep.is_set():
                return

    async def passes(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(int(seconds * NS_PER_S))
        await yields()
        await self.settle()

    async def look(self) -> None:
        """The next look, whatever it takes."""
        asking = asyncio.create_task(self.updater.check_now("tester"), name="ask")
        await yields()
        await self.passes(self.options.check_not_within)
        await asking
        await self.settle()


async def yields() -> None:
    """Let every task go on that can, as far as a few of them wait for each other."""
    for _ in range(20):
        await asyncio.sleep(0)
