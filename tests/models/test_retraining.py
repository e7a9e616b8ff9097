"""Challengers from a gateway's own history: which rows are used, who is judged how, what is recommended."""

import asyncio
import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from bundle_factory import make_files
from click.testing import CliRunner

from edge_agent.bundle.store import place_files
from edge_agent.cli.app import cli
from edge_agent.clock import SystemClock
from edge_agent.demo.tags import NAMES
from edge_agent.errors import DataFileError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history import History, HistoryOptions
from edge_agent.history.export import Period, ReadingTable, read_readings
from edge_agent.metrics import Metrics
from edge_agent.recording import read_recording
from edge_agent.verdict import Feedback, Incident, IncidentKind, IncidentState, Severity
from edge_models import rehearsal
from edge_models.faults import Detection
from edge_models.recipes.command import AnyReport
from edge_models.retraining import ModelReport, RetrainOptions, marked, recommend, retrain, select, with_past
from edge_models.site import SiteOptions, TrainReport

S = 1_000_000_000
NOW = 1_800_000_000 * S
ROWS, COLUMNS = 1200, 6


def table(rows=2000, periods=(), alarm=(), run=None):
    flags = np.zeros(rows, np.bool_)
    for start, stop in alarm:
        flags[start:stop] = True
    time_ns = NOW + np.arange(rows, dtype=np.int64) * 10 * S
    runs = np.zeros(rows, np.int64) if run is None else np.asarray(run)
    return ReadingTable("history.db", ("a",), 10 * S, time_ns, np.zeros((rows, 1)), flags, runs, tuple(periods))


def period(start, stop, verdict=None):
    """An incident from row ``start`` to row ``stop`` of :func:`table`."""
    stop_ns = None if stop is None else NOW + stop * 10 * S
    return Period(f"I{start}", NOW + start * 10 * S, stop_ns, verdict)


def rows_of(which):
    return np.flatnonzero(which).tolist()


@pytest.mark.parametrize("verdict", [None, Feedback.TRUE_ALARM])
def test_true_and_unjudged_incidents_are_left_out_with_a_margin(verdict):
    suspicious, false_alarm = marked(table(periods=[period(100, 110, verdict)]), margin_s=50.0)
    assert rows_of(suspicious) == list(range(95, 116))
    assert not false_alarm.any()


def test_false_alarms_are_kept_and_marked():
    suspicious, false_alarm = marked(table(periods=[period(100, 110, Feedback.FALSE_ALARM)]), margin_s=50.0)
    assert not suspicious.any()
    assert rows_of(false_alarm) == list(range(100, 111))


def test_a_false_alarm_within_the_margin_of_a_true_one_is_left_out_there():
    periods = [period(100, 110, Feedback.FALSE_ALARM), period(112, 120)]
    suspicious, false_alarm = marked(table(periods=periods), margin_s=50.0)
    assert rows_of(false_alarm) == list(range(100, 107))
    assert rows_of(suspicious)[0] == 107


def test_an_incident_that_is_still_open_is_left_out_to_the_end():
    suspicious, _ = marked(table(rows=200, periods=[period(150, None)]), margin_s=0.0)
    assert rows_of(suspicious) == list(range(150, 200))


def test_an_alarm_whose_incident_was_forgotten_is_left_out():
    suspicious, _ = marked(table(alarm=[(300, 310)]), margin_s=20.0)
    assert rows_of(suspicious) == list(range(298, 312))


def test_the_last_normal_rows_are_judged_on_and_never_trained_on():
    periods = [period(500, 520), period(1000, 1060, Feedback.FALSE_ALARM), period(1900, 1950, Feedback.FALSE_ALARM)]
    options = RetrainOptions(margin_s=0.0, false_alarm_copies=3, held_out=0.25)
    chosen = select(table(periods=periods), options)
    trained = [row for part in chosen.training for row in range(part.start, part.stop)]
    judged = [row for part in chosen.judged for row in range(part.start, part.stop)]
    assert not set(trained) & set(judged)
    assert min(judged) > 1400
    assert not set(range(500, 521)) & {*trained, *judged}
    assert all(trained.count(row) == 3 for row in (*range(1000, 1061), *range(1900, 1951)))
    assert trained.count(0) == trained.count(1400) == 1
    assert (chosen.left_out, chosen.false_alarm_rows) == (21, 112)


def test_runs_are_never_joined():
    run = np.arange(2000) // 700
    chosen = select(table(run=run), RetrainOptions())
    assert all(len(set(run[part])) == 1 for part in (*chosen.training, *chosen.judged))


