"""The account of false alarms, and p-values that stay honest."""

from __future__ import annotations

import math
import random

import pytest

from edge_agent.decision.budget import Budget, poisson_interval
from edge_agent.decision.calibration import Judgement
from edge_agent.decision.stretch import Stretch

A_WEEK = 604_800.0


def weekly() -> Budget:
    return Budget(1 / A_WEEK, 1.0)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(0, 0.0, 3.689), (1, 0.0253, 5.572), (3, 0.619, 8.767), (10, 4.795, 18.39), (50, 37.11, 65.92)],
)
def test_the_interval_is_garwoods(count: int, low: float, high: float) -> None:
    assert poisson_interval(count) == pytest.approx((low, high), abs=0.02)


def test_each_alarm_makes_the_next_one_harder_until_it_is_earned_back() -> None:
    budget = Budget(0.01, 1.0)
    budget.raised()
    assert budget.allowed() == pytest.approx(0.01 / math.e)
    for _ in range(50):
        budget.watched()
    assert budget.margin == pytest.approx(0.5)
    for _ in range(50):
        budget.watched()
    assert budget.allowed() == pytest.approx(0.01)


def test_what_is_earned_without_an_alarm_is_limited() -> None:
    budget = Budget(1e-3, 1.0)
    for _ in range(10_000):
        budget.watched()
    assert budget.margin == -3.0


def test_alarms_are_bounded_whatever_the_scores_do() -> None:
    """Surprise of at most 14 at every tick: at most ``rate * T`` alarms, and one for each step up to the largest."""
    budget, alarms, ticks = Budget(1e-3, 1.0), 0, 20_000
    rng = random.Random(1)
    for _ in range(ticks):
        budget.watched()
        rate = math.exp(-rng.uniform(0.0, 14.0))
        if rate < budget.allowed():
            budget.raised()
            alarms += 1
    assert alarms <= 1e-3 * ticks + 3 + 8 + 1


def test_a_true_alarm_gives_its_step_back_and_is_no_false_one() -> None:
    budget = weekly()
    budget.watched()
    budget.raised()
    budget.judged(["a"], false_alarm=False)
    achieved = budget.achieved()
    assert achieved is not None
    assert (achieved.alarms, budget.margin) == (0, pytest.approx(-budget.rate))


def test_a_false_alarm_is_harder_to_repeat_on_its_sensors_only() -> None:
    budget = weekly()
    budget.judged(["a", "b"], false_alarm=True)
    assert budget.allowed(["a", "b"]) == pytest.approx(budget.rate / math.e)
    assert budget.allowed(["a", "c"]) == budget.rate
    budget.raised()
    budget.judged(["a"], false_alarm=False)
    assert budget.allowed(["a"]) == budget.rate


def test_the_achieved_rate_is_told_with_its_interval() -> None:
    budget = Budget(1 / A_WEEK, 3600.0)
    assert budget.achieved() is None
    for _ in range(240):
        budget.watched()
    budget.raised()
    status = budget.status()
    assert status["achieved_per_day"] == 0.1
    assert status["achieved_high_per_day"] == pytest.approx(0.557, abs=0.001)


def test_the_account_outlives_a_restart() -> None:
    budget, other = weekly(), weekly()
    budget.watched()
    budget.raised()
    budget.judged(["a"], false_alarm=True)
    other.restore(*budget.export())
    assert other.status() == budget.status()
    assert other.allowed(["a"]) == budget.allowed(["a"])


@pytest.mark.parametrize("account", [[1.0], [1.0, math.nan, 0.0], [-1.0, 0.0, 0.0]])
def test_a_damaged_account_is_refused(account: list[float]) -> None:
    with pytest.raises(ValueError, match="saved budget"):
        weekly().restore(account, {})


def tracked(surprise: float, ticks: int, seed: int = 0) -> Stretch:
    """A stretch that has seen p-values whose surprise is ``surprise`` times too large."""
    stretch, rng = Stretch(), random.Random(seed)
    for _ in range(ticks):
        stretch.learn(rng.random() ** surprise)
    return stretch


def test_honest_p_values_are_left_alone() -> None:
    assert tracked(1.0, 5_000).factor == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("surprise", [1.5, 2.0, 2.5])
def test_surprise_is_divided_by_what_is_usual(surprise: float) -> None:
    stretch = tracked(surprise, 5_000)
    assert stretch.factor == pytest.approx(surprise, rel=0.12)
    assert stretch.honest(Judgement(1e-6, 1e-7)).p_value == pytest.approx(1e-6 ** (1 / stretch.factor))


def test_no_more_than_threefold_and_never_less_than_one() -> None:
    assert tracked(100.0, 20_000).factor == 3.0
    assert tracked(0.01, 20_000).factor == 1.0


def test_the_first_minute_after_a_start_does_not_hide_an_attack() -> None:
    """Sixty ticks of what is barely no alarm."""
    stretch = Stretch()
    for _ in range(60):
        stretch.learn(1e-6)
    assert stretch.factor < 2.1


def test_in_the_long_run_a_hundred_ticks_move_it_by_little() -> None:
    stretch = tracked(1.0, 5_000)
    before = stretch.factor
    for _ in range(100):
        stretch.learn(1e-12)
    assert stretch.factor - before < 0.1


def test_a_damaged_stretch_is_refused() -> None:
    with pytest.raises(ValueError, match="saved stretch"):
        Stretch().restore([math.nan, 1.0])


def test_the_stretch_outlives_a_restart() -> None:
    stretch, other = tracked(2.0, 1_000), Stretch()
    other.restore(stretch.export())
    assert other.factor == stretch.factor
