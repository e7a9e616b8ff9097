"""What is learned without gradients: levels, spreads, ridge regressions, and what must not be learned."""

import numpy as np
import pytest
import torch

from edge_models.hybrid import WARMUP_TICKS, HybridStep
from edge_models.online import Experts, Pace
from edge_models.state import CONTEXT_WIDTH, MEMORY, NEIGHBOURS, State


def run(values, neighbour=None, step=None):
    """Scores [T, N], and the last state."""
    step = step or HybridStep().eval()
    sensors = values.shape[1]
    table = torch.full((sensors, NEIGHBOURS), -1) if neighbour is None else torch.from_numpy(neighbour)
    state, context, scores = State.start(sensors), torch.zeros(sensors, CONTEXT_WIDTH), []
    with torch.no_grad():
        for value in torch.from_numpy(values.astype(np.float32)):
            missing = (~torch.isfinite(value)).to(torch.int32)
            verdict, state = step(torch.nan_to_num(value), torch.zeros(sensors), missing, table, context, state)
            scores.append(verdict.score.numpy())
    return np.stack(scores), state


def ring(sensors):
    table = np.full((sensors, NEIGHBOURS), -1, np.int64)
    for place in range(min(sensors - 1, NEIGHBOURS)):
        table[:, place] = (np.arange(sensors) + place + 1) % sensors
    return table


def plant(ticks, sensors, rng):
    common, noise = np.zeros(ticks), rng.normal(0, 1, ticks)
    for tick in range(1, ticks):
        common[tick] = 0.9 * common[tick - 1] + noise[tick]
    return common[:, None] * rng.uniform(0.5, 2, sensors) + rng.normal(0, 0.2, (ticks, sensors))


def test_experts_are_exactly_ridge_regression():
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(60, 4)), np.array([1.0, -2.0, 0.5, 0.0])
    target = features @ truth + rng.normal(0, 0.1, 60)
    experts = Experts(torch.zeros(1, 1, 4), torch.zeros(1, 1, 4, 4))
    one, prior = torch.ones(1, 1), torch.full((1, 1), 0.5)
    for tick in range(60):
        feature = torch.from_numpy(features[tick]).float().view(1, 1, 4)
        innovation = torch.tensor([[float(target[tick])]]) - experts.estimate(feature)
        experts = experts.learn(feature, innovation, one, one, one * (tick == 0), prior, 0.0)
    closed = np.linalg.solve(features.T @ features + 2.0 * np.eye(4), features.T @ target)
    np.testing.assert_allclose(experts.weight.numpy().ravel(), closed, atol=1e-3)


def test_score_is_about_one_on_normal_readings_and_zero_while_warming_up():
    scores, _ = run(plant(1_000, 6, np.random.default_rng(1)), ring(6))
    assert (scores[:WARMUP_TICKS] == 0).all()
    assert 0.5 < scores[600:].mean() < 2.0


def test_missing_sensor_scores_zero():
    values = plant(400, 4, np.random.default_rng(2))
    values[300:, 1] = np.nan
    scores, _ = run(values, ring(4))
    assert (scores[300:, 1] == 0).all()
    assert (scores[300:, 0] > 0).all()


def test_constant_sensor_that_moves_is_remarkable_but_no_more_than_the_evidence():
    values = plant(600, 4, np.random.default_rng(3))
    values[:, 0] = 42.0
    values[500, 0] = 43.0
    scores, state = run(values, ring(4))
    assert scores[200:500, 0].max() < 1.0
    assert 8.0 < scores[500, 0] < 2.0 * np.log(502) + 0.1
    assert scores[510:, 1:].mean() < 3.0
    assert all(torch.isfinite(part).all() for part in state)


def test_relation_finds_a_replay_that_looks_normal_by_itself():
    rng = np.random.default_rng(4)
    values = plant(1_200, 6, rng)
    attacked = values.copy()
    attacked[1_000:1_040, 2] = values[500:540, 2]
    scores, _ = run(attacked, ring(6))
    assert scores[1_005:1_035, 2].mean() > 20 * np.median(scores[500:1_000, 2])


def test_attack_is_not_learned_quickly():
    """After 400 ticks of a stuck offset the yardstick has hardly moved."""
    values = plant(1_200, 6, np.random.default_rng(5))
    _, before = run(values[:800], ring(6))
    attacked = values.copy()
    attacked[800:, 2] += 15.0 * values[:, 2].std()
    scores, after = run(attacked, ring(6))
    spread = MEMORY.index("rough_relation")
    assert float(after.memory[2, spread]) < 1.5 * float(before.memory[2, spread])
    assert scores[1_150:, 2].mean() > 20


def test_plant_that_changed_for_good_is_accepted_in_the_end():
    quick = HybridStep(pace=Pace(patience=150.0, horizon=300.0, guard_ticks=150.0)).eval()
    values = plant(2_000, 4, np.random.default_rng(6))
    values[600:] += 10.0 * values.std(0)
    scores, _ = run(values, ring(4), quick)
    assert np.median(scores[620:660]) > 5
    assert np.median(scores[-300:]) < 2


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_a_sensor_does_not_matter(unit):
    values = plant(500, 3, np.random.default_rng(7))
    plain, _ = run(values, ring(3))
    scaled, _ = run(values * unit, ring(3))
    if unit > 1:
        np.testing.assert_allclose(scaled[200:], plain[200:], rtol=0.05, atol=0.02)
    else:  # near the smallest spread that is told from none
        assert np.isfinite(scaled).all()


def test_reordered_neighbours_keep_what_was_learned():
    values = plant(400, 6, np.random.default_rng(8))
    _, state = run(values, ring(6))
    step, context = HybridStep().eval(), torch.zeros(6, CONTEXT_WIDTH)
    table = torch.from_numpy(np.ascontiguousarray(ring(6)[:, [1, 0, 2, 3, 4, 5, 6, 7]]))
    with torch.no_grad():
        value = torch.from_numpy(values[-1].astype(np.float32))
        good = torch.zeros(6, dtype=torch.int32)
        _, _, kept = step.advance(value, torch.zeros(6), good, torch.from_numpy(ring(6)), context, state)
        _, _, moved = step.advance(value, torch.zeros(6), good, table, context, state)
    # The lagged neighbours of the relation are those in front, and some of them are others now.
    torch.testing.assert_close(kept.residual[:, 0], moved.residual[:, 0], atol=1e-4, rtol=1e-3)
