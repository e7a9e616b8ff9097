from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from edge_models import train_universal
from edge_models.bundling import pack_weights, unpack_weights
from edge_models.network import HybridNetwork
from edge_models.random_plants import random_plant
from edge_models.train_universal import HELD_OUT, history, train
from edge_models.training import fit, prepare


@pytest.fixture(scope="module")
def prepared(plant_values):
    values = plant_values[:900, :12]
    sources = [history("a", values), history("b", values[:800, :6])]
    return prepare(sources, np.random.default_rng(4))


def test_same_seed_gives_the_same_weights(prepared):
    first, loss = train(prepared, 5, most_steps=3)
    second, again = train(prepared, 5, most_steps=3)
    assert loss == again
    for name, value in pack_weights(first).items():
        np.testing.assert_array_equal(value, pack_weights(second)[name])


def test_same_seed_gives_the_same_faults_and_random_plants(monkeypatch, plant_values):
    monkeypatch.setattr(train_universal, "RANDOM_PLANTS", 1)
    monkeypatch.setattr(train_universal, "random_plant", partial(random_plant, ticks=500))
    source = [history("a", plant_values[:500, :4])]
    first, second = (train_universal.prepared(source, 5, copies=1) for _ in range(2))
    assert [one.name for one in first] == ["a", "random plant 0"]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.own, other.own)
        assert torch.equal(one.fault, other.fault)
    assert any(one.fault.any() for one in first)


def test_training_lowers_the_loss(prepared):
    torch.manual_seed(0)
    network, steps = HybridNetwork(), []
    best = fit(
        network, prepared, held_out=prepared, seed=0, budget_s=float("inf"), most_steps=30, learning_rate=1e-2,
        check_every=10, report=steps.append,
    )  # fmt: skip
    assert best < 0.98
    assert [p.step for p in steps] == [10, 20, 30]


def test_plants_that_are_held_out_decide_and_are_not_learned_from(prepared):
    learned, other = prepared
    network, loss = train([learned, replace(other, name=HELD_OUT[0])], 1, most_steps=2)
    torch.manual_seed(1)
    alone = HybridNetwork()
    assert fit(alone, [learned], held_out=[other], seed=1, budget_s=60.0, most_steps=2) == loss
    for name, value in pack_weights(alone).items():
        np.testing.assert_array_equal(value, pack_weights(network)[name])


def test_what_comes_right_after_a_fault_counts_as_neither(prepared):
    for one in prepared:
        fault, counts = one.fault.numpy(), one.counts.numpy()
        after = np.flatnonzero((fault[:-1] & ~fault[1:]).any(1))
        assert fault.any()
        for tick in after:
            sensors = fault[tick] & ~fault[tick + 1]
            assert not counts[tick + 1 : tick + 10][~fault[tick + 1 : tick + 10] & sensors].any()
        assert not counts[:120].any()
        assert counts[~fault].mean() > 0.5


def test_budget_ends_training(prepared):
    now = iter(np.arange(0.0, 1e4, 10.0))
    steps = []
    fit(
        HybridNetwork(), prepared, seed=0, budget_s=25.0, check_every=1, report=steps.append,
        clock=lambda: float(next(now)),
    )  # fmt: skip
    assert len(steps) < 5


def test_history_too_short_to_train_on_changes_nothing(plant_values):
    network = HybridNetwork()
    before = {name: value.copy() for name, value in pack_weights(network).items()}
    for ticks in (50, 250):
        short = prepare([history("short", plant_values[:ticks, :5])], np.random.default_rng(0))
        assert fit(network, short, seed=0, budget_s=5.0) == 1.0
    for name, value in pack_weights(network).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_come_back_from_the_bundle(bundle, step):
    found = pack_weights(unpack_weights(bundle))
    for name, value in pack_weights(step.network).items():
        np.testing.assert_array_equal(value, found[name])
