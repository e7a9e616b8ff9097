"""Thresholds, alarms, events, delays, root causes and intervals, by hand."""

import numpy as np
import pytest

from edge_models.evaluation.alarms import Layer, Threshold, as_ticks, judge, most_found, threshold_for
from edge_models.evaluation.intervals import bootstrap, poisson_interval
from edge_models.evaluation.root_cause import cause_quality
from edge_models.evaluation.suites import Cause

AT_ONCE = Layer((1, 1), 2)


def labels(ticks, *spans):
    return as_ticks(spans, ticks)


def test_threshold_is_exceeded_as_often_as_the_budget_allows():
    rng = np.random.default_rng(0)
    threshold = threshold_for(rng.normal(size=20_000), 1e-3)
    fresh = rng.normal(size=200_000)
    assert (fresh >= threshold.open).mean() == pytest.approx(1e-3, rel=0.4)
    assert (fresh >= threshold.hold).mean() == pytest.approx(1e-2, rel=0.2)


def test_threshold_reaches_beyond_the_largest_calm_score_where_the_budget_asks_for_it():
    calm = np.random.default_rng(0).normal(size=500)
    assert threshold_for(calm, 1e-7).open > calm.max()


def test_constant_calm_scores_do_not_alarm_by_themselves():
    threshold = threshold_for(np.zeros(100), 1e-5)
    assert 0.0 < threshold.open < 1.0


def test_without_calm_scores_there_is_no_alarm():
    assert AT_ONCE.alarms(np.full(10, 1e9), threshold_for(np.zeros(19), 1e-3)) == []


def test_budget_of_hours_is_capped_as_in_the_daemon():
    calm = np.random.default_rng(0).normal(size=2_000)
    assert threshold_for(calm, 0.5) == threshold_for(calm, 0.01)


def test_alarm_opens_on_two_of_three_and_is_held_by_what_is_merely_unusual():
    score = np.array([0, 9, 0, 0, 9, 0, 9, 5, 5, 0, 0, 5, 0, 0, 0, 9, 9, 0.0])
    layer, threshold = Layer((2, 3), 3), Threshold(8.0, 4.0)
    assert layer.alarms(score, threshold) == [(6, 11), (16, 17)]


def test_ticks_of_seconds_need_confirmation_and_ticks_of_minutes_do_not():
    assert Layer.of(1.0) == Layer((2, 3), 30)
    assert Layer.of(60.0) == Layer((1, 1), 2)


def test_events_delays_and_false_alarms():
    label = labels(100, (10, 19), (40, 49), (70, 79))
    outcome = judge([(12, 13), (15, 15), (37, 44), (60, 60), (90, 99)], label)
    assert outcome.delays == (2, 0, None)
    assert outcome.lengths == (10, 10, 10)
    assert outcome.found == 2
    assert outcome.false_alarms == 2
    assert outcome.normal_ticks == 70
    assert outcome.alarmed_normal_ticks == 3 + 1 + 10


def test_an_alarm_that_was_always_on_finds_nothing():
    outcome = judge([(0, 99)], labels(100, (40, 49)))
    assert (outcome.found, outcome.false_alarms) == (0, 1)


def test_best_threshold_at_the_same_false_alarms():
    label = labels(60, (20, 24), (40, 44))
    score = np.zeros(60)
    score[[5, 21, 41, 55]] = (3.0, 4.0, 2.0, 1.0)
    found = [most_found([score], [label], AT_ONCE, allowed) for allowed in (0, 1)]
    assert found == [1, 2]


def test_hit_rates_and_ranks_by_hand():
    sensor = np.zeros((20, 5), np.float32)
    sensor[5:10] = (5, 1, 4, 3, 2)  # ranking 0, 2, 3, 4, 1
    sensor[12:15] = (1, 2, 3, 4, 5)  # ranking 4, 3, 2, 1, 0
    causes = (Cause(5, 9, (2, 3)), Cause(12, 14, (4,)))
    found = cause_quality(sensor, causes)
    assert (found.events, found.ticks) == (2, 8)
    assert found.hit_rate_100 == pytest.approx((5 * 1 / 2 + 3 * 1) / 8)  # of two true ones, one among the first two
    assert found.hit_rate_150 == pytest.approx((5 * 2 / 2 + 3 * 1) / 8)  # both among the first three
    assert found.event_100 == pytest.approx((1 / 2 + 1) / 2)
    assert (found.top_1, found.top_3, found.top_5) == (0.5, 1.0, 1.0)


def test_hit_rates_are_means_over_ticks_and_ips_goes_by_the_highest_score():
    sensor = np.zeros((4, 3), np.float32)
    sensor[:, 0] = (9, 9, 9, 0)
    sensor[:, 1] = (1, 1, 1, 50)
    found = cause_quality(sensor, (Cause(0, 3, (0,)),))
    assert (found.hit_rate_100, found.ips_100, found.event_100) == (0.75, 0.0, 0.0)
    assert found.top_3 == 1.0


@pytest.mark.parametrize(("true", "first"), [(1, 1), (2, 3), (3, 4), (5, 7)])
def test_150_percent_is_rounded_down(true: int, first: int):
    """As OmniAnomaly does: of three true ones the first four count, not the first five."""
    ranked = np.arange(20, 0, -1, dtype=np.float32)[None]
    cause = (*range(true - 1), first - 1)
    beyond = (*range(true - 1), first)
    found, missed = (cause_quality(ranked, (Cause(0, 0, sensors),)) for sensors in (cause, beyond))
    assert found.hit_rate_150 == 1.0
    assert missed.hit_rate_150 == pytest.approx((true - 1) / true)


def test_poisson_interval_is_the_exact_one():
    """Garwood's interval for no and for ten events, as tabulated."""
    assert poisson_interval(0, 1.0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(10, 2.0) == pytest.approx((4.795 / 2, 18.390 / 2), abs=1e-3)


def test_bootstrap_counts_each_set_the_same():
    many, few = np.full(100, 0.1), np.array([0.3])
    assert bootstrap([many, few]) == pytest.approx((0.2, 0.2, 0.2))
    mean, low, high = bootstrap([np.random.default_rng(0).normal(0.0, 1.0, 400)])
    assert low < mean < high
    assert high - low == pytest.approx(4 / np.sqrt(400), rel=0.1)
