from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from publisher_rig import ask

from edge_agent.cli.rollouts import look_once
from edge_agent.ota.publisher import Repository
from edge_agent.ota.publisher.auto import act, look, plan
from edge_agent.ota.publisher.rollout import Decision, first_spread_s, judge, needed
from edge_agent.ota.publisher.settings import RepoOptions, RingOptions
from edge_agent.ota.publisher.tally import Tally, count, newest
from edge_agent.ota.report import Report
from edge_agent.ota.ring import Activate, Activation, Ring
from edge_agent.ota.state import Outcome, Phase, Result

MADE = datetime(2027, 1, 4, 6, tzinfo=UTC)
DONE = MADE + timedelta(minutes=15)
LATER = MADE + timedelta(hours=2)
NOW_MODE = Activate(mode=Activation.NOW)


def ring(name: str = "canary", activate: Activate = NOW_MODE, **changes: object) -> Ring:
    fields = {"ring": name, "release": "new", "counter": 1, "issued": MADE, "activate": activate}
    return Ring.model_validate({**fields, **changes})


def tally(gateways: int, committed: int, failed: int = 0, trying: int = 0, **more: int) -> Tally:
    return Tally(gateways, (DONE,) * committed, failed, ("latency",) * failed, failed, trying, **more)


def decided(found: Tally, *, first: bool = True, now: datetime = LATER, **options: float) -> Decision:
    return judge(ring(), RingOptions.model_validate(options), found, now, first=first).decision


@pytest.mark.parametrize(("failures", "share", "sample"), [(0, 0.1, 29), (0, 0.05, 59), (0, 0.01, 299), (0, 0.3, 9),
                                                           (1, 0.1, 46), (2, 0.1, 61)])  # fmt: skip
def test_sample_that_is_needed_is_that_of_the_binomial_distribution(failures: int, share: float, sample: int) -> None:
    assert needed(failures, share) == sample
    exact = sum(math.comb(sample, k) * share**k * (1 - share) ** (sample - k) for k in range(failures + 1))
    before = sum(math.comb(sample - 1, k) * share**k * (1 - share) ** (sample - 1 - k) for k in range(failures + 1))
    assert exact <= 0.05 < before


@pytest.mark.parametrize(
    ("found", "decision"),
    [
        (tally(40, 40), Decision.PROMOTE),
        (tally(40, 36), Decision.PROMOTE),
        (tally(30, 28), Decision.WAIT),  # 29 are needed to see a tenth
        (tally(40, 35), Decision.WAIT),  # 5 of 40 are silent
        (tally(40, 34, refused=6), Decision.PROMOTE),  # it was not for six of them
        (tally(10, 10), Decision.PROMOTE),  # more there are not
        (tally(10, 8), Decision.WAIT),
        (tally(0, 0), Decision.WAIT),
        (tally(40, 0, refused=40), Decision.WAIT),
        (tally(40, 39, 1), Decision.WAIT),  # a person looks
        (tally(40, 20, 1), Decision.PAUSE),
        (tally(40, 37, 3), Decision.HALT),
        (tally(40, 0, 2, trying=10), Decision.HALT),
        (tally(40, 0, 2, trying=30), Decision.PAUSE),
        (tally(1000, 500, 20), Decision.HALT),
        (tally(1000, 995, 5), Decision.PROMOTE),
    ],
)
def test_release_is_judged_by_what_gateways_say(found: Tally, decision: Decision) -> None:
    assert decided(found) is decision


def test_later_ring_is_not_paused_by_one_failure() -> None:
    assert decided(tally(300, 5, 1), first=False) is Decision.WAIT
    assert decided(tally(300, 295, 1), first=False) is Decision.PROMOTE
    assert decided(tally(300, 50, 8), first=False) is Decision.HALT


def test_release_has_to_run_for_its_time_since_it_was_proven() -> None:
    found = tally(40, 40)
    assert decided(found, now=DONE + timedelta(minutes=59)) is Decision.WAIT
    assert decided(found, now=DONE + timedelta(minutes=60)) is Decision.PROMOTE
    assert decided(found, now=DONE, soak=0) is Decision.PROMOTE


def test_each_threshold_is_an_option() -> None:
    assert decided(tally(40, 20), silence=0.5) is Decision.WAIT
    assert decided(tally(60, 29), silence=0.6) is Decision.PROMOTE
    assert decided(tally(100, 90, 10), failure_share=0.2, success=0.9) is Decision.PROMOTE
    assert decided(tally(100, 90, 10), failure_share=0.2, success=0.95) is Decision.WAIT


