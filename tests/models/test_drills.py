"""Faults that the network is trained on, and plants that do not exist."""

import numpy as np
import pytest

from edge_models import drills
from edge_models.drills import drilled
from edge_models.random_plants import random_plant


def readings(ticks, sensors, seed=0):
    rng = np.random.default_rng(seed)
    common = np.cumsum(rng.normal(size=(ticks, 1)), 0) * 0.1
    return common * rng.normal(size=sensors) + rng.normal(size=(ticks, sensors))


def test_faults_are_where_the_label_says_and_nothing_else_is_touched():
    values = readings(4_000, 6)
    before = values.copy()
    faulty, fault = drilled(values, np.random.default_rng(1))
    np.testing.assert_array_equal(values, before)
    assert not (faulty[~fault] != values[~fault]).any()
    assert (faulty[fault] != values[fault]).mean() > 0.7
    assert 0.005 < fault.mean() < 0.3
    assert not fault[:400].any()


def test_several_sensors_are_at_fault_at_once_and_single_ones():
    _, fault = drilled(readings(12_000, 8), np.random.default_rng(2))
    together = fault.sum(1)
    assert (together == 1).any()
    assert (together >= 3).any()


def test_the_kind_that_is_measured_as_unseen_is_unseen():
    assert drills.UNSEEN not in drills._ONE_KIND


@pytest.mark.parametrize(
    "values",
    [
        np.full((900, 3), np.nan),
        np.full((900, 3), 7.0),
        readings(1, 1),
        readings(300, 2),
        np.where(np.arange(900)[:, None] % 450 < 440, np.nan, readings(900, 2)),
        np.hstack([readings(900, 1), np.full((900, 2), np.nan)]),
    ],
    ids=["nothing", "constant", "one reading", "short", "mostly missing", "one sensor heard"],
)
@pytest.mark.parametrize("seed", range(6))
def test_odd_histories_are_drilled_without_harm(values, seed):
    faulty, fault = drilled(values, np.random.default_rng(seed))
    assert faulty.shape == fault.shape == values.shape
    np.testing.assert_array_equal(faulty[~fault], values[~fault])


def test_random_plants_differ_and_come_back_with_the_seed():
    first, again = (random_plant(np.random.default_rng(3), 800) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    shapes = {random_plant(np.random.default_rng(seed), 800).shape for seed in range(6)}
    assert len(shapes) > 2
    assert np.isfinite(first).all()
    assert (first.std(0) > 0).all()
