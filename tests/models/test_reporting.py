"""Model card, plots and tracking of a training."""

import dataclasses
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edge_agent.bundle.manifest import MAX_OTHER_BYTES, TrainedEdge
from edge_agent.errors import ConfigError, DataFileError
from edge_agent.recording import read_recording
from edge_models.faults import Detection
from edge_models.reporting import (
    DataSummary,
    LossPoint,
    TrainingRecord,
    check_tracking,
    gaussian_likelihood,
    model_card,
    summarise,
    track,
    versions,
    write_report,
)
from edge_models.reporting.plots import PLOTS

DATA = DataSummary("history.parquet", "ab" * 32, 5_000, 4_000, ("flow", "level", "pump"))
BARE = TrainingRecord("boiler", "linear", DATA, 7, {})
FULL = dataclasses.replace(
    BARE,
    data=dataclasses.replace(
        DATA,
        runs=2,
        tick_s=0.5,
        first="2026-01-01T00:00:00Z",
        last="2026-01-02T00:00:00Z",
        gaps=3,
        missing=0.0125,
        constant=("pump",),
        empty=("level",),
        excluded=("1,000 older rows", "20 rows under alarm"),
        warnings=("unit of flow looks changed at row 70",),
        licence="CC BY 4.0",
    ),
    settings={"learning_rate": 0.001, "lags": 5},
    scores=np.random.default_rng(0).gamma(1.0, 1.0, (300, 3)).astype(np.float32),
    likelihood=-0.25,
    residual=np.array([0.5, np.nan, 1.25]),
    faults=(Detection("bias", 4, 0.875, 0.75), Detection("replay", 0, None, None), Detection("stuck", 3, 0.4, 0.0)),
    loss=(LossPoint(10, 1.0, None), LossPoint(20, 0.5, 0.75)),
    edges=(TrainedEdge("flow", "level", 0.8), TrainedEdge("pump", "flow", -0.2)),
    metrics={"loss relative to linear": 0.93},
    limits=("A change that lasts is accepted.",),
    elapsed_s=12.34,
    created="2026-11-20T00:00:00Z",
    commit="abc123",
)


def test_card_says_all_that_is_known():
    card = model_card(FULL)
    for said in (
        "# boiler\n",
        "Recipe `linear`, trained on 4,000 rows of 3 sensors.",
        "Source: `history.parquet`; licence of the data: CC BY 4.0.",
        "4,000 used of 5,000, in 2 runs, 0.5 s apart.",
        "2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z",
        "3 places where rows are missing; 1.25% of readings are missing.",
        "Never changed: 1: `pump`.",
        "Never had a value: 1: `level`.",
        "Left out: 1,000 older rows; 20 rows under alarm.",
        "Odd: unit of flow looks changed at row 70.",
        "| seed | 7 |",
        "| learning_rate | 0.001 |",
        "| last loss, held out | 0.75 |",
        "| edges of the graph | 2 |",
        "Over 300 ticks that nothing was fitted on",
        "Log likelihood: -0.250 nats",
        "largest `pump` 1.25, `flow` 0.50",
        "loss relative to linear: 0.93",
        "| bias | 1 to 3 | 4 | 0.88 | 0.75 |",
        "| replay | 0.5 to 1 | 0 | - | - |",
        "Mean AUROC over 2 kinds: 0.64.",
        "A change that lasts is accepted.",
        f"sha256 of the data: `{'ab' * 32}`",
        "Commit of the code: `abc123`",
        f"numpy {np.__version__}",
    ):
        assert said in card


def test_card_says_what_is_unknown():
    card = model_card(BARE)
    for said in ("licence of the data: not stated", "Period: unknown", "Left out: nothing", "Scores were not measured"):
        assert said in card
    assert "nothing is known about detection" in card
    assert "None" not in card
    assert " nan" not in card


def test_card_of_the_largest_plant_fits_into_a_bundle():
    sensors = tuple(f"{'x' * 240}{i}" for i in range(65_536))
    record = dataclasses.replace(BARE, data=dataclasses.replace(DATA, sensors=sensors, constant=sensors, empty=sensors))
    card = model_card(record)
    assert len(card.encode()) < MAX_OTHER_BYTES / 10
    assert "and 65,516 more" in card


