"""Detectors of PyOD, rewritten: the same scores as PyOD's own."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("pyod", reason="needs the evaluate extra")

from edge_models.recipes.fitting import Settings  # noqa: E402
from edge_models.recipes.outliers import _CONVERTERS, OutlierMember, _fitted, exportable, train  # noqa: E402
from edge_models.recipes.plant import plant_of  # noqa: E402
from edge_models.reporting import DataSummary  # noqa: E402


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    causes = random.normal(size=(500, 2))
    return causes @ random.normal(size=(2, 6)) + 0.2 * random.normal(size=(500, 6))


@pytest.fixture(scope="module")
def fresh():
    return 2.0 * np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)


@pytest.mark.parametrize("name", exportable())
def test_scores_are_those_of_pyod(rows, fresh, name):
    detector = _fitted(name, rows, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = detector.decision_function(fresh.astype(np.float64))
    with torch.no_grad():
        found = _CONVERTERS[name](detector).eval()(torch.from_numpy(fresh).double()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_most_of_the_score_goes_to_the_sensor_that_is_odd(rows):
    sensors = tuple("abcdef")
    plant = plant_of(sensors, [rows[:350]], [rows[350:]], DataSummary("x", "0" * 64, 500, 500, sensors))
    member = train(plant, "KNN", Settings())
    assert isinstance(member, OutlierMember)
    level = torch.zeros(1, 6)
    level[0, 4] = 30.0
    with torch.no_grad():
        judgement, _ = member(level, torch.zeros(1, 6, 1), torch.zeros(1, 0))
    assert int(judgement.score.argmax()) == 4
    assert float(judgement.score.mean()) > 20.0
