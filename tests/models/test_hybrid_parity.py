"""PyTorch, torch-geometric and ONNX Runtime give the same numbers."""

import numpy as np
import torch

from edge_agent.inference.selftest import self_test
from edge_agent.inference.step import ModelStep
from edge_models.network import HIDDEN, NeighbourAttention
from edge_models.state import CONTEXT_WIDTH, MEMORY, NEIGHBOURS, STATES, State


def _inputs(ticks, sensors, rng):
    drift = np.cumsum(rng.normal(0, 0.1, (ticks, sensors)), 0)
    value = (100.0 + 5.0 * np.sin(drift + drift[:, :1]) + rng.normal(0, 0.3, (ticks, sensors))).astype(np.float32)
    missing = rng.random((ticks, sensors)) < 0.02
    age = np.where(rng.random((ticks, sensors)) < 0.1, 1.0, 0.0).astype(np.float32)
    neighbour = np.stack([rng.permutation(max(sensors, NEIGHBOURS))[:NEIGHBOURS] for _ in range(sensors)])
    neighbour = np.where((neighbour < sensors) & (neighbour != np.arange(sensors)[:, None]), neighbour, -1)
    return value, age, missing.astype(np.int32), neighbour.astype(np.int64)


def _both(step, bundle, value, age, quality, neighbour):
    """Largest deviation of ONNX Runtime from PyTorch relative to the usual size of each output."""
    ticks, sensors = value.shape
    session = ModelStep(bundle.model, bundle.manifest)
    session.resize(sensors, None)
    session.neighbour[:] = neighbour
    state = State.start(sensors)
    table, context = torch.from_numpy(neighbour), torch.zeros(sensors, CONTEXT_WIDTH)
    worst = 0.0
    with torch.no_grad():
        for tick in range(ticks):
            session.value[:], session.age[:], session.quality[:] = value[tick], age[tick], quality[tick]
            session.run()
            verdict, state = step(
                *(torch.from_numpy(array[tick]) for array in (value, age, quality)), table, context, state
            )
            for name, expected in verdict._asdict().items():
                allowed = 1.0 + np.abs(expected.numpy())
                worst = max(worst, float((np.abs(getattr(session, name) - expected.numpy()) / allowed).max()))
    return worst


def test_onnx_runtime_follows_pytorch_over_a_thousand_carried_ticks(step, bundle):
    assert _both(step, bundle, *_inputs(1_200, 12, np.random.default_rng(0))) <= 1e-4


def test_any_number_of_sensors_from_one(step, bundle):
    for sensors in (1, 2, 64):
        assert _both(step, bundle, *_inputs(150, sensors, np.random.default_rng(sensors))) <= 1e-4


def test_large_values_with_small_variation_are_not_lost(step, bundle):
    value, age, quality, neighbour = _inputs(400, 8, np.random.default_rng(1))
    value = (1e6 + 10.0 * (value - 100.0)).astype(np.float32)
    session = ModelStep(bundle.model, bundle.manifest)
    session.resize(8, None)
    session.neighbour[:] = neighbour
    for tick in range(400):
        session.value[:], session.age[:], session.quality[:] = value[tick], age[tick], quality[tick]
        session.run()
    assert (np.abs(session.expected - 1e6) < 500).all()
    assert ((session.scale > 0.1) & (session.scale < 200)).all()


def test_bundle_passes_its_self_test(bundle):
    assert self_test(bundle).deviation < 1.0


def test_gathered_attention_is_that_of_torch_geometric():
    torch.manual_seed(3)
    sensors = 20
    attention = NeighbourAttention(HIDDEN + 6, HIDDEN + 3, 2, 16)
    sent, asking = torch.randn(sensors, HIDDEN + 6), torch.randn(sensors, HIDDEN + 3)
    edge = torch.randn(sensors, NEIGHBOURS, 2)
    neighbour = torch.stack([torch.randperm(sensors)[:NEIGHBOURS] for _ in range(sensors)])
    neighbour[4] = -1
    present = (neighbour >= 0).float() * (torch.rand(sensors, NEIGHBOURS) > 0.2).float()
    gathered, weight = attention(sent, asking, edge, neighbour, present)
    torch.testing.assert_close(gathered, attention.on_edges(sent, asking, edge, neighbour, present))
    somebody = present.amax(-1)
    torch.testing.assert_close(weight.sum(-1), somebody)
    assert (weight[present < 0.5] == 0).all()


def test_states_are_those_of_the_manifest(bundle):
    assert {state.name: state.shape for state in bundle.manifest.states} == STATES


def test_own_reading_does_not_reach_own_relation(step):
    """The leave-one-out estimate of a sensor must not depend on what the sensor says now."""
    rng = np.random.default_rng(5)
    value, age, quality, neighbour = _inputs(200, 6, rng)
    state, table, context = State.start(6), torch.from_numpy(neighbour), torch.zeros(6, CONTEXT_WIDTH)
    with torch.no_grad():
        for tick in range(199):
            _, state = step(*(torch.from_numpy(a[tick]) for a in (value, age, quality)), table, context, state)
        good = torch.zeros(6, dtype=torch.int32)
        seen = []
        for spoof in (0.0, 3.0):
            now = torch.from_numpy(value[199].copy())
            now[2] += spoof
            _, _, tick_view = step.advance(now, torch.zeros(6), good, table, context, state)
            spread = torch.sqrt(state.memory[2, MEMORY.index("rough_relation")]) + 1e-3
            deviation = (
                torch.sqrt(state.memory[2, MEMORY.index("variance")])
                + state.memory[2, MEMORY.index("anchor")].abs() * 3e-7
                + 1e-6
            )
            left = tick_view.view[2, 1] * spread * deviation
            seen.append(float(now[2] - left))
    assert abs(seen[0] - seen[1]) < 1e-3
