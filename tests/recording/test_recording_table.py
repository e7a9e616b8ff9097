from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import DataFileError
from edge_agent.recording import read_recording, write_table

DAY = 1_700_000_000


def csv_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "data.csv"
    path.write_text(text, encoding="utf-8")
    return path


def parquet_file(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_csv_gives_sensors_values_times_runs_and_labels(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "timestamp,level,run,flow,label\n0,1.5,a,2,0\n1,,a,3,0\n0,2.5,b,4,1\n")
    recording = read_recording(path)
    assert recording.sensors == ("level", "flow")
    np.testing.assert_array_equal(recording.values, [[1.5, 2], [np.nan, 3], [2.5, 4]])
    assert recording.values.dtype == np.float64
    assert recording.time_ns.tolist() == [0, 10**9, 0]
    assert list(recording.runs()) == [("a", slice(0, 2)), ("b", slice(2, 3))]
    assert recording.label is not None
    assert recording.label.tolist() == [0, 0, 1]
    assert recording.warnings == ()
    assert len(recording) == 3


def test_parquet_gives_the_same_as_csv(tmp_path: Path) -> None:
    text = csv_file(tmp_path, "timestamp,level,run\n0,1.5,a\n1,,a\n0,2.5,b\n")
    path = parquet_file(tmp_path, timestamp=[0, 1, 0], level=[1.5, None, 2.5], run=["a", "a", "b"])
    one, other = read_recording(text), read_recording(path)
    assert one.sensors == other.sensors
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.time_ns, other.time_ns)
    assert list(one.runs()) == list(other.runs())


def test_file_without_runs_is_one_run(tmp_path: Path) -> None:
    assert list(read_recording(csv_file(tmp_path, "timestamp,a\n0,1\n1,2\n")).runs()) == [(None, slice(0, 2))]


def test_run_column_can_have_another_name(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "timestamp,a,batch,run\n0,1,x,7\n1,2,y,8\n")
    recording = read_recording(path, run_column="batch")
    assert recording.sensors == ("a",)
    assert [name for name, _ in recording.runs()] == ["x", "y"]


def test_numbers_as_runs_are_names_and_stay_numbers(tmp_path: Path) -> None:
    recording = read_recording(parquet_file(tmp_path, a=[1.0, 2.0], run=[10, 11]))
    assert [name for name, _ in recording.runs()] == ["10", "11"]
    assert recording.run is not None
    assert recording.run.tolist() == [10, 11]


@pytest.mark.parametrize(
    ("stamp", "expected_ns"),
    [
        ("12", 12 * 10**9),
        ("0.25", 250_000_000),
        (str(DAY), DAY * 10**9),
        (f"{DAY}.5", DAY * 10**9 + 500_000_000),
        (f"{DAY}.15", DAY * 10**9 + 150_000_000),
        (f"{DAY}123", DAY * 10**9 + 123_000_000),
        (f"{DAY}123456", DAY * 10**9 + 123_456_000),
        (f"{DAY}123456789", DAY * 10**9 + 123_456_789),
        ("2023-11-14T22:13:20Z", DAY * 10**9),
        ("2023-11-14 22:13:20", DAY * 10**9),
        ("2023-11-14T23:13:20.000001+01:00", DAY * 10**9 + 1_000),
    ],
)
def test_timestamps_in_usual_forms(tmp_path: Path, stamp: str, expected_ns: int) -> None:
    recording = read_recording(csv_file(tmp_path, f"timestamp,a\n{stamp},1\n"))
    assert recording.time_ns.tolist() == [expected_ns]


@pytest.mark.parametrize(
    "stamps",
    [
        np.array([DAY, DAY + 1], dtype="datetime64[s]"),
        pa.array([DAY * 10**6, (DAY + 1) * 10**6], pa.timestamp("us", tz="Europe/Berlin")),
        [DAY, DAY + 1],
        [float(DAY), float(DAY + 1)],
        ["2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"],
    ],
)
def test_parquet_timestamps_in_usual_forms(tmp_path: Path, stamps: Any) -> None:
    recording = read_recording(parquet_file(tmp_path, timestamp=stamps, a=[1.0, 2.0]))
    assert recording.time_ns.tolist() == [DAY * 10**9, (DAY + 1) * 10**9]


