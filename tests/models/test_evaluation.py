"""The harness: what is run, what is judged, and the command."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bundle_factory import make_files
from click.testing import CliRunner

from edge_agent.bundle.store import place_files
from edge_agent.cli.app import cli
from edge_agent.errors import DataFileError
from edge_models.datasets import OPEN_SETS, Entity, LabelledRun, data_folder, load
from edge_models.evaluation import report
from edge_models.evaluation.agent import Agent
from edge_models.evaluation.baselines import BASELINES, Baseline, Scale, plant_log
from edge_models.evaluation.baselines.simple import max_z
from edge_models.evaluation.cache import Cache
from edge_models.evaluation.cli import evaluate_command
from edge_models.evaluation.fault_suite import fault_cases
from edge_models.evaluation.harness import Job, Scorer, judged_as_one, measure
from edge_models.evaluation.metrics import events
from edge_models.evaluation.plots import draw_rows
from edge_models.evaluation.streams import causal_mean
from edge_models.evaluation.suites import Case, Cause, read_causes
from edge_models.evaluation.summary import OVERALL, summarise
from edge_models.streaming import plant_score


def made_entity(seed=0):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(1_300, 1))
    values = common + rng.normal(0, 0.2, (1_300, 4))
    values[800:850, 1] += 8.0
    values[1_130:1_160, 2] -= 8.0
    label = np.zeros(300, np.int8)
    label[100:150] = 1
    second = np.zeros(300, np.int8)
    second[130:160] = 1
    tests = (LabelledRun("one", values[700:1_000], label), LabelledRun("two", values[1_000:], second))
    return Entity(f"made-{seed}", ("a", "b", "c", "d"), values[:700], tests)


@pytest.fixture(scope="module")
def entity():
    return made_entity()


@pytest.fixture(scope="module")
def case(entity):
    causes = {"one": (Cause(100, 149, (1,)),), "two": (Cause(130, 159, (2,)),)}
    return Case("made", entity, 60.0, causes)


BY_NAME = {baseline.name: baseline for baseline in BASELINES}


@pytest.fixture(scope="module")
def fitted(request, entity):
    """A baseline, fitted once, and what it is to score."""
    scale = Scale.of(entity.normal)
    normal = scale(entity.normal)
    return BY_NAME[request.param].fit(normal[:525], normal[525:], 0), normal, scale(entity.tests[1].values)


@pytest.mark.parametrize("fitted", [name for name in BY_NAME if name not in ("random", "clock")], indirect=True)
def test_baseline_sees_an_obvious_fault(fitted, entity):
    score, normal, values = fitted
    plant, label = plant_log(score(normal, values)), entity.tests[1].label
    assert np.isfinite(plant).all()
    assert plant[label == 1].max() > np.quantile(plant[label == 0], 0.9)


@pytest.mark.parametrize("fitted", [name for name in BY_NAME if name != "random"], indirect=True)
def test_baseline_is_causal(fitted):
    """What comes later must not change what is said now."""
    score, normal, values = fitted
    np.testing.assert_allclose(score(normal, values)[:120], score(normal, values[:120]), rtol=1e-4, atol=1e-6)


def test_a_score_does_not_depend_on_the_order_of_tests(case):
    entity = case.entity
    turned = Case("made", Entity(entity.name, entity.sensors, entity.normal, entity.tests[::-1]), 60.0)
    there, back = Agent("ours").run(case, 0), Agent("ours").run(turned, 0)
    np.testing.assert_array_equal(there.calm, back.calm)
    for name in ("one", "two"):
        for what in ("plant", "sensor", "p_value", "alarm"):
            np.testing.assert_array_equal(getattr(there.tests[name], what), getattr(back.tests[name], what))


@pytest.fixture(scope="module")
def results(case):
    other = Case("other", made_entity(1), 60.0)
    chosen = [b for b in BASELINES if b.name in ("random", "VAR(5) ridge")]
    return measure([case, other], [Agent("ours")], chosen, seeds=2)


def test_every_detector_is_shown_raw_and_smoothed_and_ours_by_its_own_decision(results):
    assert list(dict.fromkeys(r.detector for r in results)) == [
        "ours",
        "ours, own decision",
        "random",
        "random, mean of 5",
        "VAR(5) ridge",
        "VAR(5) ridge, mean of 5",
    ]


def test_only_what_is_random_runs_with_every_seed(results):
    assert {r.seed for r in results if r.detector == "random"} == {0, 1}
    assert {r.seed for r in results if r.detector in ("ours", "VAR(5) ridge")} == {0}


def test_rows_sum_up_plants_and_sets(results):
    rows = {(row.set, row.detector): row for row in summarise(results)}
    ours = rows["made", "ours, own decision"]
    assert (ours.plants, ours.streams, ours.operating.events) == (1, 2, 2)
    assert ours.operating.found == 2
    assert ours.operating.median_delay_s == 60.0 * ours.operating.median_delay_ticks
    assert ours.causes.top_1 == 1.0
    assert rows["made", "random"].ranking.spread > 0
    mean = rows[OVERALL, "VAR(5) ridge"].ranking.vus_pr
    assert mean == pytest.approx(np.mean([rows[s, "VAR(5) ridge"].ranking.vus_pr for s in ("made", "other")]))
    assert rows[OVERALL, "random"].ranking.difference.high < 0
    assert rows[OVERALL, "VAR(5) ridge, mean of 5"].ranking.difference is None


def test_others_are_matched_to_the_false_alarms_of_our_own_decision(results):
    allowed = {r.plant: r.false_alarms for r in results if r.detector == "ours, own decision"}
    for result in results:
        if result.detector == "VAR(5) ridge":
            job = Job(BY_NAME["VAR(5) ridge"], Case("made", made_entity(int(result.plant[-1])), 60.0), 0)
            assert job.run()[0].matched is None
            assert replace(job, false_alarms=allowed[result.plant]).run()[0].matched == result.matched == 2


def test_a_function_is_measured_like_a_detector(case):
    def largest(normal, test):
        return np.log(np.abs(test).max(1))

    (raw, smooth) = measure([case], [Scorer("largest", largest)], [])
    baseline = measure([case], [], [Baseline("max |z|", max_z)])[0]
    assert raw.ranking["one"].auroc == pytest.approx(baseline.ranking["one"].auroc)
    assert smooth.detector == "largest, mean of 5"


def test_cached_scores_are_those_of_the_same_content_only(case, tmp_path):
    class Counting:
        name, random, key = "counting", False, "1"
        runs = 0

        def run(self, case, seed):
            self.runs += 1
            return BASELINES[1].run(case, seed)

    subject, cache = Counting(), Cache(tmp_path / "scores")
    first, again = (cache.streams(subject, case, 0) for _ in range(2))
    assert subject.runs == 1
    np.testing.assert_array_equal(first.tests["two"].plant, again.tests["two"].plant)
    assert again.tests["two"].sensor is None
    cache.streams(subject, case, 1)
    cache.streams(subject, Case("made", made_entity(2), 60.0), 0)
    assert subject.runs == 3


def test_processes_give_the_same(case):
    chosen = [BY_NAME["max |z|"]]
    alone, together = (measure([case], [], chosen, processes=n) for n in (1, 2))
    assert [r.ranking for r in alone] == [r.ranking for r in together]


def test_tests_with_one_class_are_judged_after_the_faultless_ones():
    values, calm, fault = np.zeros((10, 2)), np.zeros(10, np.int8), np.ones(10, np.int8)
    tests = (LabelledRun("calm", values, calm), LabelledRun("a", values, fault), LabelledRun("b", values, fault))
    apart = Case("made", Entity("plant", ("x", "y"), values, tests), 1.0)
    by_test = {"calm": np.zeros(10), "a": np.full(10, 1.0), "b": np.full(10, 2.0)}
    found = {name: (label, score) for name, label, score in judged_as_one(apart, by_test)}
    assert found.keys() == {"a", "b"}
    assert found["b"][0].sum() == 10
    np.testing.assert_array_equal(found["b"][1], np.repeat((0.0, 2.0), 10))
    pooled = Case("made", Entity("plant", ("x", "y"), values, tests, pooled=True), 1.0)
    assert [(name, len(score)) for name, _, score in judged_as_one(pooled, by_test)] == [("plant", 30)]


def test_budget_is_a_week_where_tests_last_two():
    def of(ticks):
        values, label = np.zeros((ticks, 1)), np.zeros(ticks, np.int8)
        return Case("made", Entity("plant", ("x",), values, (LabelledRun("t", values, label),)), 3600.0)

    assert of(14 * 24).false_alarms_per_s == pytest.approx(1 / 604_800)
    assert of(14 * 24 - 1).false_alarms_per_s == pytest.approx(1 / 86_400)


def test_causes_are_read_from_one(tmp_path):
    path = tmp_path / "interpretation_label.txt"
    path.write_text("760-765:4,5\n1064-1298:1\n")
    assert read_causes(path, 5) == (Cause(760, 765, (3, 4)), Cause(1064, 1298, (0,)))
    path.write_text("760-765:4,6\n")
    with pytest.raises(DataFileError, match="line 1: got '760-765:4,6', expected sensors from 1 to 5"):
        read_causes(path, 5)
    path.write_text("760:4\n")
    with pytest.raises(DataFileError, match="expected such as 760-765:4,5,7"):
        read_causes(path, 5)


def test_plant_score_is_a_causal_mean_of_logarithms():
    scores = np.ones((8, 3), np.float32)
    scores[4] = np.e**5
    expected = [0, 0, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(plant_score(scores), expected, atol=1e-5)
    np.testing.assert_allclose(causal_mean(np.log(scores.mean(1, dtype=np.float64)), 5), expected, atol=1e-5)


def test_folder_must_be_given_and_exist(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGE_AGENT_DATA", raising=False)
    with pytest.raises(DataFileError, match="give --data DIR or set EDGE_AGENT_DATA"):
        data_folder(None)
    with pytest.raises(DataFileError, match="no such folder"):
        data_folder(tmp_path / "gone")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--set", "nothing"), "got 'nothing', expected one of labelled, faults, wsn_suthaharan"),
        (("--set", "asd"), "no recordings of 'asd'"),
        (("--detector", "crystal ball"), "got 'crystal ball', expected one of random"),
    ],
)
def test_command_says_what_is_wrong(tmp_path, given, said):
    result = CliRunner().invoke(cli, ["evaluate", "--data", str(tmp_path), *given])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("option", ["--json", "--plots", "--cache"])
def test_places_that_cannot_be_written_are_refused_before_measuring(option, tmp_path):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "results"
    result = CliRunner().invoke(cli, ["evaluate", "--data", str(tmp_path), "--set", "asd", option, str(place)])
    assert result.exit_code == 2
    assert f"{place}: cannot be written: Not a directory; expected a f" in result.stderr


def test_nothing_is_left_where_writing_was_tried(tmp_path):
    arguments = ["--cache", "a/cache", "--plots", "b/plots", "--json", "rows.json"]
    places = [item if item.startswith("-") else str(tmp_path / item) for item in arguments]
    assert CliRunner().invoke(cli, ["evaluate", "--data", str(tmp_path), "--set", "asd", *places]).exit_code == 2
    assert not list(tmp_path.iterdir())


def test_a_missing_recording_is_no_damaged_one(tmp_path):
    with pytest.raises(DataFileError, match=r"train\.parquet: no such file"):
        load(tmp_path, "tep")


@pytest.mark.parametrize("name", OPEN_SETS)
def test_every_set_is_read(recordings, name):
    for entity in load(recordings, name):
        assert entity.normal.shape[1] == len(entity.sensors)
        assert not {"timestamp", "run", "label"} & set(entity.sensors)
        for test in entity.tests:
            assert test.values.shape == (len(test.label), len(entity.sensors))


@pytest.fixture
def small_recordings(tmp_path, entity):
    """A folder with one made plant."""
    place = tmp_path / "data" / "wsn_suthaharan" / "made"
    place.mkdir(parents=True)
    test = entity.tests[0]
    for name, values, more in (("train", entity.normal, {}), ("test", test.values, {"label": test.label})):
        columns = dict(zip(entity.sensors, values.T, strict=True))
        pq.write_table(pa.table({"timestamp": np.arange(len(values)) * 5} | columns | more), place / f"{name}.parquet")
    return tmp_path / "data"


def test_command_measures_model_and_baselines(small_recordings, tmp_path):
    out = tmp_path / "rows.json"
    arguments = ["--data", str(small_recordings), "--set", "wsn_suthaharan", "--detector", "random"]
    result = CliRunner().invoke(evaluate_command, [*arguments, "--json", str(out)])
    assert result.exit_code == 0, result.output
    assert "wsn_suthaharan: at the budget" in result.stdout
    rows = {row["detector"]: row for row in json.loads(out.read_text())}
    assert rows["universal"]["ranking"]["auroc"] > rows["random"]["ranking"]["auroc"]
    shown = CliRunner().invoke(evaluate_command, [*arguments, "--warmup", "500", "--markdown"])
    assert "| detector | VUS-PR |" in shown.stdout


def test_a_bundle_of_another_plant_is_told(small_recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_models.evaluation.harness.measure", lambda *_given, **_options: {})
    monkeypatch.setattr("edge_models.evaluation.summary.summarise", lambda _results: [])
    for sensors, told in (("x", "y"), True), (("a", "y"), False):
        place_files(tmp_path / sensors[0], make_files(sensors=sensors))
        arguments = ["--data", small_recordings, "--set", "wsn_suthaharan", "--bundle", tmp_path / sensors[0]]
        result = CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        assert ("knows none of the sensors of wsn_suthaharan made; only companions" in result.stderr) is told


def test_example_in_the_docs_runs(small_recordings, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    small_recordings.rename(small_recordings.parent / "recordings")
    monkeypatch.chdir(small_recordings.parent)
    exec(compile(example, "docs/evaluation.md", "exec"), {})
    assert "wsn_suthaharan largest, mean of 5" in capsys.readouterr().out


@pytest.fixture
def small_tep(tmp_path):
    """A folder with a made plant that has a faultless test, as the Tennessee Eastman process."""
    place = tmp_path / "data" / "tep"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    common = rng.normal(size=(1_900, 2))
    values = np.concatenate((common, common @ rng.normal(size=(2, 3)) + rng.normal(0, 0.2, (1_900, 3))), 1)
    for name, rows in (("train", slice(0, 700)), ("test", slice(700, 1_900))):
        part = values[rows]
        columns = {"run": ["d00_te"] * len(part)} | {f"x{n}": column for n, column in enumerate(part.T)}
        more = {"label": np.zeros(len(part), np.int8)} if name == "test" else {}
        pq.write_table(pa.table(columns | more), place / f"{name}.parquet")
    return tmp_path / "data"


def test_injected_faults_are_labelled_and_named_and_depend_on_the_seed(small_tep):
    (case,), (again,), (other,) = (fault_cases(small_tep, "faults:tep", seed) for seed in (0, 0, 1))
    assert {test.name for test in case.entity.tests} >= {"replay", "drift", "bias", "common_shift"}
    for test, same in zip(case.entity.tests, again.entity.tests, strict=True):
        np.testing.assert_array_equal(test.values, same.values)
        assert [(cause.start, cause.stop) for cause in case.causes[test.name]] == events(test.label)
    assert any((a.label != b.label).any() for a, b in zip(case.entity.tests, other.entity.tests, strict=False))


def test_injected_faults_are_shown_by_kind(small_tep):
    cases = fault_cases(small_tep, "faults:tep", 0)
    chosen = [b for b in BASELINES if b.name in ("random", "cross-linear lag 2")]
    rows = {row.detector: row for row in summarise(measure(cases, [], chosen))}
    crossed = {kind.kind: kind for kind in rows["cross-linear lag 2"].kinds}
    assert crossed["replay"].vus_pr > 2 * next(k.vus_pr for k in rows["random"].kinds if k.kind == "replay")
    assert crossed["replay"].top_1 > 0.5
    assert all(kind.top_1 is None for kind in rows["random"].kinds)
    titles = [title for title, *_ in report.tables(list(rows.values()))]
    assert titles[-1] == "faults:tep: VUS-PR / faulty sensor named first"


def test_pictures_are_drawn(case, tmp_path):
    chosen = [BY_NAME["max |z|"]]
    rows = summarise(measure([case], chosen, [], plots=tmp_path))
    draw_rows(rows, ["max |z|"], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made.png", "made_made-0_one.png", "made_made-0_two.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())


@pytest.mark.parametrize(("seconds", "text"), [(119.0, "119s"), (120.0, "2m"), (7_199.0, "120m"), (7_200.0, "2.0h")])
def test_durations_are_short(seconds, text):
    assert report.duration(seconds) == text
