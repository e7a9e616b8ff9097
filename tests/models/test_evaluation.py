"""Evaluation on recordings, and the baselines beside it."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.cli.app import cli
from edge_agent.errors import DataFileError
from edge_models.baselines import BASELINES
from edge_models.cli import evaluate_command
from edge_models.datasets import OPEN_SETS, Entity, LabelledRun, data_folder, load
from edge_models.evaluate import run_tests
from edge_models.replay import with_replays
from edge_models.streaming import plant_score


@pytest.fixture(scope="module")
def entity():
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1_300, 1))
    values = common + rng.normal(0, 0.2, (1_300, 4))
    values[1_100:1_150, 1] += 4.0
    label = np.zeros(300, np.int8)
    label[100:150] = 1
    return Entity("made", ("a", "b", "c", "d"), values[:1_000], (LabelledRun("one", values[1_000:], label),))


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "random"])
def test_baseline_sees_an_obvious_fault(entity, name):
    squares = BASELINES[name](entity.normal, entity.tests[0].values)
    label = entity.tests[0].label
    assert squares[label == 1].mean() > 2 * squares[label == 0].mean()


def test_replay_repeats_normal_readings_of_one_related_sensor_at_a_time(entity):
    clean = entity.normal[600:]
    made = with_replays("made", entity.sensors, entity.normal[:600], clean, 0)
    run = made.tests[0]
    changed = run.values != clean
    assert run.label.any()
    assert (changed.sum(1) <= 1).all()
    np.testing.assert_array_equal(changed.any(1), run.label == 1)
    assert np.isin(run.values[changed], entity.normal[:600]).all()


def test_nothing_is_replayed_where_nothing_is_related():
    noise = np.random.default_rng(0).normal(size=(900, 3))
    assert not with_replays("noise", ("a", "b", "c"), noise[:500], noise[500:], 0).tests[0].label.any()


def test_scores_are_causal(bundle, entity):
    """What comes later must not change what was said before."""
    test = entity.tests[0]
    table = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])
    table = np.concatenate((table, np.full((4, 5), -1)), 1)
    cut = Entity("made", entity.sensors, entity.normal, (LabelledRun("one", test.values[:120], test.label[:120]),))
    whole = run_tests(bundle, entity, table, entity.normal)["one"]
    part = run_tests(bundle, cut, table, entity.normal)["one"]
    np.testing.assert_array_equal(whole[:120], part)


def test_plant_score_is_a_causal_mean_of_logarithms():
    scores = np.ones((8, 3), np.float32)
    scores[4] = np.e**5
    expected = [0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(plant_score(scores), expected, atol=1e-5)


def test_folder_must_be_given_and_exist(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGE_AGENT_DATA", raising=False)
    with pytest.raises(DataFileError, match="give --data DIR or set EDGE_AGENT_DATA"):
        data_folder(None)
    with pytest.raises(DataFileError, match="no such folder"):
        data_folder(tmp_path / "gone")


def test_unknown_set_is_refused(tmp_path):
    result = CliRunner().invoke(evaluate_command, ["--data", str(tmp_path), "--set", "nothing"])
    assert result.exit_code == 2
    assert "expected one of wsn_suthaharan" in result.stderr


def test_folder_without_the_set_is_refused(tmp_path):
    result = CliRunner().invoke(cli, ["evaluate", "--data", str(tmp_path), "--set", "asd"])
    assert result.exit_code == 2
    assert "no recordings of 'asd'" in result.stderr


@pytest.mark.parametrize("name", OPEN_SETS)
def test_every_set_is_read(recordings, name):
    for entity in load(recordings, name):
        assert entity.normal.shape[1] == len(entity.sensors)
        assert not {"timestamp", "run", "label"} & set(entity.sensors)
        for test in entity.tests:
            assert test.values.shape == (len(test.label), len(entity.sensors))


def test_command_measures_model_and_baselines(recordings):
    result = CliRunner().invoke(evaluate_command, ["--data", str(recordings), "--set", "wsn_suthaharan", "--json"])
    assert result.exit_code == 0, result.output
    rows = {row["detector"]: row for row in json.loads(result.stdout)}
    assert rows.keys() == {"universal", *BASELINES}
    assert rows["universal"]["auroc"] > rows["random"]["auroc"]
