"""What parts earn: levels of members, ways to combine them, parts of the hybrid model, models of unseen plants."""

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge_agent.companions import MEMBERS
from edge_agent.errors import DataFileError
from edge_agent.pipeline.rewarm import SETTLING_TICKS
from edge_models.datasets import Entity, LabelledRun
from edge_models.evaluation import ablation
from edge_models.evaluation.ablation import Levels, Row, judged, kept, markdown, member, member_levels, smoothed, ways
from edge_models.evaluation.agent import Agent
from edge_models.evaluation.hybrid_parts import PARTS, part_levels
from edge_models.evaluation.suites import Case

WAYS = {name if group != "without" else f"without {name}": make for group, name, make in ways()}


def made_case(name, seed=0, sensors=4, normal=700, tests=(120, 160)):
    rng = np.random.default_rng(seed)
    rows = normal + sum(tests)
    values = rng.normal(size=(rows, 1)) + rng.normal(0, 0.2, (rows, sensors))
    runs, at = [], normal
    for number, ticks in enumerate(tests):
        label = np.zeros(ticks, np.int8)
        label[60:80] = 1
        values[at + 60 : at + 80, 1] += 6.0
        runs.append(LabelledRun(f"{number}", values[at : at + ticks], label))
        at += ticks
    names = tuple(f"s{number}" for number in range(sensors))
    return Case("made", Entity(name, names, values[:normal], tuple(runs)), 60.0)


@pytest.fixture(scope="module")
def case():
    return made_case("one")


@pytest.fixture
def levels():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, len(MEMBERS)))
    values[:20, 2:] = np.nan
    return values


def test_mean_of_member_levels_is_the_score_of_the_daemon(case):
    found = Agent("").detect(case)
    first = len(case.entity.tests[0].label)
    for rows in (slice(0, first), slice(first, None)):
        expected = smoothed(WAYS[ablation.WHOLE](np.zeros((1, len(MEMBERS))))(found.member_levels[rows]))
        assert np.allclose(found.score[rows][20:], expected[20:])
    assert np.isfinite(found.member_levels[30:first]).all()


def test_levels_are_told_by_test(case):
    found = member_levels(case)
    assert found.normal.shape == (700, len(MEMBERS))
    assert {name: len(levels) for name, levels in found.tests.items()} == {"0": 120, "1": 160}


@pytest.mark.parametrize("name", WAYS)
def test_way_to_combine_is_causal_and_says_something_where_a_member_does(name, levels):
    combine = WAYS[name](levels[:200])
    whole = combine(levels)
    assert np.array_equal(whole[:300], combine(levels[:300]), equal_nan=True)
    assert np.isfinite(whole[20:]).all()
    assert np.isnan(combine(np.full((3, len(MEMBERS)), np.nan))).all()


@pytest.mark.parametrize("name", WAYS)
def test_louder_members_make_a_higher_score(name, levels):
    combine = WAYS[name](levels[:200])
    assert (combine(levels[20:] + 1.0) >= combine(levels[20:])).all()


def test_member_that_is_left_out_does_not_matter(levels):
    changed = levels.copy()
    changed[:, 3] += 5.0
    left_out, alone = (WAYS[f"{prefix}{MEMBERS[3]}"](levels) for prefix in ("without ", ""))
    assert np.array_equal(left_out(levels), left_out(changed), equal_nan=True)
    assert np.array_equal(alone(changed), changed[:, 3], equal_nan=True)


def test_p_value_goes_on_beyond_what_was_ever_usual():
    usual = np.arange(1000.0)[:, None] / 1000.0
    score = WAYS["mean of log p-values"](usual)(np.array([[0.5], [0.8], [2.0], [3.0]]))
    assert score[:2] == pytest.approx(-np.log([0.5, 0.2]), rel=0.02)
    assert np.diff(score)[1:].min() > 10.0


def test_mean_of_late_levels_skips_unknown_ones():
    assert smoothed(np.array([np.nan, 2.0, 4.0, np.nan, np.nan, 6.0]), 3) == pytest.approx(
        [np.nan, 2.0, 3.0, 3.0, 4.0, 6.0], nan_ok=True
    )


def test_ticks_without_a_level_are_calm(case):
    tests = {test.name: np.where(test.label[:, None] > 0, 5.0, np.nan) for test in case.entity.tests}
    assert judged(case, Levels(np.zeros((700, 1)), tests), member(0)) > 0.8