def test_without_timestamps_rows_are_a_tick_apart_and_it_is_said(tmp_path: Path) -> None:
    recording = read_recording(csv_file(tmp_path, "a\n1\n2\n"), tick_s=0.5)
    assert recording.time_ns.tolist() == [0, 500_000_000]
    assert recording.timestamp is None
    assert recording.warnings == ("no column 'timestamp': rows are taken to be 0.5 s apart",)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NULL", "n/a", "-"])
def test_words_for_a_missing_value(tmp_path: Path, word: str) -> None:
    recording = read_recording(csv_file(tmp_path, f"timestamp,a,b\n0,{word},1\n1,2,2\n"))
    assert np.isnan(recording.values[0, 0])


def test_semicolons_tabs_decimal_commas_and_a_byte_order_mark(tmp_path: Path) -> None:
    recording = read_recording(csv_file(tmp_path, "\ufefftimestamp;a;b\n0;1,5;true\n1;2,5;false\n"))
    assert recording.values.tolist() == [[1.5, 1], [2.5, 0]]
    assert read_recording(csv_file(tmp_path, "timestamp\ta\n0\t1\n1\t2\n")).sensors == ("a",)


BAD = {
    "empty": ("", "data.csv: empty, expected a header line"),
    "no rows": ("timestamp,a\n", "data.csv: no rows"),
    "no sensors": ("timestamp,run,label\n0,a,0\n", "data.csv: no column of readings beside timestamp, run, label"),
    "two columns of one name": ("timestamp,a,a\n0,1,2\n", "two columns are called 'a'"),
    "column without a name": (",a\n0,1\n", "column 1 has no name"),
    "text for a number": ("timestamp,a,b\n0,1,2\n1,1,high\n", "line 3, column 'b': got 'high', expected a number"),
    "too few cells": ("timestamp,a\n0,1\n1\n", "line 3: got 1 cells, expected 2"),
    "too many cells": ("timestamp,a\n0,1,2\n", "line 2: got 3 cells, expected 2"),
    "text among seconds": ("timestamp,a\n0,1\nnoon,2\n", "row 2, column 'timestamp': got 'noon', expected a number as"),
    "no time": (
        "timestamp,a\n2026-01-01,1\nnoon,2\n",
        "row 2, column 'timestamp': got 'noon', expected a time such as",
    ),
    "empty time": ("timestamp,a\n0,1\n,2\n", "row 2, column 'timestamp': got ''"),
    "infinite time": ("timestamp,a\n0.5,1\ninf,2\n", "row 2, column 'timestamp': got inf"),
    "time beyond reach": ("timestamp,a\n9999999999999999999999,1\n", "row 1, column 'timestamp'"),
}


@pytest.mark.parametrize("case", BAD)
def test_unusable_csv_is_refused_with_its_place(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(DataFileError) as error:
        read_recording(csv_file(tmp_path, text))
    assert message in str(error.value)


def test_place_of_bad_text_is_right_far_into_the_file(tmp_path: Path) -> None:
    rows = [f"{number},1" for number in range(9_000)]
    rows[8_500] = "8500,oops"
    with pytest.raises(DataFileError, match="line 8502, column 'a': got 'oops'"):
        read_recording(csv_file(tmp_path, "timestamp,a\n" + "\n".join(rows) + "\n"))


def test_missing_file_folder_suffix_and_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot be read: No such file"):
        read_recording(tmp_path / "none.csv")
    with pytest.raises(DataFileError, match=r"got '\.xlsx', expected a \.csv or \.parquet file"):
        read_recording(tmp_path / "data.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataFileError, match="cannot be read: Is a directory"):
        read_recording(tmp_path / "folder.csv")
    (tmp_path / "latin.csv").write_bytes("timestamp,Füllstand\n0,1\n".encode("latin-1"))
    with pytest.raises(DataFileError, match="not UTF-8 text"):
        read_recording(tmp_path / "latin.csv")


def test_missing_run_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="no column 'batch' for the runs, found timestamp, a"):
        read_recording(csv_file(tmp_path, "timestamp,a\n0,1\n"), run_column="batch")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1", b"a,b\n1,2\n"])
def test_damaged_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="not a Parquet file, or damaged"):
        read_recording(path)


def test_text_in_parquet_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="row 2, column 'b': got 'high', expected a number"):
        read_recording(parquet_file(tmp_path, timestamp=[0, 1], b=["1.5", "high"]))


