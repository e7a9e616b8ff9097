"""Starts of the process: what every crash leads to, and that nothing keeps the agent from starting."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from updater_rig import T0_S, Package, Rig, ring_of

from edge_agent.bundle import ModelSlots
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.errors import OtaError
from edge_agent.history import StateFile
from edge_agent.ota import steps
from edge_agent.ota.boot import AUDIT, boot
from edge_agent.ota.chain import entries
from edge_agent.ota.state import Floor, InForce, OtaState, Outcome, Phase, Result
from edge_agent.ota.state_store import StateStore

NOW = T0_S + 100


def clock() -> VirtualClock:
    return VirtualClock(int(T0_S * NS_PER_S))


async def commit(rig: Rig, package: Package, counter: int) -> None:
    rig.trust.publish(ring_of(counter, model=package.target), package.tar)
    await rig.look()
    await rig.passes(61)
    assert rig.phase is Phase.IDLE


async def on_trial(rig: Rig, packages: dict[str, Package]) -> None:
    """A is committed; B is on trial when the process ends."""
    async with rig.started():
        await commit(rig, packages["A"], 1)
        rig.trust.publish(ring_of(2, model=packages["B"].target), packages["B"].tar)
        await rig.look()
        assert rig.phase is Phase.TRIAL


async def test_crash_loop_is_taken_back_at_the_third_start(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    ran = []
    for _ in range(3):
        done = boot(rig.data_dir, rig.clock)
        ran.append(rig.loaded().model)
    a, b = packages["A"].bundle.sha256, packages["B"].bundle.sha256
    assert ran == [b, b, a]
    assert done.ended == "crashes"
    assert [(item.sha256, item.reason) for item in rig.state.denied] == [(b, "crashes")]
    async with rig.started():
        await rig.look()
    outcome = rig.state.outcome
    assert outcome is not None
    assert (outcome.counter, outcome.result, outcome.reason) == (2, Result.ROLLED_BACK, "crashes")
    assert rig.loaded().model == a


async def test_candidate_that_kills_the_process_in_shadow_is_quarantined(
    rig: Rig, packages: dict[str, Package]
) -> None:
    async with rig.started():
        ring = ring_of(1, model=packages["A"].target, shadow={"seconds": 600})
        rig.trust.publish(ring, packages["A"].tar)
        await rig.look()
        assert rig.phase is Phase.SHADOW
    for _ in range(2):
        async with rig.started():
            assert rig.phase is Phase.SHADOW
    async with rig.started():
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.QUARANTINED, "crashes")


async def test_trial_goes_on_after_a_restart_and_can_be_committed(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    async with rig.started():
        assert rig.state.starts == 1
        await rig.passes(61)
        assert rig.state.outcome is not None
        assert rig.state.outcome.result is Result.COMMITTED
    assert rig.loaded().model == packages["B"].bundle.sha256


async def test_what_the_trial_is_compared_with_survives_a_restart(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    rig.sick[packages["B"].bundle.sha256] = {"alarms": 50}
    async with rig.started():
        await rig.passes(5)
        assert rig.state.outcome is not None
        assert rig.state.outcome.reason == "alarms"


async def test_model_that_does_not_load_after_a_restart_is_taken_back(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    a = packages["A"].bundle.sha256
    rig.loads = InForce(model=a)
    async with rig.started():
        pass
    outcome = rig.state.outcome
    assert outcome is not None
    assert (outcome.result, outcome.reason) == (Result.ROLLED_BACK, "unusable")
    assert rig.loaded().model == a


async def test_swap_by_hand_before_a_restart_ends_the_trial(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    ModelSlots(rig.data_dir).install(packages["C"].bundle)
    async with rig.started():
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.HALTED, "operator")
    assert rig.loaded().model == packages["C"].bundle.sha256


async def test_activation_that_was_cut_off_is_done_again(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    ModelSlots(rig.data_dir).rollback()
    boot(rig.data_dir, rig.clock)
    assert rig.loaded().model == packages["B"].bundle.sha256


async def test_model_on_trial_that_is_gone_is_taken_back(rig: Rig, packages: dict[str, Package]) -> None:
    await on_trial(rig, packages)
    shutil.rmtree(rig.data_dir / "models" / packages["B"].bundle.sha256)
    shutil.rmtree(rig.data_dir / "ota" / "blobs")
    done = boot(rig.data_dir, rig.clock)
    assert done.ended == "damaged"
    assert rig.loaded().model == packages["A"].bundle.sha256


async def test_download_goes_on_after_a_restart(rig: Rig, packages: dict[str, Package]) -> None:
    rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
    rig.trust.fetch_error = OtaError("unreachable", "connection refused")
    async with rig.started():
        await rig.look()
        assert rig.phase is Phase.DOWNLOADING
    rig.trust.fetch_error = None
    async with rig.started():
        assert rig.phase is Phase.TRIAL


def outcome(result: Result) -> Outcome:
    return steps.ended("r1", 1, result, "errors", "", NOW)


SUCCESSORS = {
    Phase.IDLE: Phase.IDLE,
    Phase.CHECKING: Phase.IDLE,
    Phase.DOWNLOADING: Phase.DOWNLOADING,
    Phase.VERIFIED: Phase.VERIFIED,
    Phase.PROBED: Phase.PROBED,
    Phase.STAGED: Phase.STAGED,
    Phase.SHADOW: Phase.STAGED,
    Phase.TRIAL: Phase.TRIAL,
    Phase.COMMITTED: Phase.IDLE,
    Phase.ROLLED_BACK: Phase.IDLE,
    Phase.QUARANTINED: Phase.IDLE,
}


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_one_successor(tmp_path: Path, packages: dict[str, Package], phase: Phase) -> None:
    slots = ModelSlots(tmp_path)
    slots.install(packages["A"].bundle)
    if phase is Phase.TRIAL:
        slots.install(packages["B"].bundle)
    working = phase not in (Phase.IDLE, Phase.COMMITTED, Phase.ROLLED_BACK, Phase.QUARANTINED)
    before = InForce(model=packages["A"].bundle.sha256) if phase in (Phase.TRIAL, Phase.ROLLED_BACK) else None
    state = OtaState(phase=phase, release=ring_of(1, model=packages["B"].target) if working else None, before=before)
    StateStore(tmp_path / "ota", clock()).save(state)
    for _ in range(2):  # the successor is its own, but for the starts
        done = boot(tmp_path, clock())
        assert done.state.phase is SUCCESSORS[phase]
        assert done.problems == []


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"EDGESTATE1\n" + b"\1" * 200, b"{}"])
@pytest.mark.parametrize("names", [("state",), ("state.copy",), ("state", "state.copy")])
async def test_damaged_state_keeps_the_floors(
    rig: Rig, packages: dict[str, Package], names: tuple[str, ...], content: bytes
) -> None:
    async with rig.started():
        await commit(rig, packages["A"], 7)
    for name in names:
        (rig.data_dir / "ota" / name).write_bytes(content)
    async with rig.started():
        rig.trust.publish(ring_of(6, model=packages["B"].target), packages["B"].tar)
        await rig.look()
        assert rig.state.floors["stable"].counter == 7
        assert "rollback" in [labels[0] for labels, _ in rig.metrics.ota_refusals.series()]
    assert rig.loaded().model == packages["A"].bundle.sha256
    if "state" in names:
        assert "state_damaged" in [entry["action"] for entry in entries(rig.data_dir / "ota" / AUDIT)]


def test_state_of_a_newer_agent_keeps_the_floors(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "ota", clock())
    floor = Floor(counter=12, sha256="a" * 64)
    raw = OtaState(floors={"stable": floor}, time_floor_s=NOW).model_dump_json().replace('"idle"', '"teleporting"')
    for name in ("state", "state.copy"):
        StateFile(tmp_path / "ota" / name).save(raw.encode())
    loaded = store.load()
    assert loaded.damaged
    assert loaded.state.floors == {"stable": floor}
    assert loaded.state.time_floor_s == NOW


def test_folder_that_cannot_be_used_does_not_keep_the_agent_from_starting(tmp_path: Path) -> None:
    (tmp_path / "ota").write_text("not a folder")
    done = boot(tmp_path, clock())
    assert done.state.phase is Phase.IDLE