def test_names_from_outside_are_not_taken_for_markdown():
    evil = "a|b`\n# heading ![x](http://evil)"
    record = dataclasses.replace(FULL, name=evil, data=dataclasses.replace(DATA, source=evil, sensors=(evil, "b", "c")))
    card = model_card(record)
    assert "\n# heading" not in card
    assert "`a/b' # heading ![x](http://evil)`" in card


def test_report_holds_card_and_every_plot(tmp_path):
    written = write_report(FULL, tmp_path / "new" / "report")
    assert sorted(path.name for path in written) == sorted(["card.md", *PLOTS])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written if path.suffix == ".png")
    card = (tmp_path / "new" / "report" / "card.md").read_text()
    assert card.startswith(model_card(FULL))
    assert all(f"({name})" in card for name in PLOTS)


def test_plots_without_anything_to_show_are_left_out_and_old_ones_removed(tmp_path):
    write_report(FULL, tmp_path)
    assert [path.name for path in write_report(BARE, tmp_path)] == ["card.md"]
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_plots_of_a_large_plant_with_odd_names():
    sensors = tuple(f"$x_{i}^{{ very long name of a sensor" for i in range(500))
    rng = np.random.default_rng(0)
    edges = tuple(TrainedEdge(sensors[i], sensors[(i * 7 + 1) % 500], float(rng.normal())) for i in range(500))
    data = dataclasses.replace(DATA, sensors=sensors)
    record = dataclasses.replace(FULL, data=data, edges=edges, residual=rng.random(500))
    graph, bars = PLOTS["graph.png"](record), PLOTS["residuals.png"](record)
    assert len(graph.axes[0].texts) <= 60
    assert len(bars.axes[0].patches) == 40
    graph.canvas.draw()
    bars.canvas.draw()


def test_fault_bars_below_chance_stand_out():
    colours = {tuple(patch.get_facecolor()) for patch in PLOTS["faults.png"](FULL).axes[0].patches}
    assert len(colours) == 2


def test_bundle_is_not_used_as_a_report_folder(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataFileError, match=r"is a model bundle, expected another folder for the report"):
        write_report(FULL, tmp_path)


def test_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFileError, match=r"file/report: the report cannot be written: Not a directory"):
        write_report(BARE, tmp_path / "file" / "report")


@pytest.fixture
def recording(tmp_path):
    start, lines = datetime(2026, 1, 1, tzinfo=UTC), ["timestamp,a,b,c"]
    for row in range(100):
        moment = start + timedelta(minutes=row + (30 if row >= 40 else 0))
        lines.append(f"{moment:%Y-%m-%dT%H:%M:%SZ},{row},{5 if row % 10 else ''},")
    path = tmp_path / "plant.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_recording(path)


def test_summary_of_a_recording(recording):
    used = dataclasses.replace(
        recording,
        values=recording.values[20:],
        time_ns=recording.time_ns[20:],
        timestamp=recording.timestamp[20:],
    )
    summary = summarise(recording, used, sha256="0" * 64, tick_s=60.0, excluded=("rows under alarm",))
    assert summary == DataSummary(
        source="plant.csv",
        sha256="0" * 64,
        rows=100,
        used_rows=80,
        sensors=("a", "b", "c"),
        tick_s=60.0,
        first="2026-01-01T00:20:00Z",
        last="2026-01-01T02:09:00Z",
        gaps=1,
        missing=pytest.approx((8 + 80) / 240),
        constant=("b",),
        empty=("c",),
        excluded=("20 older rows", "rows under alarm"),
    )


def test_summary_without_dates_knows_no_period(tmp_path):
    path = tmp_path / "seconds.csv"
    path.write_text("timestamp,a\n" + "".join(f"{row},{row}\n" for row in range(10)))
    recording = read_recording(path)
    assert summarise(recording, recording, sha256="0" * 64).first is None