def test_plants_side_by_side_do_not_know_of_each_other(step):
    first = made_case("one", normal=300, tests=(60, 80))
    second = made_case("two", seed=1, sensors=6, normal=350, tests=(70,))
    together = part_levels([first, second], step)
    for number, one in enumerate((first, second)):
        ((normal, tests),) = part_levels([one], step)
        assert together[number][0][200:] == pytest.approx(normal[200:], abs=2e-2)
        for name, level in tests.items():
            assert np.isnan(level[:SETTLING_TICKS]).all()
            assert together[number][1][name][SETTLING_TICKS:] == pytest.approx(level[SETTLING_TICKS:], abs=2e-2)


def test_each_part_of_the_hybrid_says_something_else_and_sees_the_fault():
    case = made_case("short", normal=180, tests=(80,))
    found = {name: part_levels([case], make())[0][1]["0"] for name, make in PARTS.items()}
    for name, level in found.items():
        assert np.mean(level[60:62]) > np.quantile(level[SETTLING_TICKS:60], 0.9), name
    others = [found[name][SETTLING_TICKS:] for name in PARTS]
    assert all(not np.allclose(others[0], other) for other in others[1:])


def test_levels_are_kept(tmp_path, levels):
    made = Levels(levels, {"a/b": levels[:5]})
    first = kept(tmp_path / "new", "members faults:x some/1", lambda: made)
    second = kept(tmp_path / "new", "members faults:x some/1", lambda: pytest.fail("computed again"))
    assert first is made
    assert np.array_equal(second.normal, levels, equal_nan=True)
    assert np.array_equal(second.tests["a/b"], levels[:5], equal_nan=True)


def test_table_has_a_line_for_each_row_and_a_heading_for_each_group():
    rows = [Row("x", "a", {"tep": 0.5, "asd": 0.25}), Row("y", "b", {"tep": 1.0, "asd": 0.5})]
    assert markdown(rows).splitlines() == [
        "| | tep | asd | mean |",
        "|---|---|---|---|",
        "| **x** | | | |",
        "| a | 0.500 | 0.250 | 0.375 |",
        "| **y** | | | |",
        "| b | 1.000 | 0.500 | 0.750 |",
    ]


@pytest.fixture
def folder(tmp_path):
    one = made_case("one", normal=200, tests=(80,))
    place = tmp_path / "wsn_suthaharan" / "hop"
    place.mkdir(parents=True)
    for name, values, label in (
        ("train", one.entity.normal, None),
        ("test", one.entity.tests[0].values, one.entity.tests[0].label),
    ):
        columns = dict(zip(one.entity.sensors, values.T, strict=True))
        pq.write_table(pa.table(columns if label is None else {**columns, "label": label}), place / f"{name}.parquet")
    return tmp_path


def test_command_prints_the_table(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ablation", "--data", str(folder), "--set", "wsn_suthaharan"])
    ablation.main()
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "| | wsn_suthaharan | mean |"
    assert sum(line.startswith("| **") for line in lines) == 5
    assert len(lines) == 2 + 5 + len(WAYS) + len(PARTS)


def test_command_tells_which_recordings_are_missing(folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ablation", "--data", str(folder), "--set", "asd"])
    with pytest.raises(SystemExit) as stopped:
        ablation.main()
    assert stopped.value.code == 2
    assert "no recordings of 'asd'" in capsys.readouterr().err


def test_only_replay_faults_are_chosen(recordings):
    chosen = ablation.chosen_cases(recordings, ["faults:tep", "faults:batadal"])
    assert list(chosen) == ["replay"]
    assert [[test.name for test in case.entity.tests] for case in chosen["replay"]] == [["replay"], ["replay"]]


def test_recordings_that_are_too_short_for_a_replay_are_named(recordings):
    with pytest.raises(DataFileError, match="faults:skab: recordings too short for a replay"):
        ablation.chosen_cases(recordings, ["faults:skab"])


def test_each_set_of_a_column_counts_alike(tmp_path):
    chosen = [replace(made_case(name), set=of) for name, of in (("a", "x"), ("b", "x"), ("c", "y"))]
    for number, case in enumerate(chosen):
        tests = {test.name: np.tile((number > 1) * test.label[:, None], len(MEMBERS)) for test in case.entity.tests}
        normal = np.random.default_rng(number).normal(size=(700, len(MEMBERS)))
        kept(tmp_path, f"members {case.set} {case.entity.name}", partial(Levels, normal, tests))
    alone = [ablation.ensemble_rows({"all": [case]}, tmp_path, str)[0].vus_pr["all"] for case in chosen]
    together = ablation.ensemble_rows({"all": chosen}, tmp_path, str)[0].vus_pr["all"]
    assert together == pytest.approx((alone[0] + alone[1]) / 4 + alone[2] / 2)
    assert alone[2] > alone[0] + 0.2
