"""Training a site model, as a function and as a command."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.bundle.store import read_bundle
from edge_agent.cli.app import cli
from edge_agent.demo.tags import NAMES
from edge_agent.errors import DataFileError
from edge_agent.inference.onnx import OnnxDetector
from edge_agent.inference.selftest import self_test
from edge_models.cli import train_command
from edge_models.neighbours import choose_neighbours, named_edges, partial_correlations, read_edges
from edge_models.site import SiteOptions, train_site
from edge_models.streaming import score_rows

COLUMNS = 12


def write_csv(path, values, names, **extra):
    with path.open("w") as file:
        file.write(",".join(["timestamp", *names, *extra]) + "\n")
        for row, numbers in enumerate(values):
            cells = ["" if np.isnan(v) else f"{v:.4f}" for v in numbers]
            file.write(",".join([str(row), *cells, *(str(column[row]) for column in extra.values())]) + "\n")
    return path


@pytest.fixture(scope="module")
def history(plant_values, tmp_path_factory):
    values = plant_values[:600, :COLUMNS].copy()
    values[:, 3] = 7.0
    values[:, 4] = np.nan
    run = np.where(np.arange(600) < 250, "monday", "tuesday")
    return write_csv(tmp_path_factory.mktemp("site") / "normal.csv", values, NAMES[:COLUMNS], run=run)


@pytest.fixture(scope="module")
def trained(history, tmp_path_factory):
    place = tmp_path_factory.mktemp("trained")
    edges = place / "edges.csv"
    edges.write_text(f"src,dst\n{NAMES[0]},{NAMES[5]}\n")
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_models.site.fitting.MOST_STEPS", 2)  # the steps end it, not the clock
        options = SiteOptions(seed=1)
        report = train_site(history, edges, place / "site", options, lambda what, share: said.append(share))
    assert said == sorted(said)
    assert said[-1] == 1.0
    return report, read_bundle(place / "site")


def test_bundle_passes_its_self_test_and_lists_the_sensors(trained):
    report, bundle = trained
    self_test(bundle)
    assert tuple(sensor.name for sensor in bundle.manifest.sensors) == NAMES[:COLUMNS]
    assert bundle.manifest.tick_s == 1.0
    assert report.sha256 == bundle.sha256


def test_constant_and_empty_sensors_are_named(trained):
    report, bundle = trained
    assert report.constant == (NAMES[3],)
    assert report.empty == (NAMES[4],)
    assert f"never had a value: {NAMES[4]}" in bundle.files["card.md"].decode()
    assert set(bundle.manifest.sensors[4].context) == {0.0}


def test_declared_edge_comes_first(trained):
    _, bundle = trained
    first = next(edge for edge in bundle.manifest.edges if edge.sensor == NAMES[0])
    assert first.neighbour == NAMES[5]


def test_calibration_is_of_the_held_out_quarter(trained):
    _, bundle = trained
    scores = bundle.calibration.scores
    assert scores.shape == (150, COLUMNS)
    assert 0.05 < float(scores[20:].mean()) < 10.0


def test_site_model_scores_from_its_first_ticks(trained, plant_values):
    _, bundle = trained
    values = plant_values[700:800, :COLUMNS].copy()
    values[:, 3] = 7.0
    values[60:, 0] += 6.0 * plant_values[:600, 0].std()
    table = choose_neighbours(partial_correlations(plant_values[:600, :COLUMNS]), bundle.manifest.neighbours)
    scores = score_rows(OnnxDetector(bundle), values, table, NAMES[:COLUMNS])
    assert scores[12:60, 0].mean() > 0
    assert scores[60:64, 0].max() > 10 * scores[12:60, 0].mean()


def test_same_seed_gives_the_same_numbers(history, trained, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.site.fitting.MOST_STEPS", 2)
    edges = tmp_path / "edges.csv"
    edges.write_text(f"{NAMES[0]},{NAMES[5]}\n")
    train_site(history, edges, tmp_path / "again", SiteOptions(seed=1))
    first, again = trained[1], read_bundle(tmp_path / "again")
    assert again.files["model.onnx"] == first.files["model.onnx"]
    assert again.manifest.sensors == first.manifest.sensors
    np.testing.assert_array_equal(again.calibration.scores, first.calibration.scores)


def test_too_short_history_is_refused(tmp_path):
    path = write_csv(tmp_path / "short.csv", np.ones((3, 2)), ["a", "b"])
    with pytest.raises(DataFileError, match="got 3 rows of 2 sensors, expected at least 64 rows"):
        train_site(path, None, tmp_path / "out", SiteOptions())


def test_folder_that_is_not_empty_is_refused_before_any_work(history, tmp_path):
    (tmp_path / "mine").write_text("keep me")
    with pytest.raises(DataFileError, match="not an empty folder"):
        train_site(history, None, tmp_path, SiteOptions())


def test_history_without_a_value_is_refused(tmp_path):
    path = write_csv(tmp_path / "empty.csv", np.full((80, 2), np.nan), ["a", "b"])
    with pytest.raises(DataFileError, match="no sensor has a single value"):
        train_site(path, None, tmp_path / "out", SiteOptions())


def test_edges_that_name_no_sensor_are_refused(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("src,dst\nx,y\n")
    with pytest.raises(DataFileError, match="no row names two sensors"):
        read_edges(path, ("a", "b"))


def test_weights_of_edges_fall_in_the_order_of_neighbours():
    strength = np.array([[0, 0.1, 0.9], [0.1, 0, 0.2], [0.9, 0.2, 0]])
    table = choose_neighbours(strength, 2, [(0, 1)])
    assert table.tolist() == [[1, 2], [0, 2], [0, 1]]
    weights = [weight for sensor, _, weight in named_edges("abc", table, strength) if sensor == "a"]
    assert weights == sorted(weights, reverse=True)
    assert len(set(weights)) == 2


def test_command_prints_the_report_as_json(history, tmp_path):
    arguments = ["--data", history, "--time-budget", "1s", "--tick", "2s", "--out", tmp_path / "out", "--json"]
    result = CliRunner().invoke(train_command, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["sensors"] == COLUMNS
    assert read_bundle(tmp_path / "out").manifest.tick_s == 2.0


def test_command_says_what_is_wrong_with_the_history(tmp_path):
    path = write_csv(tmp_path / "short.csv", np.ones((3, 2)), ["a", "b"])
    result = CliRunner().invoke(cli, ["train", "--data", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "expected at least 64 rows" in result.stderr


def test_command_without_torch_says_what_to_install(history, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.cli._NEEDED", ("no_such_library_here",))
    result = CliRunner().invoke(cli, ["train", "--data", str(history), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "pip install 'edge-graph-agent[train]'" in result.stderr


@pytest.mark.parametrize("budget", ["5", "0s", "soon"])
def test_time_budget_needs_a_unit(history, tmp_path, budget):
    arguments = ["--data", str(history), "--out", str(tmp_path / "out"), "--time-budget", budget]
    result = CliRunner().invoke(train_command, arguments)
    assert result.exit_code == 2
    assert repr(budget) in result.stderr
