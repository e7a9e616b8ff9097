"""Updates when the world fails: power, disk, network. What was begun is completed; what runs goes on."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from daemon_process import until
from ota_site import FLEET, LONG, NO_SHADOW, NOW, RING, SHORT, Gateway, Plant, Site, good_model, large_model

from edge_agent.bundle import Bundle
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import Hint
from edge_agent.metrics import Metrics
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Comparison, Facts, Vitals
from edge_agent.ota.probe import ChildProber
from edge_agent.ota.publisher import Repository
from edge_agent.ota.ring import Trial
from edge_agent.ota.state import InForce
from edge_agent.ota.trust.in_process import InProcessTrust
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.updater import Updater

pytestmark = [pytest.mark.counterpart, pytest.mark.timeout(180)]

PHASES = ("downloading", "verified", "probed", "staged", "trial", "committed")
LOOK_S = 0.0005


def kill_at(gateway: Gateway, phase: str, patience_s: float = 30.0) -> None:
    """End the daemon as a power cut does, right after that phase was written."""
    deadline = time.monotonic() + patience_s
    while gateway.state().get("phase") != phase:
        assert time.monotonic() < deadline, f"phase {phase} in vain: {gateway.state()}"
        time.sleep(LOOK_S)
    gateway.agent.kill()


@pytest.mark.slow
def test_a_cut_in_every_phase_leaves_the_next_start_to_go_on(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    first = site.publish(good_model(tmp_path, "1.0.0"))
    gateway.until_outcome(first, "committed")

    # While it looks, nothing is written: the children that look are seen instead.
    bundle = good_model(tmp_path, "2.0.0")
    change = site.repository.publish(bundle, rings=(RING,), activate=NOW, trial=SHORT, shadow=NO_SHADOW)
    process = psutil.Process(gateway.agent.process.pid)  # type: ignore[union-attr]
    site.nudge(Hint())
    until(process.children, "a look")
    gateway.agent.kill()
    assert gateway.state()["phase"] == "idle"
    gateway.start()
    assert gateway.model() == "tiny 1.0.0"
    site.nudge(Hint(change.counters[RING]))
    for phase in PHASES:
        kill_at(gateway, phase)
        before = gateway.state()["phase"]
        gateway.start()
        found = gateway.model()
        assert found in (("tiny 2.0.0",) if before in ("trial", "committed") else ("tiny 1.0.0", "tiny 2.0.0"))
    outcome = gateway.until_outcome(change, "committed")
    assert outcome["release"] == "tiny-2.0.0"
    assert gateway.model() == "tiny 2.0.0"
    assert gateway.ota()["denied"] == []
    gateway.until_ticking()
    assert gateway.agent.stop() == 0
    gateway.start()
    assert gateway.model() == "tiny 2.0.0"


@pytest.mark.slow
def test_a_cut_while_a_release_is_taken_back_takes_it_back(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    gateway.until_outcome(site.publish(good_model(tmp_path, "1.0.0")), "committed")
    second = site.publish(good_model(tmp_path, "2.0.0"), trial=LONG)
    gateway.until_on_trial("tiny 2.0.0")
    site.told(site.repository.halt(RING))
    kill_at(gateway, "rolled_back")
    gateway.start()
    assert gateway.model() == "tiny 1.0.0"
    outcome = gateway.ota()["outcome"]
    assert (outcome["reason"], outcome["counter"]) == ("halted", second.counters[RING])


@pytest.mark.slow
def test_a_full_disk_is_told_and_the_update_goes_on_when_there_is_room(
    site: Site, gateway: Gateway, plant: Plant, tmp_path: Path
) -> None:
    gateway.start().until_ticking()
    process = psutil.Process(gateway.agent.process.pid)  # type: ignore[union-attr]
    most = process.rlimit(psutil.RLIMIT_FSIZE)
    # As of a disk that takes the state but not the model: no file of this process becomes larger than 150 kB.
    process.rlimit(psutil.RLIMIT_FSIZE, (150_000, most[1]))
    change = site.publish(large_model(tmp_path, "1.0.0"))
    outcome = gateway.until_outcome(change, "refused")
    assert outcome["reason"] == "disk"
    assert "the bundle cannot be stored: File too large" in outcome["message"]
    until(lambda: "the bundle cannot be stored: File too large" in gateway.agent.log(), "it to be logged too")
    assert gateway.agent.metric("edge_agent_ota_refusals_total", reason="disk") == 1
    assert gateway.ota()["denied"] == []
    gateway.until_ticking()
    process.rlimit(psutil.RLIMIT_FSIZE, most)
    site.nudge(Hint())
    gateway.until_outcome(change, "committed")
    assert gateway.agent.stop() == 0


class QuietAgent:
    """The agent as the updater sees it; it only notes what is put in force."""

    def __init__(self) -> None:
        self.in_force = InForce()
        self.ticks = 0
        self.notices: list[str] = []

    def facts(self) -> Facts:
        return Facts("1.0.0", ("x86_64",), self.in_force, 1 << 30, 1 << 34)

    def vitals(self) -> Vitals:
        self.ticks += 100
        return Vitals(self.ticks, 0, 0, 0.0, 80.0, (), ())

    async def begin_shadow(self, bundle: Bundle) -> None:
        raise AssertionError("no shadow is asked for")

    def shadow(self) -> Comparison:
        raise AssertionError("no shadow is asked for")

    async def end_shadow(self) -> None:
        pass

    async def put_in_force(self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str) -> None:
        self.in_force = wanted

    def notice(self, code: str, message: str) -> None:
        self.notices.append(code)


async def passes(clock: VirtualClock, seconds: float, steps: int) -> None:
    """Virtual time, in steps, each with a little real time for threads and sockets."""
    for _ in range(steps):
        clock.advance(int(seconds / steps * NS_PER_S))
        await asyncio.sleep(0.002)


@pytest.mark.slow
async def test_a_day_without_network_costs_few_attempts_and_then_the_update_comes(site: Site, tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    clock, metrics, agent = VirtualClock(int(now.timestamp()) * NS_PER_S), Metrics(), QuietAgent()
    options = OtaOptions(repository=f"http://127.0.0.1:{site.port}", root=site.root, fleet=FLEET)
    trust = InProcessTrust(Settings.of(options, tmp_path / "data"))
    updater = Updater(
        options, tmp_path / "data", trust, ChildProber(), agent, clock, random.Random(1), metrics, gateway="far-away"
    )
    await updater.boot()
    trial = Trial(seconds=60, ticks=100)
    site.repository.publish(good_model(tmp_path, "1.0.0"), rings=(RING,), activate=NOW, trial=trial, shadow=NO_SHADOW)
    site.stop()
    running = asyncio.create_task(updater.run())
    try:
        await passes(clock, 86_400.0, 1_440)
        attempts = metrics.ota_checks.labels("unreachable").value
        assert 86_400 / 900 / 2 < attempts < 300
        assert "tried again later" in (updater.report().problem or "")
        assert agent.notices == [], "nobody is called for a network that is gone"

        later = Repository.open(
            site.repository.folder, lambda what, new: "only for tests", now=lambda: now + timedelta(days=1)
        )
        later.refresh()
        site.serve()
        for _ in range(400):
            await passes(clock, 10.0, 1)
            await asyncio.sleep(0.01)
            report = updater.report()
            if report.outcome is not None:
                break
        assert report.outcome is not None
        assert (report.outcome.result, report.problem) == ("committed", None)
        assert agent.in_force.model is not None
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_sideload_needs_no_network(site: Site, gateway: Gateway, plant: Plant, tmp_path: Path) -> None:
    site.repository.publish(good_model(tmp_path, "1.0.0"), rings=(RING,), activate=NOW, trial=SHORT, shadow=NO_SHADOW)
    site.repository.sideload(tmp_path / "stick", RING)
    site.stop()
    shutil.rmtree(site.repository.served)
    gateway.start().until_ticking()
    token = (gateway.agent.folder / "data" / "api-token").read_text().strip()
    found = gateway.post("/api/v1/ota/sideload", token, {"path": str(tmp_path / "stick")})
    assert found["floors"] == {RING: 1}
    until(lambda: gateway.model() == "tiny 1.0.0", "the model from the stick")
    until(lambda: (gateway.ota()["outcome"] or {}).get("result") == "committed", "its commit")
    assert gateway.agent.stop() == 0
