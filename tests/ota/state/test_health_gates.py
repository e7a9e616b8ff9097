"""Health gates of trial and shadow: each limit, and one beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S
from edge_agent.ota.gates import distance, shadow_failure, since, standardised, trial_failure, usual_shift
from edge_agent.ota.ports import Comparison, Vitals
from edge_agent.ota.ring import Limits, Trial
from edge_agent.ota.watch import LASTING_S, NOTHING_YET, Watch

SCORES = list(np.random.default_rng(1).normal(1.0, 0.2, 1_000))
BEFORE = Vitals(1_000, 0, 10, 50.0, 80.0, SCORES, [2.0] * 1_000)
NOW = Vitals(500, 0, 0, 0.0, 85.0, SCORES[:500], [2.0] * 500)
TRIAL = Trial(seconds=600, ticks=500, score_shift=0.2, alarm_factor=5, alarm_extra=3)


def reason(limits: Limits | None = None, before: Vitals | None = BEFORE, **changes: object) -> str | None:
    found = trial_failure(TRIAL, before, replace(NOW, **changes), limits or Limits())  # type: ignore[arg-type]
    return None if found is None else found[0]


def test_healthy_model_passes() -> None:
    assert reason() is None
    assert reason(before=None) is None


def test_single_failure_is_one_too_many() -> None:
    assert reason(detector_failures=1) == "errors"


@pytest.mark.parametrize(
    ("milliseconds", "limit", "found"),
    [(4.0, None, None), (4.1, None, "latency"), (4.1, 25.0, None), (25.1, 25.0, "latency"), (3.9, 1.0, None)],
)
def test_latency_against_twice_the_one_before_and_the_limit(
    milliseconds: float, limit: float | None, found: str | None
) -> None:
    assert reason(Limits(p99_ms=limit), tick_ms=[milliseconds] * 200) == found


def test_latency_of_few_ticks_says_nothing() -> None:
    assert reason(tick_ms=[1_000.0] * 99) is None


@pytest.mark.parametrize(("rss_mb", "found"), [(140.0, None), (141.0, "memory")])
def test_memory(rss_mb: float, found: str | None) -> None:
    assert reason(Limits(rss_mb=60), rss_mb=rss_mb) == found


def test_scores_that_moved() -> None:
    assert reason(scores=[score + 0.04 for score in SCORES[:500]]) is None
    assert reason(scores=[score + 0.2 for score in SCORES[:500]]) == "score_shift"
    assert reason(scores=[score + 9.0 for score in SCORES[:199]]) is None


@pytest.mark.parametrize(("alarms", "found"), [(28, None), (29, "alarms")])
def test_alarms_against_the_rate_before(alarms: int, found: str | None) -> None:
    assert reason(alarms=alarms) == found  # 10 in 1,000 ticks before: 5 * 5 + 3 in 500


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"failures": 1}, "errors"),
        ({"failures": 1, "ticks": 3}, "errors"),
        ({"distance": 0.21}, "score_shift"),
        ({"distance": 0.9, "ticks": 199}, None),
        ({"alarms": 14}, "alarms"),
        ({"p99_ms": 4.1}, "latency"),
    ],
)
def test_shadow(changes: dict[str, float], found: str | None) -> None:
    seen = replace(Comparison(500, 0, 0.1, 13, 2, 3.9, 2.0), **changes)  # type: ignore[arg-type]
    failure = shadow_failure(TRIAL, seen, Limits())
    assert (None if failure is None else failure[0]) == found


def test_what_was_counted_before_the_trial_does_not_count() -> None:
    start = replace(BEFORE, detector_failures=3, troubles=("old",))
    now = replace(BEFORE, ticks=1_200, detector_failures=3, alarms=12, troubles=("old", "new"))
    found = since(start, now)
    assert (found.ticks, found.detector_failures, found.alarms, found.troubles) == (200, 0, 2, ("new",))
    assert list(found.scores) == SCORES[-200:]
    assert since(start, start).scores == []
    assert since(now, NOW) == NOW


def test_trouble_fails_a_trial_only_when_it_lasts() -> None:
    watch = Watch(Trial(seconds=0, ticks=0), Limits(), BEFORE, NOTHING_YET, 0)
    sick = replace(NOW, troubles=("no source is connected",))
    lasting_ns = int(LASTING_S * NS_PER_S)
    assert watch.failure(sick, 0) is None
    assert not watch.passed(sick, 0)
    assert watch.failure(NOW, lasting_ns // 2) is None
    assert watch.failure(sick, lasting_ns // 2) is None
    assert watch.failure(sick, lasting_ns) is None
    failure = watch.failure(sick, 2 * lasting_ns)
    assert failure == ("unhealthy", "since the change: no source is connected")


def test_trouble_that_was_there_before_is_nobodys_fault() -> None:
    usual = replace(BEFORE, troubles=("broker is away",))
    watch = Watch(Trial(seconds=0, ticks=0), Limits(), usual, NOTHING_YET, 0)
    for now_ns in (0, int(10 * LASTING_S * NS_PER_S)):
        assert watch.failure(replace(NOW, troubles=("broker is away",)), now_ns) is None


@given(st.lists(st.floats(allow_nan=True), max_size=50), st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_distance_is_between_0_and_1_and_symmetric(one: list[float], other: list[float]) -> None:
    found = distance(one, other)
    assert 0.0 <= found <= 1.0
    assert found == pytest.approx(distance(other, one))
    assert distance(other, other) == 0.0


def test_distance_against_its_definition() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        one, other = rng.integers(0, 8, 30).astype(float), rng.integers(0, 9, 17).astype(float)
        steps = np.unique(np.concatenate((one, other)))
        slow = max(abs((one <= x).mean() - (other <= x).mean()) for x in steps)
        assert distance(list(one), list(other)) == pytest.approx(slow)
    assert distance([0.0] * 300, [1.0] * 300) == 1.0


# -- scores of a plant that has a rhythm of its own ----------------------------------------------------------------

ROUND = 600  # ticks of a plant's day


def vitals(scores: NDArray[np.float64]) -> Vitals:
    shown = tuple(standardised(scores).tolist())
    return Vitals(
        ticks=len(scores),
        detector_failures=0,
        alarms=0,
        alarm_seconds=0.0,
        rss_mb=100.0,
        scores=shown,
        tick_ms=[1.0] * len(scores),
    )


def daily(ticks: range, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scores that are low and steady by night, high and restless by day."""
    day = (np.array(ticks) % ROUND) < ROUND // 2
    return np.where(day, rng.normal(3.0, 1.0, len(ticks)), rng.normal(0.5, 0.1, len(ticks)))


def shifted(before: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
    failure = trial_failure(Trial(), vitals(before), vitals(now), Limits())
    return failure is not None and failure[0] == "score_shift"


def test_the_part_of_a_day_that_a_trial_falls_into_is_no_shift() -> None:
    rng = np.random.default_rng(1)
    before, now = daily(range(2000), rng), daily(range(2000, 2300), rng)
    assert distance(standardised(before).tolist(), standardised(now).tolist()) > Trial().score_shift
    assert not shifted(before, now)


def test_other_scores_on_a_steady_plant_are_a_shift() -> None:
    rng = np.random.default_rng(2)
    before = rng.normal(1.0, 0.3, 2000)
    assert not shifted(before, rng.normal(2.0, 0.6, 600))  # its level and scale are a model's own
    assert shifted(before, np.where(rng.random(600) < 0.35, 9.0, 1.0) + rng.normal(0.0, 0.3, 600))


def test_a_steady_plant_has_no_shift_of_its_own() -> None:
    rng = np.random.default_rng(3)
    scores = standardised(rng.normal(0.0, 1.0, 2000)).tolist()
    assert usual_shift(scores, 600) < 0.1
    assert usual_shift(scores[:250], 600) < 0.2  # hardly more than one stretch