def test_too_little_normal_operation_is_refused_with_what_to_do():
    with pytest.raises(DataFileError, match="rows of normal operation are left to judge models on, of 300 in all"):
        select(table(rows=300), RetrainOptions())
    with pytest.raises(DataFileError, match="judge the incidents that were false"):
        select(table(periods=[period(10, None)]), RetrainOptions())


# -- recommending --------------------------------------------------------------------------------------------------


def report(name, false=1, auroc=0.8, other=0.8):
    kinds = tuple(Detection(kind, 4, value, 0.5) for kind, value in (("bias", auroc), ("replay", other)))
    return ModelReport(name, (0.0, 1.0, 2.0, 3.0), false, 0.0, kinds)


@pytest.mark.parametrize(
    ("challenger", "publish", "why"),
    [
        (report("challenger"), False, "not clearly better"),
        (report("challenger", false=0), True, "better on the whole, and nowhere clearly worse"),
        (report("challenger", false=2, auroc=0.99), False, "is worse"),
        (report("challenger", auroc=0.9), True, "better on the whole, and nowhere clearly worse"),
        (report("challenger", false=0, auroc=0.6), False, "is worse"),
        (report("challenger", auroc=1.0, other=0.69), True, "better on the whole, though blinder to replay"),
    ],
)
def test_the_recommendation(challenger, publish, why):
    advised, reasons = recommend(report("champion"), challenger)
    assert advised is publish
    assert why in reasons[-1]


def test_faults_that_are_no_longer_seen_are_named():
    _, reasons = recommend(report("champion"), report("challenger", auroc=1.0, other=0.69))
    assert any("blinder to replay: AUROC 0.690, was 0.800" in reason for reason in reasons)


def test_without_faults_only_false_alarms_decide():
    none = (Detection("bias", 0, None, None),)
    before, after = (replace(report(name, false=n), detection=none) for name, n in (("champion", 2), ("challenger", 1)))
    publish, reasons = recommend(before, after)
    assert publish
    assert "only false alarms were compared" in reasons[1]


# -- the whole way -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(plant_values, tmp_path_factory):
    """The data folder of a gateway that kept its readings, with an incident of each kind."""
    folder = tmp_path_factory.mktemp("gateway")

    async def gather():
        options = HistoryOptions.model_validate({"readings": {"every": "1s", "block": "500s"}})
        history = await History.open(folder / "history.db", options, Metrics(), SystemClock())
        zeros, names = np.zeros(COLUMNS, np.float32), NAMES[:COLUMNS]
        for tick, row in enumerate(plant_values[:ROWS, :COLUMNS]):
            usable, quality = np.isfinite(row), zeros.astype(np.int32)
            nobody = np.full((COLUMNS, 1), -1, np.int64)
            snapshot = Snapshot(tick, NOW + tick * S, 0, names, np.nan_to_num(row), zeros, quality, usable, nobody)
            history.observe(snapshot, alarm=False)
        for name, start, stop in (("TRUE", 200, 240), ("FALSE", 600, 660)):
            await history.record(
                Incident(
                    name, IncidentKind.PROCESS, IncidentState.CLOSED, Severity.LOW,
                    NOW + start * S, NOW + stop * S, NOW + stop * S, 0, 1, 0.1, 1.0, "", (),
                )
            )  # fmt: skip
        await history.judge("FALSE", Feedback.FALSE_ALARM, "", "me")
        await history.close()

    asyncio.run(gather())
    return folder


@pytest.fixture(scope="module")
def retrained(kept, tmp_path_factory):
    """The report of a challenger that is the champion again, and what it was given to train on."""
    place, given = tmp_path_factory.mktemp("challenger"), []

    def copy(data, edges, out, recipe, options, int8, say):
        assert options.gathered_from == str(kept / "history.db")
        given.append(read_recording(data))
        with resources.as_file(resources.files("edge_agent.bundle") / "universal") as folder:
            shutil.copytree(folder, out)
        trained = TrainReport(str(out), 1, 1, COLUMNS, (), (), 0, 1.0, 1.0, 1.0, 0.1, "0" * 64)
        return AnyReport(str(out), recipe, trained)

    options = RetrainOptions(SiteOptions(seed=1), margin_s=20.0, kinds=("bias", "noise"))
    return retrain(kept, None, place / "bundle", None, options, train=copy), given[0]