def test_odd_but_usable_recordings_come_with_warnings(tmp_path: Path) -> None:
    text = "timestamp,good,empty,constant,infinite\n0,1,,5,inf\n2,2,,5,1\n1,3,,5,2\n1,4,,5,3\n"
    assert read_recording(csv_file(tmp_path, text)).warnings == (
        "timestamps go back 1 times, first at row 3",
        "timestamps repeat 1 times",
        "no reading at all in empty",
        "never changes: constant",
        "infinite readings in infinite",
    )


def test_times_may_start_again_with_each_run(tmp_path: Path) -> None:
    text = "timestamp,a,run\n5,1,x\n6,2,x\n0,3,y\n1,4,y\n"
    assert read_recording(csv_file(tmp_path, text)).warnings == ()


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path) -> None:
    path = parquet_file(tmp_path, a=[1.0])
    code = f"""
import sys
sys.modules["pyarrow"] = None
from edge_agent.recording import read_recording
try:
    read_recording({str(path)!r})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "DataFileError" in done.stdout
    assert "pip install 'edge-graph-agent[parquet]'" in done.stdout


def test_reading_csv_does_not_import_pyarrow(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "timestamp,a\n0,1\n")
    code = f"import sys, edge_agent.recording as r; r.read_recording({str(path)!r}); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@given(values=st.lists(st.floats(allow_infinity=False), min_size=1, max_size=20))
def test_written_values_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, values: list[float]
) -> None:
    path = tmp_path_factory.mktemp("table") / f"t.{suffix}"
    moments = np.datetime64("2026-11-20T10:00:00.123456789", "ns") + np.arange(len(values)).astype("timedelta64[s]")
    write_table(path, {"timestamp": moments, "a": np.array(values), "run": ["x"] * len(values)})
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.values[:, 0], values)
    step = 1 if suffix == "parquet" else 1_000
    assert recording.time_ns[0] // step == moments[0].astype(np.int64) // step


def test_table_of_scores_keeps_missing_values_and_text(tmp_path: Path) -> None:
    columns = {
        "timestamp": np.array([DAY * 10**9, DAY * 10**9 + 1], dtype="datetime64[ns]"),
        "score": np.array([0.1, np.nan], dtype=np.float32),
        "alarm": np.array([True, False]),
        "incident": ["01HX", None],
    }
    write_table(tmp_path / "scores.csv", columns)
    assert (tmp_path / "scores.csv").read_text().splitlines() == [
        "timestamp,score,alarm,incident",
        "2023-11-14T22:13:20.000000000Z,0.10000000149011612,1,01HX",
        "2023-11-14T22:13:20.000000001Z,,0,",
    ]
    write_table(tmp_path / "scores.parquet", columns)
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column("incident").to_pylist() == ["01HX", None]
    assert table.column("timestamp")[0].as_py().replace(tzinfo=UTC) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_table_without_incidents_has_the_schema_of_one_with_some(tmp_path: Path) -> None:
    schemas = []
    for incident in (["01HX", None], [None, None]):
        write_table(tmp_path / "scores.parquet", {"incident": np.array(incident, dtype=object)})
        schemas.append(pq.read_schema(tmp_path / "scores.parquet"))
    assert schemas[0] == schemas[1]


def test_table_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="cannot be written: No such file or directory"):
        write_table(tmp_path / "none" / "t.csv", {"a": [1]})
    with pytest.raises(DataFileError, match=r"got '\.txt', expected a \.csv or \.parquet"):
        write_table(tmp_path / "t.txt", {"a": [1]})
    with pytest.raises(ValueError, match="columns differ in length"):
        write_table(tmp_path / "t.csv", {"a": [1], "b": []})
    assert list(tmp_path.iterdir()) == []


def test_a_unit_in_a_header_is_no_part_of_the_name(tmp_path: Path) -> None:
    file = tmp_path / "plant.csv"
    file.write_text("TI101 [degC],x[3]\n20.5,1\n")
    assert read_recording(file).sensors == ("TI101", "x[3]")
    file.write_text("TI101 [degC],TI101 [K]\n20.5,293.6\n")
    with pytest.raises(DataFileError, match="two columns are the sensor 'TI101'"):
        read_recording(file)