def test_failure_that_was_known_when_a_person_let_it_go_on_does_not_pause_it_again() -> None:
    known = Tally(40, (DONE,) * 20, 1, ("latency",), 0)
    assert decided(known) is Decision.WAIT


def test_large_first_ring_is_widened_as_gateways_do_well() -> None:
    slow = Activate(mode=Activation.NOW, spread_s=first_spread_s(1000, 600))
    assert slow.spread_s == 82_500

    def verdict(found: Tally, activate: Activate = slow) -> tuple[Decision, float]:
        one = judge(ring(activate=activate), RingOptions(gateways=1000), found, DONE, first=True)
        return one.decision, one.spread_s

    assert verdict(tally(1000, 28, trying=8)) == (Decision.WAIT, 0)
    assert verdict(tally(1000, 29, trying=8)) == (Decision.WIDEN, 21_917)
    assert verdict(tally(1000, 29, 1)) == (Decision.PAUSE, 0)
    assert verdict(tally(1000, 60, 1)) == (Decision.WIDEN, 10_329)
    paused = Activate()
    assert verdict(tally(1000, 60, 1), paused) == (Decision.WAIT, 0)
    assert first_spread_s(40, 600) == 0


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.integers(0, 400), st.booleans())
def test_release_that_is_halted_is_halted_with_one_failure_more_in_place_of_a_success(
    committed: int, failed: int, trying: int, silent: int, first: bool
) -> None:
    every = committed + 1 + failed + trying + silent
    milder = decided(tally(every, committed + 1, failed, trying), first=first)
    worse = decided(tally(every, committed, failed + 1, trying), first=first)
    assert milder is not Decision.HALT or worse is Decision.HALT


def report(gateway: str, result: Result | None, serial: int = 1, **changes: object) -> bytes:
    outcome = None if result is None else Outcome(release="new", counter=1, result=result, reason="latency", time=DONE)
    fields = {
        "schema": 1, "fleet": "default", "ring": "canary", "gateway": gateway, "serial": serial, "time": DONE,
        "agent": "0.1", "phase": Phase.IDLE, "outcome": outcome,
    }  # fmt: skip
    return Report.model_validate({**fields, **changes}).to_json()


def test_reports_are_counted_once_for_each_gateway_by_the_newest() -> None:
    raw = [
        report("a", None, 1, release="new", phase=Phase.TRIAL),
        report("a", Result.COMMITTED, 2),
        report("b", Result.ROLLED_BACK),
        report("c", Result.QUARANTINED),
        report("d", Result.REFUSED),
        report("e", None, release="new", phase=Phase.TRIAL),
        report("f", None, release="new", phase=Phase.STAGED),
        report("g", None),
        report("h", Result.COMMITTED, fleet="other"),
        report("i", Result.COMMITTED, ring="early"),
        b"{}",
        b"\xff",
    ]
    found, bad = newest(raw, "default")
    counted = count(ring(), found.values(), 10, LATER)
    assert bad == 2
    assert (len(counted.commits), counted.failures, counted.fresh, counted.trying, counted.waiting) == (1, 2, 2, 1, 1)
    assert (counted.refused, counted.silent, counted.gateways) == (1, 4, 10)


def test_clock_of_a_gateway_does_not_shorten_the_time_that_a_release_runs() -> None:
    early = Outcome(release="new", counter=1, result=Result.COMMITTED, time=datetime(1970, 1, 1, tzinfo=UTC))
    found, _ = newest([report("a", None, outcome=early)], "default")
    assert count(ring(), found.values(), 1, LATER).commits == (MADE,)


def settings(*names: str) -> RepoOptions:
    return RepoOptions(rings={name: RingOptions(gateways=40) for name in names})


def planned(rings: dict[str, Ring | None], tallies: dict[str, Tally]) -> list[tuple[str, Decision, str | None]]:
    steps = plan(rings, settings(*rings), lambda one: tallies[one.ring], LATER)
    return [(step.ring, step.verdict.decision, step.to) for step in steps]


def test_release_goes_from_ring_to_ring_until_all_have_it() -> None:
    good = {name: tally(40, 40) for name in ("canary", "early")}
    assert planned({"canary": ring(), "early": None}, good) == [("canary", Decision.PROMOTE, "early")]
    both = {"canary": ring(), "early": ring("early", counter=2)}
    assert planned(both, good) == [("canary", Decision.WAIT, None), ("early", Decision.WAIT, None)]


def test_ring_that_was_given_something_newer_by_hand_is_left_alone() -> None:
    hotfix = ring("early", release="hotfix", counter=2)
    rings: dict[str, Ring | None] = {"canary": ring(), "early": hotfix}
    assert planned(rings, {"canary": tally(40, 40), "early": tally(40, 1)}) == [
        ("canary", Decision.WAIT, None),
        ("early", Decision.WAIT, None),
    ]


