"""The judgement of a ring file: every rule, and the two holes that TUF alone leaves open."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from updater_rig import T0_S, config_target, ring_of

from edge_agent.errors import OtaError
from edge_agent.ota import steps
from edge_agent.ota.judge import Judgement, Moment, News, Policy, Verdict, judge, read_news, seen
from edge_agent.ota.ports import Checked, Facts
from edge_agent.ota.ring import MAX_DENIED, ModelTarget, Ring
from edge_agent.ota.state import MAX_OWN_DENIED, Denied, InForce, OtaState, Phase, Result

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
CONFIG = config_target(b"graph: {}\n")
NOW = Moment(T0_S)
FACTS = Facts("1.2.3", ("x86_64", "rpi4"), InForce(model=A), 10**9, 10**9)


def model(bundle: str) -> ModelTarget:
    return ModelTarget(
        path="models/m/x.tar", sha256=hashlib.sha256(bundle.encode()).hexdigest(), bytes=1000, bundle=bundle
    )


def news(ring: Ring, expires_s: float = T0_S + 1000) -> News:
    raw = ring.to_json()
    return read_news(Checked(raw, T0_S, expires_s, 1), ring.ring)


def judged(ring: Ring, state: OtaState | None = None, **changes: Any) -> Judgement:
    values: dict[str, Any] = {"facts": FACTS, "policy": Policy("stable"), "moment": NOW, **changes}
    return judge(news(ring), state or OtaState(), **values)


def after(ring: Ring, **changes: Any) -> OtaState:
    """A state that has seen ``ring``."""
    state = steps.noted(OtaState(), news(ring))
    return state.model_copy(update=changes)


def test_new_release_is_fetched() -> None:
    assert judged(ring_of(1, model=model(B))).verdict is Verdict.FETCH


def test_replay_after_the_trusted_metadata_were_lost_is_refused() -> None:
    state = after(ring_of(5, model=model(B)))
    found = judged(ring_of(4, model=model(C)), state)
    assert (found.verdict, found.reason) == (Verdict.REFUSE, "rollback")


def test_thief_of_keys_cannot_use_up_the_counters() -> None:
    """Or no publisher could ever say anything newer (a fast-forward attack, for which TUF has an answer of its own)."""
    ahead = judged(ring_of(2**53, model=model(B)))
    assert (ahead.verdict, ahead.reason) == (Verdict.REFUSE, "counter")
    worst = ring_of(int(T0_S), model=model(B))
    assert judged(worst).verdict is Verdict.FETCH
    later = Moment(T0_S + 60)
    assert judged(ring_of(int(T0_S) + 60, model=model(C)), after(worst), moment=later).verdict is Verdict.FETCH


def test_clock_in_1970_does_not_switch_off_freeze_protection() -> None:
    state = after(ring_of(5, model=model(B)), time_floor_s=T0_S)
    found = judge(
        news(ring_of(6, model=model(C)), expires_s=T0_S - 1), state, FACTS, Policy("stable"), Moment(T0_S, True)
    )
    assert (found.verdict, found.reason) == (Verdict.REFUSE, "expired")


@pytest.mark.parametrize(
    ("ring", "reason"),
    [
        (ring_of(6, model=model(B), hardware=["jetson"]), "hardware"),
        (ring_of(6, model=model(B), min_agent="1.3"), "agent_too_old"),
        (ring_of(6, model=model(B), denied=[B]), "denied"),
        (ring_of(6, model=model(B), halt=True), "halted"),
        (ring_of(6, model=model(B).model_copy(update={"bytes": 200_000_000})), None),
        (ring_of(6, model=model(B).model_copy(update={"bytes": 224 << 20}), config=CONFIG), None),
        (ring_of(6, model=model(B), hardware=["rpi4"], min_agent="1.2.3"), None),
        (ring_of(4, model=model(B)), "rollback"),
        (ring_of(5, model=model(C)), "equivocation"),
        (ring_of(6, model=model(B), ring="canary"), "not_for_this_ring"),
    ],
)
def test_reasons(ring: Ring, reason: str | None) -> None:
    found = judged(ring, after(ring_of(5, model=model(B))))
    assert (found.verdict, found.reason) == ((Verdict.REFUSE, reason) if reason else (Verdict.FETCH, ""))


def test_quota_counts_what_is_not_here_yet() -> None:
    big = model(B).model_copy(update={"bytes": 300})
    facts = Facts("1.2.3", (), InForce(), 10**9, 1000)
    assert judged(ring_of(1, model=big), facts=facts).reason == "quota"
    assert judged(ring_of(1, model=big), facts=facts, held={big.sha256}).verdict is Verdict.FETCH


def test_configuration_needs_the_operators_leave() -> None:
    assert judged(ring_of(1, config=CONFIG), policy=Policy("stable", remote_config=False)).reason == "remote_config_off"


def test_same_counter_with_an_unconfirmed_clock_installs_nothing() -> None:
    ring = ring_of(5, model=model(B))
    unsure = Moment(T0_S, unconfirmed=True)
    assert judged(ring, after(ring), moment=unsure).reason == "time_unconfirmed"
    assert judged(ring_of(6, model=model(B)), after(ring), moment=unsure).verdict is Verdict.FETCH
    assert judged(ring, after(ring)).verdict is Verdict.FETCH


def test_what_is_in_use_already_is_told_as_success() -> None:
    assert judged(ring_of(1, model=model(A))).verdict is Verdict.ALREADY
    assert judged(ring_of(1)).verdict is Verdict.ALREADY
    assert judged(ring_of(1, model="factory")).verdict is Verdict.FETCH


@pytest.mark.parametrize("result", [Result.COMMITTED, Result.ROLLED_BACK, Result.QUARANTINED, Result.HALTED])
def test_release_that_ended_here_is_not_begun_again(result: Result) -> None:
    ring = ring_of(5, model=model(B))
    state = after(ring, outcome=steps.ended("r5", 5, result, "", "", T0_S))
    assert judged(ring, state).verdict is Verdict.NOTHING


def test_release_that_was_refused_is_judged_again() -> None:
    ring = ring_of(5, model=model(B), hardware=["jetson"])
    state = after(ring, outcome=steps.ended("r5", 5, Result.REFUSED, "hardware", "", T0_S))
    assert judged(ring, state).reason == "hardware"
    jetson = Facts("1.2.3", ("jetson",), InForce(), 10**9, 10**9)
    assert judged(ring, state, facts=jetson).verdict is Verdict.FETCH


WORKING = [
    phase for phase in Phase if phase.value in ("downloading", "verified", "probed", "staged", "shadow", "trial")
]


@pytest.mark.parametrize("phase", WORKING)
def test_while_a_release_is_worked_on(phase: Phase) -> None:
    ring = ring_of(5, model=model(B), activate={"mode": "stage"})
    state = after(ring, phase=phase, release=ring)
    facts = Facts("1.2.3", (), InForce(model=B if phase is Phase.TRIAL else A), 10**9, 10**9)
    assert judged(ring, state, facts=facts).verdict is Verdict.NOTHING
    assert judged(ring_of(6, model=model(B)), state, facts=facts).verdict is Verdict.ADOPT
    for newer, reason in (
        (ring_of(6, model=model(B), halt=True), "halted"),
        (ring_of(6, model=model(B), denied=[B]), "denied"),
        (ring_of(6, model=model(C)), "superseded"),
        (ring_of(6, model=model(A)), "superseded"),
    ):
        found = judged(newer, state, facts=facts)
        assert (found.verdict, found.reason) == (Verdict.GIVE_UP, reason)


def test_denied_model_in_use_is_rolled_back_whatever_the_release_says() -> None:
    for ring in (ring_of(6, model=model(B), denied=[A]), ring_of(6, denied=[A], halt=True, hardware=["jetson"])):
        assert judged(ring).verdict is Verdict.ROLL_BACK


def test_halt_does_not_touch_who_has_committed() -> None:
    assert judged(ring_of(6, model=model(A), halt=True)).verdict is Verdict.NOTHING


def test_own_denials_are_not_pushed_out_by_the_publisher() -> None:
    state = OtaState(denied=tuple(Denied(sha256=f"{n:064x}", reason="errors") for n in range(MAX_OWN_DENIED)))
    for counter in (1, 2):
        told = [f"{n:064x}" for n in range(1000 * counter, 1000 * counter + MAX_DENIED)]
        state = steps.noted(state, news(ring_of(counter, denied=told)))
    assert sum(item.reason == "errors" for item in state.denied) == MAX_OWN_DENIED
    assert OtaState.model_validate_json(state.model_dump_json()) == state


def test_floors_of_at_most_sixteen_rings_are_kept() -> None:
    state = OtaState()
    for number in range(40):
        state = steps.noted(state, news(ring_of(number + 1, ring=f"ring{number}")))
    assert len(state.floors) == 16
    assert "ring39" in state.floors


def test_file_of_another_ring_is_refused() -> None:
    with pytest.raises(OtaError, match=r"rings/stable.json: ring: got 'canary', expected 'stable'"):
        read_news(Checked(ring_of(1, ring="canary").to_json(), T0_S, T0_S, 1), "stable")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_ring_file_or_refused(raw: bytes) -> None:
    with pytest.raises(OtaError):
        read_news(Checked(raw, T0_S, T0_S, 1), "stable")


RINGS = st.builds(
    lambda counter, which, halt, denied, hardware: ring_of(
        counter,
        model=None if which is None else model(which),
        halt=halt,
        denied=denied,
        hardware=hardware,
        issued=datetime.fromtimestamp(T0_S, UTC),
    ),
    st.integers(1, 6),
    st.sampled_from([None, A, B, C]),
    st.booleans(),
    st.lists(st.sampled_from([A, B, C]), max_size=2, unique=True),
    st.sampled_from([[], ["rpi4"], ["jetson"]]),
)


@given(st.lists(RINGS, min_size=1, max_size=12), st.booleans())
def test_counter_never_goes_back_and_nothing_denied_is_fetched(rings: list[Ring], unconfirmed: bool) -> None:
    state, highest = OtaState(), 0
    for ring in rings:
        item = news(ring)
        found = judge(item, state, FACTS, Policy("stable"), Moment(T0_S, unconfirmed))
        if found.verdict is not Verdict.REFUSE or found.reason not in ("rollback", "equivocation", "time_unconfirmed"):
            assert ring.counter >= highest
            highest = ring.counter
            state = state.model_copy(update=seen(item, state))
        if found.verdict is Verdict.FETCH:
            assert isinstance(ring.model, ModelTarget)
            assert ring.model.bundle not in {denied.sha256 for denied in state.denied}
            assert not ring.halt
