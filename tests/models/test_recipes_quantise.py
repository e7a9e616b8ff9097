"""int8 weights: what changes, what it may cost, and that the gate lets it through."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from edge_agent.bundle.onnx_gate import inspect_model  # noqa: E402
from edge_agent.errors import ConfigError  # noqa: E402
from edge_agent.inference import self_test  # noqa: E402
from edge_models.recipes import quantise  # noqa: E402
from edge_models.recipes.build import build  # noqa: E402
from edge_models.recipes.fitting import Settings  # noqa: E402
from edge_models.recipes.linear import LinearOptions  # noqa: E402
from edge_models.recipes.plant import plant_of  # noqa: E402
from edge_models.recipes.publish import Label, publish  # noqa: E402
from edge_models.reporting import DataSummary  # noqa: E402

SENSORS = tuple(f"S{number}" for number in range(12))


@pytest.fixture(scope="module")
def plant():
    random = np.random.default_rng(2)
    values = np.repeat(random.normal(size=(240, 3)), 2, axis=0) @ random.normal(size=(3, 12))
    values += 0.2 * random.normal(size=values.shape)
    return plant_of(SENSORS, [values[:360]], [values[360:]], DataSummary("x", "0" * 64, 480, 480, SENSORS))


@pytest.fixture(scope="module")
def bundle(plant, tmp_path_factory):
    member = build("linear", plant, Settings(), LinearOptions())
    label = Label("plant", "linear", 0, lambda scores: "# Card\n")
    return publish(tmp_path_factory.mktemp("whole") / "bundle", member, plant, label)


@pytest.fixture(scope="module")
def small(bundle, plant, tmp_path_factory):
    return quantise.write_quantised(bundle, plant.raw, tmp_path_factory.mktemp("small") / "bundle")


def test_quantised_bundle_passes_gate_and_self_test(small):
    made, _ = small
    assert "DequantizeLinear" in inspect_model(made.model).operators
    self_test(made)


def test_it_is_smaller_and_says_what_it_costs(bundle, small):
    made, measured = small
    assert len(made.model) == measured.bytes_after < measured.bytes_before == len(bundle.model)
    assert 0.0 < measured.score_error < quantise.MOST_ERROR
    assert f"{measured.weights:,} weights are stored in one byte each" in made.files["card.md"].decode()
    assert made.calibration.scores.shape == bundle.calibration.scores.shape


def test_too_large_an_error_is_refused(bundle, plant, tmp_path, monkeypatch):
    monkeypatch.setattr(quantise, "MOST_ERROR", 1e-9)
    with pytest.raises(ConfigError, match=r"log score changes by .* expected at most 1e-09; leave --quantize out"):
        quantise.write_quantised(bundle, plant.raw, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_model_without_large_weights_is_refused(bundle, plant, tmp_path, monkeypatch):
    monkeypatch.setattr(quantise, "_LEAST_WEIGHTS", 1 << 20)
    with pytest.raises(ConfigError, match="recipe linear has no array of 1048576 weights or more"):
        quantise.write_quantised(bundle, plant.raw, tmp_path / "out")


def test_error_is_that_of_the_plants_log_score():
    before = np.ones((100, 3), np.float32)
    assert quantise.score_error(before, 1.1 * before) == pytest.approx(np.log(1.1), rel=1e-3)
