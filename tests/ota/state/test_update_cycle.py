"""One release after the other, from the look to its end."""

from __future__ import annotations

import asyncio

import pytest
from updater_rig import Package, Rig, config_target, ring_of

from edge_agent.errors import BundleError, OtaError
from edge_agent.ota.ports import Comparison
from edge_agent.ota.state import InForce, Phase, Result

CONFIG = b"decision:\n  false_alarms: 1 per week\n"


def release(package: Package, counter: int, **fields: object):  # type: ignore[no-untyped-def]
    return ring_of(counter, model=package.target, **fields)


async def committed(rig: Rig, package: Package, counter: int) -> None:
    rig.trust.publish(release(package, counter), package.tar)
    await rig.look()
    await rig.passes(61)
    assert rig.state.outcome is not None
    assert (rig.phase, rig.state.outcome.result) == (Phase.IDLE, Result.COMMITTED)


async def test_release_is_fetched_tried_and_committed(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        assert rig.phase is Phase.TRIAL
        assert rig.host.in_force.model == packages["A"].bundle.sha256
        await rig.passes(30)
        assert rig.phase is Phase.TRIAL
        await rig.passes(31)
    state = rig.state
    assert (state.phase, state.outcome and state.outcome.result) == (Phase.IDLE, Result.COMMITTED)
    assert rig.loaded().model == packages["A"].bundle.sha256
    assert rig.prober.calls == ["gate", "probe"]


async def test_trial_needs_ticks_as_well_as_time(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.host.ticks_per_s = 0.1
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        await rig.passes(200)
        assert rig.phase is Phase.TRIAL
        await rig.passes(400)
        assert rig.phase is Phase.IDLE


async def test_failing_model_is_taken_back_and_not_tried_again(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        rig.sick[packages["B"].bundle.sha256] = {"detector_failures": 3}
        rig.trust.publish(release(packages["B"], 2), packages["B"].tar)
        await rig.look()
        assert rig.phase is Phase.TRIAL
        await rig.passes(1)
        assert rig.phase is Phase.IDLE
        assert rig.host.in_force.model == packages["A"].bundle.sha256
        outcome = rig.state.outcome
        assert outcome is not None
        assert (outcome.result, outcome.reason, outcome.counter) == (Result.ROLLED_BACK, "errors", 2)
        rig.trust.publish(release(packages["B"], 3))
        await rig.look()
        outcome = rig.state.outcome
        assert outcome is not None
        assert (outcome.result, outcome.reason, outcome.counter) == (Result.REFUSED, "denied", 3)
    assert rig.loaded().model == packages["A"].bundle.sha256


async def test_staged_release_waits_for_a_newer_ring_file_that_says_now(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, activate={"mode": "stage"}), packages["A"].tar)
        await rig.look()
        await rig.passes(3_600)
        assert rig.phase is Phase.STAGED
        rig.trust.publish(release(packages["A"], 2, activate={"mode": "now", "spread_s": 20}))
        await rig.look()
        assert rig.phase is Phase.STAGED
        await rig.passes(21)
        assert rig.phase is Phase.TRIAL
    assert rig.trust.fetches == [packages["A"].target.sha256]
    assert rig.prober.calls == ["gate", "probe"]


async def test_operator_activates_what_is_staged(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        with pytest.raises(OtaError, match="no release is staged"):
            await rig.updater.activate("ann")
        rig.trust.publish(release(packages["A"], 1, activate={"mode": "stage"}), packages["A"].tar)
        await rig.look()
        report = await rig.updater.activate("ann")
        assert report.phase is Phase.TRIAL


async def test_configuration_alone_and_with_a_model(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(ring_of(1, config=config_target(CONFIG)), CONFIG)
        await rig.look()
        await rig.passes(61)
        assert rig.loaded() == InForce(model=None, config=config_target(CONFIG).sha256)
        other = CONFIG + b"\n"
        rig.trust.publish(release(packages["A"], 2, config=config_target(other)), packages["A"].tar, other)
        rig.sick[packages["A"].bundle.sha256] = {"alarms": 100}
        await rig.look()
        assert rig.loaded() == InForce(model=packages["A"].bundle.sha256, config=config_target(other).sha256)
        await rig.passes(5)
        outcome = rig.state.outcome
        assert outcome is not None
        assert outcome.reason == "alarms"
    assert rig.loaded() == InForce(model=None, config=config_target(CONFIG).sha256)


async def test_factory_model(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        rig.trust.publish(ring_of(2, model="factory"))
        await rig.look()
        assert rig.phase is Phase.TRIAL
        await rig.passes(61)
    assert rig.loaded().model is None
    outcome = rig.state.outcome
    assert outcome is not None
    assert outcome.result is Result.COMMITTED


async def test_what_was_before_cannot_be_read_any_more_so_the_universal_model_runs(
    rig: Rig, packages: dict[str, Package]
) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        rig.trust.publish(release(packages["B"], 2), packages["B"].tar)
        await rig.look()
        name = packages["A"].bundle.sha256
        (rig.data_dir / "models" / name / "model.onnx").write_bytes(b"rot")
        (rig.data_dir / "ota" / "blobs" / packages["A"].target.sha256).unlink()
        rig.sick[packages["B"].bundle.sha256] = {"detector_failures": 1}
        await rig.passes(1)
        assert rig.host.in_force.model is None
    assert rig.loaded().model is None


async def test_halt_ends_shadow_and_trial(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, shadow={"seconds": 600}), packages["A"].tar)
        await rig.look()
        assert rig.phase is Phase.SHADOW
        assert rig.host.shadowing is not None
        rig.trust.publish(release(packages["A"], 2, halt=True))
        await rig.look()
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.REFUSED, "halted")
        assert rig.host.shadowing is None
        rig.trust.publish(release(packages["A"], 3))
        await rig.look()
        assert rig.phase is Phase.TRIAL
        rig.trust.publish(release(packages["A"], 4, halt=True))
        await rig.look()
        assert rig.phase is Phase.IDLE
    assert rig.loaded().model is None


async def test_shadow_then_trial(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, shadow={"seconds": 600, "ticks": 200}), packages["A"].tar)
        await rig.look()
        await rig.passes(601)
        assert rig.phase is Phase.SHADOW
        rig.host.comparison = Comparison(300, 0, 0.1, 0, 0, 1.0, 1.0)
        await rig.passes(1)
        assert rig.phase is Phase.TRIAL


async def test_candidate_that_differs_in_shadow_is_quarantined(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1, shadow={"seconds": 600, "ticks": 200}), packages["A"].tar)
        await rig.look()
        rig.host.comparison = Comparison(300, 0, 0.4, 0, 0, 1.0, 1.0)
        await rig.passes(1)
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.QUARANTINED, "score_shift")
        assert [item.sha256 for item in rig.state.denied] == [packages["A"].bundle.sha256]


