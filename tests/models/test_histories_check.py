"""What the report says about histories, alone and beside a test."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edge_agent.cli.app import cli
from edge_agent.recording import write_table
from edge_models.histories import open_history
from edge_models.histories.findings import Severity
from edge_models.histories.profile import profile
from edge_models.histories.report import check_history
from edge_models.histories.sketches import KeySketch, RowSample
from edge_models.histories.unit_changes import scale_changes

START_NS = 1_760_000_000 * 10**9
ROWS, SENSORS = 1200, 6


def plant(rows=ROWS, sensors=SENSORS, seed=0):
    """Related random walks around 50, with a pull to their level."""
    random = np.random.default_rng(seed)
    causes = np.zeros((rows, 3))
    for row in range(1, rows):
        causes[row] = 0.95 * causes[row - 1] + random.normal(size=3)
    mix = np.random.default_rng(1).normal(size=(3, sensors))
    return 50.0 + causes @ mix + 0.3 * random.normal(size=(rows, sensors))


def table(values, names=None, first_s=0, seconds=None):
    seconds = np.arange(len(values)) if seconds is None else seconds
    stamps = (START_NS + (first_s + np.asarray(seconds)) * 10**9).astype("datetime64[ns]")
    return {
        "timestamp": stamps,
        **dict(zip(names or [f"TI{i}" for i in range(values.shape[1])], values.T, strict=True)),
    }


def written(path, columns):
    write_table(path, columns)
    return path


def report(folder, train, test=None):
    first = open_history(written(folder / "train.parquet", train))
    second = None if test is None else open_history(written(folder / "test.csv", test))
    return check_history(first, second)[0]


def kinds(found):
    return {(one.severity.value, one.kind) for one in found.findings}


def only(found, kind):
    (one,) = (one for one in found.findings if one.kind == kind)
    return one


def test_a_sound_history_has_no_findings(tmp_path):
    assert report(tmp_path, table(plant()), table(plant(seed=5), first_s=10_000)).findings == ()


@pytest.mark.parametrize(
    ("rows", "sensors", "expected"),
    [(3, 6, ("error", "too_few_rows")), (300, 2, ("warning", "few_sensors")), (300, 1, ("warning", "few_sensors")),
     (80, 2500, ("warning", "many_sensors"))],
)  # fmt: skip
def test_odd_sizes_are_told(rows, sensors, expected, tmp_path):
    assert expected in kinds(report(tmp_path, table(plant(rows, sensors))))


def test_constant_empty_and_mostly_missing_sensors_are_named(tmp_path):
    values = plant()
    values[:, 0], values[:, 1], values[300:, 2] = 7.0, np.nan, np.nan
    found = report(tmp_path, table(values))
    assert only(found, "constant_sensor").sensors == ("TI0",)
    assert only(found, "empty_sensor").sensors == ("TI1",)
    assert only(found, "mostly_missing").sensors == ("TI2",)
    assert "'TI2' in 75 %" in only(found, "mostly_missing").text
    assert not found.errors


def test_a_slow_sensor_is_not_missing(tmp_path):
    values = plant()
    values[np.arange(ROWS) % 10 != 0, 2] = np.nan
    assert report(tmp_path, table(values)).findings == ()


@pytest.mark.parametrize(("fill", "kind"), [(np.nan, "no_values"), (3.0, "all_constant")])
def test_a_history_that_says_nothing_is_an_error(fill, kind, tmp_path):
    assert kinds(report(tmp_path, table(np.full((200, 3), fill)))) == {("error", kind)}


def test_duplicated_and_nearly_duplicated_sensors_are_named(tmp_path):
    values = plant()
    values[:, 1] = values[:, 0]
    values[:, 3] = 1.8 * values[:, 2] + 32
    found = report(tmp_path, table(values))
    assert only(found, "duplicated_sensor").sensors == ("TI0", "TI1")
    assert "1 pairs" in only(found, "near_duplicates").found
    assert "TI2 and TI3" in only(found, "near_duplicates").found


def test_windows_without_any_value_are_told(tmp_path):
    values = plant()
    values[100:180] = np.nan
    values[300] = np.nan
    assert "81 rows without any value, the longest stretch 80 from row 101" in only(
        report(tmp_path, table(values)), "empty_rows"
    ).found  # fmt: skip


def test_gaps_and_repeated_times_are_told(tmp_path):
    seconds = np.arange(ROWS)
    seconds[500:] += 90
    seconds[700] = seconds[699]
    found = report(tmp_path, table(plant(), seconds=seconds))
    assert "2 gaps, the longest of 91 s after 2025-10-09T09:01:39Z" in only(found, "gaps").found
    assert "1 rows have the timestamp of the row before" in only(found, "repeated_times").found


@pytest.mark.parametrize(("swaps", "severity"), [(1, Severity.WARNING), (200, Severity.ERROR)])
def test_rows_out_of_order_are_told_and_a_shuffled_file_is_refused(swaps, severity, tmp_path):
    seconds = np.arange(ROWS)
    for place in range(10, 10 + 4 * swaps, 4):
        seconds[[place, place + 1]] = seconds[[place + 1, place]]
    finding = only(report(tmp_path, table(plant(), seconds=seconds)), "out_of_order")
    assert finding.severity is severity
    assert f"go back {swaps} times, first at row 12" in finding.found


def test_rows_that_come_twice_are_told(tmp_path):
    values = plant()
    assert only(report(tmp_path, table(np.concatenate((values, values)))), "repeated_rows").found.startswith("50 %")


def test_runs_of_a_few_rows_are_an_error(tmp_path):
    columns = {**table(plant()), "run": np.repeat(np.arange(ROWS // 10), 10)}
    assert ("error", "only_short_runs") in kinds(report(tmp_path, columns))


def test_labelled_rows_and_infinite_readings_are_told(tmp_path):
    values = plant()
    values[5, 0] = np.inf
    found = report(tmp_path, {**table(values), "label": np.arange(ROWS) < 12})
    assert "12 of 1200 rows are labelled" in only(found, "labelled").found
    assert "1 infinite readings" in only(found, "infinite").found


def test_renamed_missing_added_and_reordered_columns_are_told(tmp_path):
    later = table(plant(seed=5), ["TI1", "TI0", "TI2_PV", "TI3", "TI4", "other"], first_s=10_000)
    found = report(tmp_path, table(plant()), later)
    assert only(found, "missing_columns").sensors == ("TI2", "TI5")
    assert "'TI2' may be 'TI2_PV' now" in only(found, "missing_columns").found
    assert only(found, "added_columns").sensors == ("TI2_PV", "other")
    assert "matched by name" in only(found, "reordered_columns").advice
    assert not found.errors


def test_a_test_of_another_plant_is_an_error(tmp_path):
    names = [f"metric_{i}" for i in range(SENSORS)]
    found = report(tmp_path, table(plant()), table(plant(seed=5), names, first_s=10_000))
    assert ("error", "missing_columns") in kinds(found)


@pytest.mark.parametrize(
    ("scale", "offset", "says"),
    [(1000, 0, "1,000 times"), (1e-3, 0, "1/1,000"), (1.8, 32, "Fahrenheit"), (1, 273.15, "kelvins")],
)
def test_another_unit_is_an_error_even_when_nobody_says_so(scale, offset, says, tmp_path):
    later = plant(seed=5)
    later[:, 2] = scale * later[:, 2] + offset
    finding = only(report(tmp_path, table(plant()), table(later, first_s=10_000)), "unit_changed")
    assert finding.severity is Severity.ERROR
    assert finding.sensors == ("TI2",)
    assert says in finding.found


def test_another_level_is_told_and_no_error(tmp_path):
    later = plant(seed=5)
    later[:, 2] += 77.0
    found = report(tmp_path, table(plant()), table(later, first_s=10_000))
    assert kinds(found) == {("warning", "other_level")}


def test_a_plant_under_more_load_is_no_change_of_units():
    load = np.random.default_rng(0).exponential(size=500)
    change = scale_changes(load, 26.0 * np.random.default_rng(1).exponential(size=500) ** 0.8)
    assert change is not None
    assert change.conversion is None


def test_told_units_are_compared(tmp_path):
    train = table(plant(), [f"TI{i} [degC]" for i in range(SENSORS)])
    test = table(plant(seed=5), ["TI0 [degF]", *(f"TI{i}" for i in range(1, SENSORS))], first_s=10_000)
    finding = only(report(tmp_path, train, test), "unit_changed")
    assert finding.found == "is in degF"
    assert finding.sensors == ("TI0",)


def test_a_test_taken_from_the_training_history_is_found_by_its_times(tmp_path):
    values = plant()
    finding = only(report(tmp_path, table(values), table(values[900:], first_s=900)), "overlapping_times")
    assert finding.severity is Severity.ERROR
    assert "100 % of the timestamps" in finding.found


@pytest.mark.parametrize("names", [None, [f"TI{i}" for i in (3, 1, 2, 0, 5, 4)]])
def test_leaked_rows_are_found_though_shifted_reordered_and_rounded(names, tmp_path):
    values = plant()
    later = np.concatenate((plant(seed=5)[:137], values[311:400]))
    columns = dict(zip([f"TI{i}" for i in range(SENSORS)], np.round(later, 6).T, strict=True))
    shifted = np.stack([columns[name] for name in names or columns], 1)
    finding = only(report(tmp_path, table(values), table(shifted, names, first_s=10_000)), "identical_rows")
    assert finding.severity is Severity.ERROR
    assert "first at tick 137" in finding.found


def test_a_plant_at_rest_is_no_leak(tmp_path):
    def switching(seed):
        values = np.full((ROWS, 3), 20.0)
        values[:, 0] = np.random.default_rng(seed).random(ROWS // 100).repeat(100) > 0.5
        return values

    kind = kinds(report(tmp_path, table(switching(0)), table(switching(1), first_s=10_000)))
    assert ("error", "identical_rows") not in kind


def test_histories_without_dates_overlap_nowhere(tmp_path):
    train, test = table(plant()), table(plant(seed=5))
    train["timestamp"] = test["timestamp"] = np.arange(ROWS)
    assert report(tmp_path, train, test).findings == ()


def test_five_thousand_sensors_are_checked_in_bounded_memory(tmp_path):
    found = report(tmp_path, {f"s{i}": column for i, column in enumerate(plant(100, 5000).T.astype(np.float32))})
    assert kinds(found) == {("warning", "many_sensors"), ("warning", "no_times")}


def test_the_same_history_has_the_same_digest_in_any_format_and_block_size(tmp_path):
    columns = table(plant().round(4))
    first = profile(open_history(written(tmp_path / "a.csv", columns)))
    second = profile(open_history(written(tmp_path / "a.parquet", columns)))
    assert first.sha256 == second.sha256
    assert first.sample.shape == (ROWS, SENSORS)


def test_the_row_sample_is_fair_and_bounded():
    sample = RowSample(1, 500, seed=0)
    for first in range(0, 100_000, 1000):
        sample.take(np.arange(first, first + 1000, dtype=np.float64)[:, None])
    assert sample.values.shape == (500, 1)
    assert abs(sample.values.mean() - 50_000) < 5 * 100_000 / np.sqrt(12 * 500)


def test_sketches_find_a_small_share_in_long_streams():
    random = np.random.default_rng(0)
    whole, part = KeySketch(), KeySketch()
    hashes = random.integers(0, 2**64, 600_000, dtype=np.uint64)
    for first in range(0, len(hashes), 50_000):
        whole.take(hashes[first : first + 50_000], np.arange(first, first + 50_000))
    part.take(np.concatenate((random.integers(0, 2**64, 90_000, dtype=np.uint64), hashes[:10_000])), np.arange(100_000))
    shared = part.shared(whole)
    assert abs(shared.share - 0.1) < 0.02
    assert len(whole._hash) <= 2 * (1 << 16)


def run(*arguments):
    return CliRunner().invoke(cli, ["data", "check", *map(str, arguments)])


def test_command_exits_with_0_for_warnings_and_1_for_errors(tmp_path):
    values = plant()
    values[:, 0] = 1.0
    train, test = written(tmp_path / "a.csv", table(values)), written(tmp_path / "b.csv", table(values[:300]))
    alone = run(train)
    assert alone.exit_code == 0
    assert "never changes" in alone.stdout
    assert "0 errors, 1 warnings" in alone.stdout
    both = run(train, test)
    assert both.exit_code == 1
    assert "what was trained on cannot be a test" in both.stdout


def test_command_exits_with_2_for_what_cannot_be_read(tmp_path):
    assert run(tmp_path / "none.csv").exit_code == 2
    (tmp_path / "a.csv").write_text("a,a\n1,2\n")
    found = run(tmp_path / "a.csv")
    assert found.exit_code == 2
    assert "two columns are called 'a'" in found.stderr
    wrong = run(tmp_path / "a.csv", "--tick", "soon")
    assert wrong.exit_code == 2
    assert "--tick" in wrong.stderr


def test_command_gives_json(tmp_path):
    found = json.loads(run(written(tmp_path / "a.csv", table(plant(40))), "--json").stdout)
    assert (found["rows"], found["sensors"], found["period_s"], found["errors"]) == (40, SENSORS, 1.0, 1)
    (finding,) = found["findings"]
    assert finding["kind"] == "too_few_rows"
    assert set(finding) == {"severity", "kind", "where", "found", "expected", "advice", "sensors", "text"}
