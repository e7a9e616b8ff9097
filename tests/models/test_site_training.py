"""Training a site model, as a function and as a command."""

import json
from itertools import pairwise

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
from edge_models.histories import open_history
from edge_models.neighbours import choose_neighbours, named_edges, partial_correlations, read_edges
from edge_models.site import SiteOptions, train_site
from edge_models.site.plant import Plant
from edge_models.site.sample import WINDOW, Plan, collected, planned
from edge_models.site.spreads import robust_rms
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


WEEK = 7 * 86_400


def test_a_long_history_is_sampled_at_all_times_of_day():
    plan = planned(WEEK, 51, seed=3)
    windows = sorted(plan.training + plan.held_out)
    assert not plan.whole
    assert all(last - first == WINDOW and before <= first for (_, before), (first, last) in pairwise(windows))
    assert sum(last - first for first, last in windows) <= 48_000
    assert len(plan.training) == 3 * len(plan.held_out)
    assert {first % 86_400 // 10_800 for first, _ in plan.training} == set(range(8))
    assert {first % 86_400 // 21_600 for first, _ in plan.held_out} == set(range(4))
    assert windows[0][0] < 0.03 * WEEK
    assert windows[-1][1] > 0.97 * WEEK


def test_the_sample_does_not_grow_with_history_or_sensors():
    for ticks, sensors in ((53 * WEEK, 51), (WEEK, 1000), (WEEK, 5000)):
        plan = planned(ticks, sensors, seed=0)
        used = sum(last - first for first, last in plan.training + plan.held_out)
        assert used * sensors <= 11_000_000
        assert len(plan.held_out) >= 1


def test_a_short_history_is_used_whole_and_its_last_quarter_held_out():
    plan = planned(1000, 51, seed=0)
    assert plan == Plan(((0, 750),), ((750, 1000),), whole=True)


def test_windows_are_cut_where_the_run_changes_and_hold_the_readings_of_the_file(plant_values, tmp_path):
    values = plant_values[:300, :3].round(4)
    path = write_csv(tmp_path / "a.csv", values, "abc", run=["x"] * 100 + ["y"] * 200)
    sample = collected(open_history(path), Plan(((40, 120), (150, 160)), ((200, 300), (296, 300)), whole=False))
    for part, (first, last) in zip(sample.training, ((40, 100), (100, 120), (150, 160)), strict=True):
        np.testing.assert_array_equal(part, values[first:last])
    (held_out,) = sample.held_out  # four ticks are too few to begin with
    np.testing.assert_array_equal(held_out, values[200:300])


def test_a_model_is_trained_on_a_sample_of_a_long_history(plant_values, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.site.fitting.MOST_STEPS", 2)
    monkeypatch.setattr("edge_models.site.sample._MOST_TICKS", 960)
    monkeypatch.setattr("edge_models.site.sample.WINDOW", 120)
    monkeypatch.setattr("edge_models.site.sample._MOST_CELLS", 12_000)
    names = [f"{name} [bar]" for name in NAMES[:COLUMNS]]
    path = write_csv(tmp_path / "long.csv", plant_values[:, :COLUMNS], names)
    report = train_site(path, None, tmp_path / "out", SiteOptions(seed=1))
    bundle = read_bundle(tmp_path / "out")
    self_test(bundle)
    assert (report.rows, report.used_rows) == (1500, 960)
    assert bundle.calibration.scores.shape == (2 * (120 - 8), COLUMNS)
    assert 0.05 < float(np.median(bundle.calibration.scores)) < 5.0
    assert bundle.manifest.sensors[0].unit == "bar"
    assert bundle.manifest.sensors[0].name == NAMES[0]
    assert "equal strata" in bundle.files["card.md"].decode()


def test_two_sensors_with_windows_of_nothing_make_a_model_and_are_told(plant_values, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.site.fitting.MOST_STEPS", 2)
    values = plant_values[:500, :2].copy()
    values[100:180] = np.nan
    path = write_csv(tmp_path / "two.csv", values, "ab")
    report = train_site(path, None, tmp_path / "out", SiteOptions())
    assert any("2 sensors, each the other's only neighbour" in one for one in report.warnings)
    assert any("80 rows without any value" in one for one in report.warnings)
    scores = read_bundle(tmp_path / "out").calibration.scores
    assert np.isfinite(scores).all()
    assert 0.05 < float(scores[20:].mean()) < 10.0


BAD = {
    "shuffled": (lambda v: v[np.random.default_rng(0).permutation(len(v))], "timestamps go back"),
    "constant": (lambda v: np.full_like(v, 3.0), "no sensor ever changes"),
    "short": (lambda v: v[:3], "got 3 rows of 3 sensors"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_history_with_errors_is_refused_before_training(name, tmp_path):
    damage, message = BAD[name]
    values = np.column_stack((np.arange(300.0), np.random.default_rng(0).normal(size=(300, 2))))
    values = damage(values)
    path = tmp_path / "a.csv"
    rows = ("".join(f"{v}," for v in row)[:-1] for row in np.column_stack((values[:, 0], values)))
    path.write_text("timestamp,a,b,c\n" + "\n".join(rows) + "\n")
    if name == "constant":
        path = write_csv(path, values, "abc")
    with pytest.raises(DataFileError, match=message):
        train_site(path, None, tmp_path / "out", SiteOptions())
    assert not (tmp_path / "out").exists()


def with_faults(values, share):
    """Episodes of large offsets of one sensor at a time in ``share`` of the rows."""
    random = np.random.default_rng(0)
    values = values.copy()
    deviation = np.nanstd(values, 0)
    for first in range(0, len(values) - 20, round(20 / share)):
        sensor = int(random.integers(values.shape[1]))
        values[first : first + 20, sensor] += 20 * deviation[sensor]
    return values


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
def test_faults_in_the_history_hardly_change_who_is_related(share, plant_values):
    clean = Plant.of(NAMES[:COLUMNS], [plant_values[:, :COLUMNS]], ())
    faulty = Plant.of(NAMES[:COLUMNS], [with_faults(plant_values[:, :COLUMNS], share)], ())
    kept = [len(set(a[:4]) & set(b[:4])) for a, b in zip(clean.neighbour, faulty.neighbour, strict=True)]
    assert np.mean(kept) > 2.5


@pytest.mark.parametrize(("share", "most"), [(0.0, 1.05), (0.01, 1.3), (0.05, 2.0), (0.1, 3.5)])
def test_faults_in_the_history_stretch_spreads_little(share, most):
    residual = np.random.default_rng(0).normal(size=(4000, 1, 2)).astype(np.float32)
    residual[: round(share * 4000)] = 20.0
    spread = robust_rms(residual, np.ones((4000, 1, 1), bool))
    assert (spread > 0.95).all()
    assert (spread < most).all()


def test_a_sensor_that_moves_rarely_keeps_a_spread():
    residual = np.zeros((4000, 1, 2), np.float32)
    residual[::50] = 1.0
    assert (robust_rms(residual, np.ones((4000, 1, 1), bool)) > 0.02).all()
