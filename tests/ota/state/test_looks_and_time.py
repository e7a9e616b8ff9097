"""When is looked for news, and what time it is: jitter, hints, back-off, clocks that lie."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

import pytest
from updater_rig import T0_S, Package, Rig, ring_of, yields

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import Hint
from edge_agent.errors import OtaError
from edge_agent.ota.known_time import KnownTime
from edge_agent.ota.looks import Looks
from edge_agent.ota.state import Phase, Result

DAY_S = 86_400.0


def looks(clock: VirtualClock, seed: int = 1) -> Looks:
    return Looks(clock, random.Random(seed), 900.0, 10.0)


def seconds_to(found: Looks, clock: VirtualClock) -> float:
    return (found.due_ns() - clock.monotonic_ns()) / NS_PER_S


def test_polls_are_a_fifth_apart_from_their_period() -> None:
    clock = VirtualClock()
    found, pauses = looks(clock), []
    for _ in range(300):
        found.begin()
        found.end(reached=True)
        pauses.append(seconds_to(found, clock))
        clock.advance_to(found.due_ns())
    assert 720 <= min(pauses) < 740
    assert 1060 < max(pauses) <= 1080


def test_unreachable_repository_is_asked_less_and_less_often() -> None:
    clock = VirtualClock()
    found, pauses = looks(clock), []
    for _ in range(400):
        found.begin()
        found.end(reached=False)
        pauses.append(seconds_to(found, clock))
    assert min(pauses) >= 10
    assert max(pauses[:3]) < 60
    assert 800 < max(pauses) <= 910
    assert len({round(pause, 3) for pause in pauses}) > 350


def test_flood_of_hints_costs_one_look_and_little_time() -> None:
    clock = VirtualClock()
    found = looks(clock)
    found.begin()
    found.end(reached=True)
    began = time.process_time()
    changed = sum(found.hint(Hint(counter=5 + number, spread_s=0.0), 4) for number in range(100_000))
    assert changed == 1
    assert time.process_time() - began < 2.0
    assert seconds_to(found, clock) == pytest.approx(10.0)


def test_hint_of_what_is_known_is_ignored() -> None:
    clock = VirtualClock()
    found = looks(clock)
    assert not found.hint(Hint(counter=4), 4)
    assert found.hint(Hint(counter=5), 4)


@pytest.mark.parametrize(("spread_s", "most_s"), [(0.0, 0.0), (20.0, 20.0), (1e9, 3_600.0), (-5.0, 0.0)])
def test_spread_is_bounded(spread_s: float, most_s: float) -> None:
    waits = []
    for seed in range(200):
        clock = VirtualClock()
        found = Looks(clock, random.Random(seed), 7 * DAY_S, 0.0)
        found.begin()
        found.end(reached=True)
        found.hint(Hint(spread_s=spread_s), -1)
        waits.append(seconds_to(found, clock))
    assert max(waits) <= most_s
    assert max(waits) >= 0.9 * most_s


def test_repeated_hint_does_not_hurry_the_one_that_waits() -> None:
    clock = VirtualClock()
    found = Looks(clock, random.Random(1), 7 * DAY_S, 0.0)
    found.begin()
    found.end(reached=True)
    found.hint(Hint(spread_s=100.0), -1)
    due = found.due_ns()
    for _ in range(1_000):
        found.hint(Hint(spread_s=100.0), -1)
    assert found.due_ns() == due
    found.hint(Hint(spread_s=1.0), -1)
    assert found.due_ns() < due


async def test_hundred_thousand_hints_make_one_look(rig: Rig) -> None:
    async with rig.started():
        await rig.look()
        before = len(rig.trust.checks)
        for number in range(100_000):
            rig.updater.look(Hint(counter=100 + number))
        await yields()
        await rig.passes(10)
        assert len(rig.trust.checks) == before + 1
        await rig.passes(100)
        assert len(rig.trust.checks) == before + 1


async def test_several_operators_who_ask_get_one_look(rig: Rig) -> None:
    async with rig.started():
        await rig.look()
        before = len(rig.trust.checks)
        asking = [asyncio.create_task(rig.updater.check_now(f"op{number}"), name="ask") for number in range(20)]
        await yields()
        await rig.passes(10)
        reports = await asyncio.gather(*asking)
        assert len(rig.trust.checks) == before + 1
        assert {report.counter for report in reports} == {1}


def test_time_is_the_larger_of_clock_and_what_has_passed() -> None:
    clock = VirtualClock(0)
    known = KnownTime(clock)
    assert known.unconfirmed()
    known.learn(T0_S)
    assert known.now_s() == T0_S
    clock.advance(3_600 * NS_PER_S)
    assert known.now_s() == T0_S + 3_600
    known.learn(T0_S)
    assert known.now_s() == T0_S + 3_600
    clock.set_wall_ns(int((T0_S + 7_200) * NS_PER_S))
    assert known.now_s() == T0_S + 7_200
    assert not known.unconfirmed()
    clock.set_wall_ns(int((T0_S + 2 * 365 * DAY_S) * NS_PER_S))
    clock.set_wall_ns(int((T0_S + 7_200) * NS_PER_S))
    assert known.now_s() == T0_S + 7_200


async def test_clock_in_1970_after_a_restart(rig: Rig, packages: dict[str, Package]) -> None:
    rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
    async with rig.started():
        await rig.look()
        await rig.passes(61)
    rig.clock.set_wall_ns(0)
    async with rig.started():
        rig.trust.publish(ring_of(2, model=packages["B"].target), packages["B"].tar)
        await rig.look()
        assert min(now_s for _, now_s in rig.trust.checks) >= T0_S
        assert rig.updater.report().time_unconfirmed
        assert rig.phase is Phase.TRIAL  # its counter grows, so nothing old comes back
        await rig.passes(61)
        assert rig.state.outcome is not None
        assert rig.state.outcome.result is Result.COMMITTED
        rig.trust.expires_s = T0_S - 1
        rig.trust.publish(ring_of(3, model=packages["C"].target), packages["C"].tar)
        await rig.look()
        assert rig.updater.report().problem == "timestamp metadata expired"
    assert rig.loaded().model == packages["B"].bundle.sha256


async def test_clock_two_years_ahead_stops_installs_until_it_is_right_again(
    rig: Rig, packages: dict[str, Package]
) -> None:
    rig.clock.set_wall_ns(int((T0_S + 2 * 365 * DAY_S) * NS_PER_S))
    rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
    async with rig.started():
        await rig.look()
        assert rig.phase is Phase.IDLE
        assert rig.host.put == []
        rig.clock.set_wall_ns(int((T0_S + 60) * NS_PER_S))
        await rig.look()
        assert rig.phase is Phase.TRIAL


@pytest.mark.parametrize("jump_s", [-10 * 365 * DAY_S, -2 * DAY_S, 2 * DAY_S, 10 * 365 * DAY_S])
async def test_trial_lasts_as_long_whatever_the_clock_does(
    rig: Rig, packages: dict[str, Package], jump_s: float
) -> None:
    rig.trust.publish(ring_of(1, model=packages["A"].target), packages["A"].tar)
    async with rig.started():
        await rig.look()
        rig.clock.set_wall_ns(int((T0_S + jump_s) * NS_PER_S))
        await rig.passes(58)
        assert rig.phase is Phase.TRIAL
        await rig.passes(3)
        assert rig.phase is Phase.IDLE
        assert rig.state.outcome is not None
        assert rig.state.outcome.result is Result.COMMITTED


async def test_activation_at_a_moment_follows_the_clock(rig: Rig, packages: dict[str, Package]) -> None:
    at = datetime.fromtimestamp(T0_S + DAY_S, UTC)
    activate = {"mode": "at", "at": at, "spread_s": 30}
    rig.trust.publish(ring_of(1, model=packages["A"].target, activate=activate), packages["A"].tar)
    async with rig.started():
        await rig.look()
        await rig.passes(DAY_S / 2)
        assert rig.phase is Phase.STAGED
        rig.clock.set_wall_ns(int((T0_S + DAY_S + 31) * NS_PER_S))
        await rig.passes(11)
        assert rig.phase is Phase.TRIAL


async def test_spread_of_now_does_not_follow_the_clock(rig: Rig, packages: dict[str, Package]) -> None:
    activate = {"mode": "now", "spread_s": 3_600}
    rig.trust.publish(ring_of(1, model=packages["A"].target, activate=activate), packages["A"].tar)
    async with rig.started():
        await rig.look()
        rig.clock.set_wall_ns(0)
        for _ in range(361):
            await rig.passes(10)
        assert rig.phase is Phase.IDLE
        assert rig.loaded().model == packages["A"].bundle.sha256


async def test_expired_metadata_stop_what_is_staged_but_not_the_trial(rig: Rig, packages: dict[str, Package]) -> None:
    rig.trust.expires_s = T0_S + 3_600
    rig.trust.publish(ring_of(1, model=packages["A"].target, activate={"mode": "stage"}), packages["A"].tar)
    async with rig.started():
        await rig.look()
        await rig.passes(3_700)
        with pytest.raises(OtaError, match="metadata have expired"):
            await rig.updater.activate("ann")
        report = rig.updater.report()
        assert report.metadata_expired
        assert report.problem is not None
        assert rig.host.in_force.model is None


async def test_repository_that_is_away_for_a_day(rig: Rig, packages: dict[str, Package]) -> None:
    async with rig.started():
        await rig.look()
        rig.trust.error = OtaError("unreachable", "no route")
        before = len(rig.trust.checks)
        for _ in range(24 * 60):
            await rig.passes(60)
        assert 100 < len(rig.trust.checks) - before < 300
        assert rig.updater.report().problem == "no route"
        rig.trust.error = None
        rig.trust.publish(ring_of(2, model=packages["A"].target), packages["A"].tar)
        await rig.look()
        assert rig.phase is Phase.TRIAL


async def test_what_has_passed_is_kept_every_hour(rig: Rig) -> None:
    async with rig.started():
        await rig.look()
        rig.trust.error = OtaError("unreachable", "no route")
        for _ in range(30):
            await rig.passes(3_600)
    assert rig.state.time_floor_s >= T0_S + 28 * 3_600