@pytest.mark.parametrize("where", ["gate", "probe"])
async def test_bad_model_is_quarantined(rig: Rig, packages: dict[str, Package], where: str) -> None:
    rig.prober.errors[where] = OtaError(where, "no good")
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.QUARANTINED, where)
        assert rig.host.put == []
        assert not list((rig.data_dir / "ota" / "blobs").iterdir())


async def test_model_that_cannot_be_put_in_force(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.host.refuse[packages["A"].bundle.sha256] = BundleError("no such operator")
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.ROLLED_BACK, "activation")
        assert rig.host.in_force == InForce()


async def test_operator_takes_back_what_was_committed(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        with pytest.raises(OtaError, match="no update to take back"):
            await rig.updater.roll_back("ann")
        await committed(rig, packages["A"], 1)
        await committed(rig, packages["B"], 2)
        await rig.updater.roll_back("ann")
        assert rig.host.in_force.model == packages["A"].bundle.sha256
        await rig.look()
        assert rig.host.in_force.model == packages["A"].bundle.sha256
    assert [item.reason for item in rig.state.denied] == ["operator"]


async def test_denied_model_in_use_is_replaced_at_once(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        await committed(rig, packages["B"], 2)
        bad = packages["B"].bundle.sha256
        rig.trust.publish(release(packages["A"], 3, denied=[bad], activate={"mode": "stage"}))
        await rig.look()
        assert rig.host.in_force.model == packages["A"].bundle.sha256
        outcome = rig.state.outcome
        assert outcome is not None
        assert (outcome.counter, outcome.result) == (3, Result.COMMITTED)


async def test_swap_by_hand_ends_the_trial(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        rig.host.in_force = InForce(model=packages["C"].bundle.sha256)
        await rig.passes(1)
        outcome = rig.state.outcome
        assert outcome is not None
        assert (rig.phase, outcome.result, outcome.reason) == (Phase.IDLE, Result.HALTED, "operator")
        assert rig.state.denied == ()


async def test_hint_while_downloading_can_end_the_release(rig: Rig, packages: dict[str, Package]) -> None:
    rig.trust.may_fetch.clear()
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        assert rig.phase is Phase.DOWNLOADING
        rig.trust.publish(release(packages["B"], 2), packages["B"].tar)
        await rig.look()
        assert rig.state.release is not None
        assert rig.state.release.counter == 2
        rig.trust.may_fetch.set()
        await rig.passes(1)
        await asyncio.sleep(0)
        assert rig.phase is Phase.TRIAL


@pytest.mark.parametrize("mode", ["now", "stage"])
async def test_newer_release_names_what_was_before(rig: Rig, packages: dict[str, Package], mode: str) -> None:
    async with rig.started():
        await committed(rig, packages["A"], 1)
        rig.trust.publish(release(packages["B"], 2, activate={"mode": mode}), packages["B"].tar)
        await rig.look()
        rig.trust.publish(release(packages["A"], 3))
        await rig.look()
        assert rig.host.in_force.model == packages["A"].bundle.sha256
        outcome = rig.state.outcome
        assert outcome is not None
        assert (outcome.counter, outcome.result) == (3, Result.COMMITTED)
        assert rig.state.denied == ()


async def test_repository_that_does_not_answer_keeps_no_trial_from_its_end(
    rig: Rig, packages: dict[str, Package]
) -> None:
    async with rig.started():
        rig.trust.publish(release(packages["A"], 1), packages["A"].tar)
        await rig.look()
        rig.trust.may_check.clear()
        asking = asyncio.create_task(rig.updater.check_now("ann"), name="ask")
        await rig.passes(10)
        assert len(rig.trust.checks) == 2
        rig.sick[packages["A"].bundle.sha256] = {"detector_failures": 1}
        await rig.passes(1)
        assert rig.phase is Phase.IDLE
        assert rig.host.in_force.model is None
        assert not asking.done()
        rig.trust.may_check.set()
        await rig.passes(1)
        assert (await asking).phase is Phase.IDLE