def test_the_challenger_is_given_normal_rows_and_false_alarms_several_times(retrained, plant_values):
    report, given = retrained
    assert (report.rows, report.rows_left_out, report.rows_of_false_alarms, report.every_s) == (ROWS, 81, 61, 1.0)
    assert given.sensors == NAMES[:COLUMNS]
    copies = [given.values[rows] for _, rows in given.runs()][:3]
    for copy in copies:
        np.testing.assert_allclose(copy, plant_values[600:661, :COLUMNS], rtol=1e-6)
    assert len(given) == 3 * 61 + ROWS - 81 - 61 - report.rows_judged
    assert (np.diff(given.time_ns) == S).all()


def test_a_reservoir_of_what_was_trained_on_lies_beside_the_bundle(retrained, plant_values):
    report, _ = retrained
    kept = rehearsal.load(rehearsal.beside(Path(report.training.out)), NAMES[:COLUMNS])
    assert len(kept) == 12
    assert {segment.generation for segment in kept} == {0}
    rows = {row.tobytes() for row in plant_values[:ROWS, :COLUMNS].astype(np.float32)}
    assert all(row.tobytes() in rows for segment in kept for row in segment.values.astype(np.float32))


def test_old_segments_are_trained_on_and_a_fourth_of_them_held_out_at_the_end():
    past = [rehearsal.Segment(0, np.full((5, 1), float(at))) for at in range(8)]
    parts = with_past(past, [np.full((9, 1), 99.0)])
    assert [part[0, 0] for part in parts] == [0.0, 1.0, 2.0, 4.0, 5.0, 6.0, 99.0, 3.0, 7.0]


def test_the_same_model_gets_the_same_marks_and_is_not_published(retrained):
    report, _ = retrained
    assert report.rows_judged == pytest.approx(0.2 * (ROWS - 81), abs=2)
    assert replace(report.challenger, name="champion") == report.champion
    assert len(report.champion.quantiles) == 4
    assert report.champion.auroc > 0.5
    assert not report.publish
    assert "not clearly better" in report.reasons[-1]


def test_a_champion_of_another_plant_is_told(kept, retrained, tmp_path, monkeypatch):
    place_files(tmp_path / "champion", make_files(sensors=("x", "y")))
    monkeypatch.setattr("edge_models.retraining._Judge.report", lambda _self, name, _model: report(name))
    challenger = Path(retrained[0].training.out)

    def copy(_data, _edges, out, *_given):
        shutil.copytree(challenger, out)
        return replace(retrained[0].training, out=str(out))

    found = retrain(kept, None, tmp_path / "new", tmp_path / "champion", RetrainOptions(margin_s=20.0), train=copy)
    assert "knows none of these sensors" in found.reasons[0]


def test_a_place_that_cannot_be_written_is_refused_before_training(kept, tmp_path):
    (tmp_path / "file").write_text("")
    result = run("--from-history", kept, "--out", tmp_path / "file" / "out")
    assert result.exit_code == 2
    assert "cannot be written: Not a directory" in result.stderr


def test_the_report_is_plain_json(retrained):
    report, _ = retrained
    again = json.loads(json.dumps(report.to_dict()))
    assert again["challenger"]["auroc"] == pytest.approx(report.challenger.auroc)
    assert again["training"]["sensors"] == COLUMNS


def test_what_the_history_holds_is_what_the_plant_sent(kept, plant_values):
    values = read_readings(kept).values
    np.testing.assert_allclose(values, plant_values[:ROWS, :COLUMNS], rtol=1e-6)


# -- the command ---------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli, ["train", *map(str, arguments)])


def test_the_command_shows_both_models_and_what_to_do(kept, retrained, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.retraining.retrain", lambda *_given: retrained[0])
    result = run("--from-history", kept, "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert "81 of 1200 rows left out around incidents, 61 rows of false alarms" in result.output
    assert "keep the champion: the challenger is not clearly better" in result.output
    assert "champion" in result.output
    as_json = run("--from-history", kept, "--out", tmp_path / "new", "--json")
    assert json.loads(as_json.output)["publish"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --data or --from-history"),
        (("--data", "x.csv", "--from-history", "."), "give either --data or --from-history"),
        (("--data", "x.csv", "--champion", "."), "--champion and --margin go with --from-history"),
    ],
)
def test_a_history_of_the_gateway_and_a_file_exclude_each_other(tmp_path, arguments, message):
    result = run(*arguments, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert message in result.output


def test_a_folder_without_a_history_is_refused(tmp_path):
    result = run("--from-history", tmp_path, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert "expected a history of the daemon" in result.output