def test_likelihood_of_a_perfect_model_of_noise():
    rng = np.random.default_rng(0)
    readings = rng.normal(3.0, 2.0, (20_000, 1))
    spread = np.array([2.0])
    by_mean = gaussian_likelihood(readings, np.full_like(readings, 3.0), np.full_like(readings, 2.0), spread)
    assert by_mean == pytest.approx(-1.419, abs=0.02)
    sharp = gaussian_likelihood(readings, readings + rng.normal(0, 0.2, readings.shape), np.array([[0.2]]), spread)
    assert sharp == pytest.approx(-1.419 + np.log(10), abs=0.02)
    wrong = gaussian_likelihood(readings, np.full_like(readings, 3.0), np.array([[0.2]]), spread)
    assert wrong < by_mean


def test_likelihood_does_not_depend_on_units_or_missing_readings():
    rng = np.random.default_rng(0)
    readings, scale, spread = rng.normal(size=(100, 2)), np.full((100, 2), 0.5), np.array([1.0, 0.0])
    readings[:10] = np.nan
    plain = gaussian_likelihood(readings, 0.9 * readings, scale, spread)
    assert gaussian_likelihood(1e3 * readings, 900 * readings, 1e3 * scale, 1e3 * spread) == pytest.approx(plain)


def test_likelihood_of_nothing_is_refused():
    nothing = np.full((5, 2), np.nan)
    with pytest.raises(ValueError, match="no reading of a sensor that moves"):
        gaussian_likelihood(nothing, nothing, nothing, np.ones(2))
    with pytest.raises(ValueError, match="scale: got 0, expected numbers above 0"):
        gaussian_likelihood(np.ones((5, 2)), np.ones((5, 2)), np.zeros((5, 2)), np.ones(2))


def test_versions_name_what_numbers_depend_on():
    assert {"python", "edge-agent", "numpy", "onnxruntime", "torch"} <= set(versions())


def test_importing_reporting_loads_neither_matplotlib_nor_mlflow():
    code = "import sys, json, edge_models.reporting; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "mlflow", "torch", "sklearn", "pandas"} & set(json.loads(found.stdout))


def run_of(uri, run):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri).get_run(run), MlflowClient(tracking_uri=uri)


@pytest.fixture
def hasty_sqlite():
    """No waiting for the disk: MLflow creates its database in fifty transactions."""
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs the train extra")

    def hurry(connection, _record):
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA journal_mode=MEMORY")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", hurry)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", hurry)


@pytest.mark.parametrize("store", ["folder", "sqlite"])
@pytest.mark.filterwarnings("ignore")  # mlflow uses what sqlalchemy deprecates
@pytest.mark.usefixtures("hasty_sqlite")
def test_tracking_in_a_local_store(tmp_path, monkeypatch, store):
    pytest.importorskip("mlflow", reason="needs the mlflow extra")
    monkeypatch.chdir(tmp_path)
    uri = f"file:{tmp_path / 'runs'}" if store == "folder" else f"sqlite:///{tmp_path / 'store' / 'runs.db'}"
    many = dataclasses.replace(FULL, loss=tuple(LossPoint(i, 1.0 / (i + 1), None) for i in range(250)))
    first, second = track(many, uri, "boilers"), track(BARE, uri, "boilers")
    run, client = run_of(uri, first)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "boiler"
    assert run.info.experiment_id == client.get_run(second).info.experiment_id
    assert (
        run.data.params | {"recipe": "linear", "seed": "7", "learning_rate": "0.001", "rows": "4000"} == run.data.params
    )
    assert run.data.metrics["auroc.bias"] == 0.875
    assert run.data.metrics["held-out likelihood"] == -0.25
    assert len(client.get_metric_history(first, "loss")) == 250
    assert {found.path for found in client.list_artifacts(first)} == {"card.md", *PLOTS}
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("uri", ["nothing://x", "sqlite:////proc/no/runs.db", "http://user:secret@127.0.0.1:9"])
def test_store_that_cannot_be_used_is_said_before_the_training(uri, monkeypatch):
    pytest.importorskip("mlflow", reason="needs the mlflow extra")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"tracking: .* cannot be used: .*expected a server") as error:
        check_tracking(uri)
    assert "secret" not in str(error.value)


def test_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigError, match=r"needs MLflow: pip install 'edge-graph-agent\[mlflow\]'"):
        track(BARE, "file:runs", "boilers")
