"""The mathematics of the members, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from plants import plant

from edge_agent.companions.admission import GROUP, Waiting, grouped
from edge_agent.companions.combination import Combination
from edge_agent.companions.experts import Weights, own_history, relation, shared_history
from edge_agent.companions.moments import LAGS, Moments
from edge_agent.companions.prototypes import LONG, SHORT, Prototypes


def levels(ticks: int = 400, width: int = 4, seed: int = 0) -> np.ndarray:
    values = plant(ticks, width, seed)
    return (values - values.mean(0)) / values.std(0)


def rows_of(z: np.ndarray) -> np.ndarray:
    parts = [z[LAGS - lag : len(z) - lag] for lag in range(LAGS + 1)]
    return np.concatenate((*parts, np.ones((len(z) - LAGS, 1))), axis=1)


def learned(z: np.ndarray, remember: float = 1e9) -> Moments:
    moments = Moments(z.shape[1])
    moments.learn(z, np.ones(len(z) - LAGS, np.bool_), remember)
    return moments


def fit(moments: Moments) -> Weights:
    return Weights(own_history(moments), shared_history(moments), relation(moments))


def states(level: np.ndarray) -> np.ndarray:
    """States [T, 3 G] of levels [T, G], from the first tick on that has all means."""
    ticks = range(LONG, len(level) + 1)
    found = [np.stack((level[t - 1], level[t - SHORT : t].mean(0), level[t - LONG : t].mean(0))).ravel() for t in ticks]
    return np.array(found, np.float32)


def test_moments_are_the_sum_of_outer_products_however_they_are_cut() -> None:
    z = levels()
    rows = rows_of(z)
    in_parts = Moments(z.shape[1])
    for start in range(0, len(z) - LAGS, 79):
        part = z[start : start + 79 + LAGS]
        in_parts.learn(part, np.ones(len(part) - LAGS, np.bool_), 1e9)
    np.testing.assert_allclose(in_parts.gram, rows.T @ rows, rtol=1e-12, atol=1e-9)
    assert in_parts.rows == len(rows)


def test_rows_that_do_not_count_are_left_out() -> None:
    z = levels(100)
    counts = np.arange(len(z) - LAGS) % 3 > 0
    moments = Moments(z.shape[1])
    moments.learn(z, counts, 1e9)
    rows = rows_of(z)[counts]
    np.testing.assert_allclose(moments.gram, rows.T @ rows, atol=1e-9)


def test_moments_forget_with_the_stated_pace() -> None:
    moments = learned(levels(505), remember=500.0)
    before = moments.gram.copy()
    for _ in range(50):
        moments.learn(np.zeros((10 + LAGS, 4)), np.ones(10, np.bool_), 500.0)
    assert moments.gram[0, 0] == pytest.approx(before[0, 0] * np.exp(-1.0), rel=0.02)
    assert moments.rows == pytest.approx(500.0, rel=0.02)


def test_restated_moments_are_those_of_the_restated_levels() -> None:
    z = levels()
    shift, factor = np.array([1.0, -0.5, 0.0, 2.0]), np.array([2.0, 1.0, 0.25, 3.0])
    moments = learned(z)
    moments.restate(shift, factor)
    np.testing.assert_allclose(moments.gram, learned((z - shift) / factor).gram, rtol=1e-9, atol=1e-7)


def test_sensors_come_and_go_in_the_moments() -> None:
    z = levels()
    moments = learned(z)
    moments.extend(2)
    assert moments.gram.shape == (6 * 6 + 1, 6 * 6 + 1)
    moments.keep(np.array([0, 1, 2, 3]))
    np.testing.assert_allclose(moments.gram, learned(z).gram)
    moments.keep(np.array([2, 0]))
    np.testing.assert_allclose(moments.gram, learned(z[:, [2, 0]]).gram)


def test_experts_are_ridge_regressions() -> None:
    z = levels(width=5)
    rows, width = rows_of(z), 5
    weights = fit(learned(z))

    def ridge(places: list[int], target: np.ndarray) -> np.ndarray:
        x = rows[:, places]
        return np.linalg.solve(x.T @ x + 10.0 * np.eye(len(places)), x.T @ target)

    one = rows.shape[1] - 1
    for sensor in range(width):
        target = rows[:, sensor]
        own = [sensor + width * lag for lag in range(1, LAGS + 1)] + [one]
        np.testing.assert_allclose(weights.own[:, sensor], ridge(own, target), atol=1e-9)
        past = list(range(width, one + 1))
        np.testing.assert_allclose(weights.shared[:, sensor], ridge(past, target), atol=1e-9)
        others = [i + width * lag for lag in range(3) for i in range(width) if i != sensor] + [one]
        places = [place if place < one else 3 * width for place in others]
        np.testing.assert_allclose(weights.relation[places, sensor], ridge(others, target), atol=1e-9)
        assert (weights.relation[[sensor + width * lag for lag in range(3)], sensor] == 0).all()


def test_estimates_are_the_weights_applied() -> None:
    z = levels(width=3)
    weights = fit(learned(z))
    row = rows_of(z)[-1]
    lags = row[3:-1].reshape(LAGS, 3)
    np.testing.assert_allclose(weights.history(lags), row[3:] @ weights.shared)
    np.testing.assert_allclose(weights.related(row[:9].reshape(3, 3)), np.append(row[:9], 1.0) @ weights.relation)


def test_restated_weights_expect_the_same() -> None:
    z = levels(width=4)
    shift, factor = np.array([1.0, -0.5, 0.0, 2.0]), np.array([2.0, 1.0, 0.25, 3.0])
    weights = fit(learned(z))
    other = weights.restated(shift, factor)
    recent = z[-6:][::-1]
    moved = (recent - shift) / factor
    np.testing.assert_allclose(other.history(moved[1:]), (weights.history(recent[1:]) - shift) / factor)
    np.testing.assert_allclose(other.related(moved[:3]), (weights.related(recent[:3]) - shift) / factor)
    before = (weights.own[:-1] * recent[1:]).sum(0) + weights.own[-1]
    np.testing.assert_allclose((other.own[:-1] * moved[1:]).sum(0) + other.own[-1], (before - shift) / factor)


def test_a_combination_that_never_was_is_far_from_all_prototypes() -> None:
    random = np.random.default_rng(3)
    both = np.repeat(random.choice((-2.0, 2.0), 600), 4)[:, None]
    usual = states(np.repeat(both, 2, axis=1) + random.normal(0, 0.1, (2_400, 2)))
    prototypes = Prototypes(2)
    for state in usual[:2_000]:
        prototypes.learn(state, 20_000)

    def distance(state: np.ndarray) -> float:
        nearest = prototypes.nearest(state)
        assert nearest is not None
        return float(((nearest - state) ** 2).mean())

    odd = states(np.tile((2.0, -2.0), (LONG, 1)))[-1]
    assert distance(odd) > 5 * np.quantile([distance(state) for state in usual[2_000:]], 0.99)


def test_prototypes_stay_within_their_sample() -> None:
    prototypes = Prototypes(3)
    random = np.random.default_rng(0)
    for state in random.normal(0, 1, (2_000, 9)).astype(np.float32):
        prototypes.learn(state, 1_000)
    assert prototypes.export()["sample"].shape == (512, 9)


def test_sensors_wait_until_they_were_heard_and_have_moved() -> None:
    waiting = Waiting()
    waiting.follow(("moves", "still", "one glitch", "mostly missing", "moved long ago"))
    random = np.random.default_rng(0)
    for tick in range(400):
        glitch = 1e15 if tick == 350 else random.normal()
        value = np.array((random.normal(), 7.0, glitch, random.normal(), float(100 <= tick < 200)))
        waiting.note(value, np.array((True, True, True, tick % 4 == 0, True)))
    ready, centre, spread = waiting.ready()
    assert [waiting.sensors[i] for i in ready] == ["moves", "one glitch", "moved long ago"]
    assert centre == pytest.approx([0.0, 0.0, 0.25], abs=0.3)
    assert spread == pytest.approx([1.0, 1.0, 0.43], rel=0.3)


def test_groups_are_small_and_hold_related_sensors() -> None:
    random = np.random.default_rng(1)
    drives = np.cumsum(random.normal(0, 1, (150, 4)), axis=0)
    history = np.repeat(drives, 50, axis=1) + random.normal(0, 0.1, (150, 200))
    groups = grouped(history, np.full((200, 8), -1, np.int64))
    assert sorted(int(i) for group in groups for i in group) == list(range(200))
    assert max(map(len, groups)) <= GROUP
    for unit in range(4):
        together = max(np.isin(np.arange(unit * 50, unit * 50 + 50), group).mean() for group in groups)
        assert together >= 0.7


def test_declared_neighbours_come_into_one_group() -> None:
    random = np.random.default_rng(1)
    neighbour = np.full((130, 8), -1, np.int64)
    neighbour[0, 0] = 129
    groups = grouped(random.normal(0, 1, (150, 130)), neighbour)
    assert any({0, 129} <= {int(i) for i in group} for group in groups)


def settled(names: tuple[str, ...] = ("a", "b", "c"), ticks: int = 3_000) -> Combination:
    combination = Combination(names)
    for row in np.random.default_rng(5).normal(0.0, 1.0, (ticks, len(names))):
        combination.learn(row)
    return combination


def test_the_plant_is_the_mean_of_the_members_above_their_usual_level() -> None:
    combination = Combination(("a", "b"))
    for noise in np.random.default_rng(0).normal(0, 0.1, 2_000):
        combination.learn(np.array((1.0 + noise, -3.0 + noise)))
    assert combination.combined(np.array((1.0, -3.0))) == pytest.approx(0.0, abs=0.05)
    assert combination.combined(np.array((3.0, -3.0))) == pytest.approx(1.0, abs=0.05)
    assert combination.combined(np.array((3.0, np.nan))) == pytest.approx(2.0, abs=0.05)
    assert combination.combined(np.array((np.nan, np.nan))) is None


def test_a_flat_member_has_no_vote() -> None:
    combination = Combination(("a", "flat"))
    for noise in np.random.default_rng(0).normal(0, 1, 1_000):
        combination.learn(np.array((noise, 2.0)))
    assert combination.weights.tolist() == [1.0, 0.0]


def test_a_member_whose_usual_level_moved_away_has_no_vote_until_it_settles() -> None:
    combination = settled()
    for row in np.random.default_rng(6).normal(0.0, 1.0, (800, 3)):
        combination.learn(row + np.array((0.0, 9.0, 0.0)))
    assert combination.weights.tolist() == [1.0, 0.0, 1.0]
    combination.settle()
    for row in np.random.default_rng(7).normal(0.0, 1.0, (200, 3)):
        combination.learn(row + np.array((0.0, 9.0, 0.0)))
    assert combination.weights.tolist() == [1.0, 1.0, 1.0]


def test_feedback_moves_trust_within_bounds() -> None:
    combination = settled()
    combination.feedback({"a": 12.0, "b": 0.5, "c": 0.0}, false_alarm=True)
    weights = combination.weights
    assert weights[0] < weights[1] < weights[2]
    for _ in range(100):
        combination.feedback({"a": 12.0, "b": 0.5, "c": 0.0}, false_alarm=True)
    assert combination.weights.min() >= 0.25
    assert combination.weights.max() <= 4.0
    combination.feedback({}, false_alarm=True)  # an incident from before members were told


def test_a_combination_is_saved_and_restored() -> None:
    combination, other = settled(), Combination(("a", "b", "c"))
    other.restore(combination.export())
    levels_ = np.array((0.3, 2.0, -1.0))
    assert other.combined(levels_) == combination.combined(levels_)
    with pytest.raises(ValueError, match="saved combination"):
        Combination(("a", "x", "c")).restore(combination.export())


def test_sensors_come_and_go_in_the_prototypes() -> None:
    prototypes, random = Prototypes(3), np.random.default_rng(0)
    for state in random.normal(0, 1, (400, 9)).astype(np.float32):
        prototypes.learn(state, 1_000)
    before = prototypes.export()["sample"].reshape(-1, 3, 3)
    prototypes.extend(1)
    prototypes.keep(np.array([3, 2, 0]))
    after = prototypes.export()["sample"].reshape(-1, 3, 3)
    np.testing.assert_array_equal(after[:, :, 1:], before[:, :, [2, 0]])
    assert (after[:, :, 0] == 0).all()
