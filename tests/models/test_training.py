import numpy as np
import torch

from edge_agent.demo.recording import generate
from edge_models.bundling import pack_weights, unpack_weights
from edge_models.network import HybridNetwork
from edge_models.train_universal import history, train
from edge_models.training import fit, prepare


def small():
    values = generate(700.0, 3).values[:, :16]
    return [history("a", values[:400]), history("b", values[300:, :9])]


def test_same_seed_gives_the_same_weights():
    first, loss = train(small(), 5, most_steps=3, budget_s=float("inf"))
    second, again = train(small(), 5, most_steps=3, budget_s=float("inf"))
    assert loss == again
    for name, value in pack_weights(first).items():
        np.testing.assert_array_equal(value, pack_weights(second)[name])


def test_training_lowers_the_held_out_loss():
    torch.manual_seed(0)
    network, steps = HybridNetwork(), []
    prepared = prepare(small())
    best = fit(
        network, prepared, seed=0, budget_s=60.0, most_steps=20, learning_rate=1e-2, check_every=5, report=steps.append
    )
    assert best < 1.0
    assert [p.step for p in steps] == [5, 10, 15, 20]


def test_budget_ends_training():
    now = iter(np.arange(0.0, 1e4, 10.0))
    steps = []
    fit(
        HybridNetwork(), prepare(small()), seed=0, budget_s=25.0, check_every=1, report=steps.append,
        clock=lambda: float(next(now)),
    )  # fmt: skip
    assert len(steps) < 5


def test_history_too_short_to_train_on_changes_nothing():
    network = HybridNetwork()
    before = {name: value.copy() for name, value in pack_weights(network).items()}
    assert fit(network, prepare([history("short", generate(50.0, 1).values)]), seed=0, budget_s=5.0) == 1.0
    for name, value in pack_weights(network).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_come_back_from_the_bundle(bundle, step):
    found = pack_weights(unpack_weights(bundle))
    for name, value in pack_weights(step.network).items():
        np.testing.assert_array_equal(value, found[name])
