"""The running agent as updates see it: exchange, shadow, vitals."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import probe_adapters as probe
import pytest
from bundle_factory import bundle_with, nan_when_value_is_below_minus_1000, rewire
from test_daemon import Bench, probes, running, slightly_other, until

from edge_agent.bundle import Bundle
from edge_agent.clock import NS_PER_S
from edge_agent.daemon import Daemon
from edge_agent.daemon.host import AgentHost
from edge_agent.errors import BundleError, StoreError
from edge_agent.ota.state import InForce

__all__ = ["probes"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@asynccontextmanager
async def hosted(bench: Bench) -> AsyncIterator[tuple[Daemon, AgentHost]]:
    async with running(bench.make()) as daemon:
        yield daemon, AgentHost(daemon, ("rpi4",))


async def readings(bench: Bench, daemon: Daemon, ticks: int) -> None:
    for k in range(ticks):
        probe.sources["press"].give(a=20.0 + (k * 7 % 11) / 10, b=20.0 + (k * 5 % 13) / 10)
        await bench.tick(daemon)


def candidate() -> Bundle:
    return bundle_with(rewire("score", slightly_other), version="2.0.0")


async def test_a_model_is_put_in_force_between_two_ticks_and_kept_over_restarts(bench: Bench) -> None:
    new = candidate()
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 30)
        before = host.in_force
        await host.put_in_force(InForce(model=new.sha256), new, None, "release r1 goes on trial")
        assert host.in_force == InForce(model=new.sha256)
        await readings(bench, daemon, 2)
        assert daemon.control.model()["version"] == "2.0.0"
        assert daemon.pipeline is not None
        assert daemon.pipeline.last_report is not None
        assert daemon.pipeline.last_report.scores.valid.all()  # it has gone through what the graph remembered
    probe.log.clear()
    async with hosted(bench) as (daemon, host):
        assert host.in_force == InForce(model=new.sha256)
        await host.put_in_force(before, None, None, "taken back")  # out of the slots
        assert host.in_force == before
        assert daemon.control.model()["previous"] is None or daemon.control.model()["previous"]["sha256"] != new.sha256


async def test_the_universal_model_can_be_put_in_force(bench: Bench) -> None:
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 2)
        await host.put_in_force(InForce(), None, None, "factory")
        assert host.in_force == InForce()
        assert daemon.control.model()["name"] == "universal"


async def test_a_bundle_that_is_not_there_changes_nothing(bench: Bench) -> None:
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 2)
        before = host.in_force
        with pytest.raises(BundleError, match="is not there"):
            await host.put_in_force(InForce(model="ab" * 32), None, None, "taken back")
        assert host.in_force == before


async def test_a_disk_that_takes_nothing_changes_nothing(bench: Bench) -> None:
    new = candidate()
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 2)
        before = host.in_force
        (bench.folder / "data" / "models").rename(bench.folder / "data" / "elsewhere")
        (bench.folder / "data" / "models").write_text("in the way")
        with pytest.raises(StoreError):
            await host.put_in_force(InForce(model=new.sha256), new, None, "release r1 goes on trial")
        assert host.in_force == before


async def test_facts_name_processor_and_kinds(bench: Bench) -> None:
    async with hosted(bench) as (_, host):
        facts = host.facts()
        assert facts.hardware[1:] == ("rpi4",)
        assert facts.free_memory_bytes > 0
        assert facts.free_disk_bytes > 0


async def test_vitals_count_and_begin_their_samples_anew_with_a_model(bench: Bench) -> None:
    new = candidate()
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 40)
        before = host.vitals()
        assert before.ticks == 40
        assert len(before.tick_ms) == 40
        assert len(before.scores) > 10
        assert before.rss_mb > 10
        await host.put_in_force(InForce(model=new.sha256), new, None, "release r1 goes on trial")
        assert host.vitals().scores == ()
        await readings(bench, daemon, 5)
        now = host.vitals()
        assert (now.ticks, len(now.tick_ms)) == (45, 5)


async def test_a_candidate_in_shadow_sees_the_same_ticks_and_answers_for_none(bench: Bench) -> None:
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 30)
        await host.begin_shadow(candidate())
        for _ in range(60):
            ticks = host.shadow().ticks
            await readings(bench, daemon, 1)
            await until(lambda ticks=ticks: host.shadow().ticks > ticks)  # type: ignore[misc]
        seen = host.shadow()
        assert (seen.ticks, seen.failures, seen.alarms) == (60, 0, 0)
        assert seen.distance < 0.05
        assert seen.details["agreement"] > 0.99
        assert seen.details["skipped"] == 0
        assert seen.p99_ms > 0
        assert daemon.control.model()["version"] == "1.0.0"
        await host.end_shadow()
        await readings(bench, daemon, 2)
        assert host.shadow() == seen
        await host.end_shadow()


async def test_a_candidate_that_fails_in_shadow_is_counted(bench: Bench) -> None:
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 5)
        blind = bundle_with(rewire("score", nan_when_value_is_below_minus_1000), version="4.0.0")
        await host.begin_shadow(blind)
        probe.sources["press"].give(a=-2000.0)
        await bench.tick(daemon)
        await until(lambda: host.shadow().failures > 0)
        assert "not finite" in host.shadow().details["trouble"]
        assert daemon.metrics.detector_failures.labels().value == 0
        await host.end_shadow()


def test_what_checks_signatures_is_never_loaded_by_the_daemon() -> None:
    code = (
        "import sys, edge_agent.daemon.main, edge_agent.daemon.updates, edge_agent.cli.commands.run\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(found & {'tuf', 'securesystemslib', 'cryptography', 'urllib3', 'torch', 'onnx'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_without_updates_nothing_of_them_is_loaded() -> None:
    code = (
        "import sys, edge_agent.daemon.main\n"
        "print([name for name in ('edge_agent.ota.updater', 'edge_agent.daemon.updates', 'edge_agent.ota.trust.child') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_shadow_skips_ticks_when_the_machine_is_busy(bench: Bench) -> None:
    async with hosted(bench) as (daemon, host):
        await readings(bench, daemon, 5)
        await host.begin_shadow(candidate())
        report = daemon.pipeline.last_report if daemon.pipeline is not None else None
        assert report is not None
        bench.clock.advance(2 * NS_PER_S)  # this tick comes to its end only now
        host._ticked(report)
        assert host.shadow().details["skipped"] == 1
        assert daemon.metrics.ota_shadow_ticks.labels("skipped").value == 1
        await host.end_shadow()