def test_release_that_fails_in_one_ring_is_halted_in_all() -> None:
    rings: dict[str, Ring | None] = {"canary": ring(), "early": ring("early", counter=2), "stable": None}
    found = planned(rings, {"canary": tally(40, 40), "early": tally(40, 10, 8)})
    assert found == [("canary", Decision.HALT, None), ("early", Decision.HALT, None)]


def test_release_that_was_halted_by_hand_in_one_ring_is_halted_in_all() -> None:
    rings: dict[str, Ring | None] = {"canary": ring(halt=True), "early": ring("early", counter=2), "stable": None}
    found = planned(rings, {"canary": tally(40, 40), "early": tally(40, 40)})
    assert found == [("canary", Decision.WAIT, None), ("early", Decision.HALT, None)]


def gateways(results: Sequence[Result | None], name: str, moment: datetime, release: str) -> list[bytes]:
    made = []
    for number, result in enumerate(results):
        outcome = result and Outcome(release=release, counter=1, result=result, reason="latency", time=moment)
        made.append(report(f"{name}-{number}", None, ring=name, outcome=outcome))
    return made


def test_reports_move_a_real_repository_on_and_stop_it(repository: Repository, bundles: dict[str, Path]) -> None:
    (repository.folder / "repo.yaml").write_text("rings: {canary: {gateways: 3, soak: 0s}, stable: {gateways: 5}}\n")
    repository.publish(bundles["1.0.0"], activate=NOW_MODE)
    steps, _ = look(repository, [])
    assert [act(repository, step) for step in steps] == [None]
    good = gateways([Result.COMMITTED] * 3, "canary", repository.time(), "tiny-1.0.0")
    steps, _ = look(repository, good)
    (done,) = [act(repository, step) for step in steps]
    assert done is not None
    assert dict(done.counters) == {"stable": 2}
    stable = repository.ring("stable")
    assert stable is not None
    assert stable.activate.mode is Activation.NOW
    bad = gateways([Result.ROLLED_BACK] * 2, "stable", repository.time(), "tiny-1.0.0")
    steps, _ = look(repository, [*good, *bad])
    for step in steps:
        act(repository, step)
    for name in ("canary", "stable"):
        halted = repository.ring(name)
        assert halted is not None
        assert halted.halt


def test_halt_that_waits_for_a_second_signature_is_not_prepared_again(
    repository: Repository, bundles: dict[str, Path], tmp_path: Path
) -> None:
    (repository.folder / "repo.yaml").write_text("rings: {canary: {gateways: 9}}\n")
    repository.publish(bundles["1.0.0"], activate=NOW_MODE)
    repository.add_key("second", "rings", threshold=2, into=tmp_path / "stick")
    alone = Repository.open(repository.folder, ask)
    bad = gateways([Result.ROLLED_BACK] * 3, "canary", alone.time(), "tiny-1.0.0")
    done = [act(alone, step) for _ in range(3) for step in look(alone, bad)[0]]
    assert [change and dict(change.missing) for change in done] == [{"rings": 1}, None, None]
    assert Repository.open(repository.folder, ask, keys=[tmp_path / "stick"]).sign().published


def test_promotion_that_fails_keeps_no_halt_from_being_done(
    repository: Repository, bundles: dict[str, Path], tmp_path: Path
) -> None:
    rings = "{gateways: 3, soak: 0s}"
    (repository.folder / "repo.yaml").write_text(f"rings: {{canary: {rings}, early: {rings}, stable: {rings}}}\n")
    repository.publish(bundles["1.0.0"], rings=("early",), activate=NOW_MODE)
    repository.promote("tiny-1.0.0", "early", "stable")
    repository.publish(bundles["1.1.0"], activate=NOW_MODE)
    repository.add_key("early-1", "rings-early", into=tmp_path / "stick")
    alone, moment = Repository.open(repository.folder, ask), repository.time()
    assert alone.activate("early", Activate()).missing == {"rings-early": 1}  # so nothing else can be done to it
    good = gateways([Result.COMMITTED] * 3, "canary", moment, "tiny-1.1.0")
    bad = gateways([Result.ROLLED_BACK] * 3, "stable", moment, "tiny-1.0.0")
    reports = tmp_path / "reports.jsonl"
    reports.write_bytes(b"\n".join([*good, *bad]))
    look_once(alone, [str(reports)], as_json=True, dry_run=False)
    stable = alone.ring("stable")
    assert stable is not None
    assert stable.halt
