"""The gates of shadow and trial by themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.ota.gates import distance, standardised, trial_failure, usual_shift
from edge_agent.ota.ports import Vitals
from edge_agent.ota.ring import Limits, Trial

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
