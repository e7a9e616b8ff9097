"""The same readings out of every format, in blocks of ticks."""

import gzip
import json
import sqlite3

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edge_agent.errors import DataFileError
from edge_models.histories import open_history
from edge_models.histories.line_protocol import parse_line

START_NS = 1_760_000_000 * 10**9
NAMES = ("TI1", "PI2", "FI3")


@pytest.fixture
def values():
    readings = np.random.default_rng(0).normal(size=(200, 3)).round(5)
    readings[7, 1] = np.nan
    return readings


def times(count, step_ns=10**9):
    return START_NS + np.arange(count, dtype=np.int64) * step_ns


def iso(ns):
    return f"{np.datetime64(int(ns), 'ns')}Z"


def write_csv(path, stamps, readings, names=NAMES, delimiter=",", **extra):
    lines = [delimiter.join(["timestamp", *names, *extra])]
    for row, (stamp, numbers) in enumerate(zip(stamps, readings, strict=True)):
        cells = ["" if v != v else repr(float(v)) for v in numbers]
        lines.append(delimiter.join([str(stamp), *cells, *(str(column[row]) for column in extra.values())]))
    path.write_text("\n".join(lines) + "\n")
    return path


def to_csv(folder, readings):
    return write_csv(folder / "a.csv", map(iso, times(len(readings))), readings)


def to_csv_gz(folder, readings):
    path = folder / "a.csv.gz"
    path.write_bytes(gzip.compress(to_csv(folder, readings).read_bytes()))
    return path


def wide_objects(readings):
    for stamp, row in zip(times(len(readings)), readings, strict=True):
        there = {name: float(v) for name, v in zip(NAMES, row, strict=True) if v == v}
        yield {"timestamp": iso(stamp), **there}


def long_readings(readings):
    for stamp, row in zip(times(len(readings)), readings, strict=True):
        for name, value in zip(NAMES, row, strict=True):
            if value == value:
                yield int(stamp), name, float(value)


def to_jsonl(folder, readings):
    path = folder / "wide.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in wide_objects(readings)))
    return path


def to_long_jsonl(folder, readings):
    path = folder / "long.ndjson"
    rows = (json.dumps({"sensor": n, "time": t, "value": v}) for t, n, v in long_readings(readings))
    path.write_text("\n".join(rows) + "\n")
    return path


def to_parquet(folder, readings):
    path = folder / "a.parquet"
    stamps = pa.array(times(len(readings)), pa.timestamp("ns", tz="UTC"))
    pq.write_table(pa.table({"timestamp": stamps, **dict(zip(NAMES, readings.T, strict=True))}), path)
    return path


def to_hdf5_matrix(folder, readings):
    path = folder / "matrix.h5"
    with h5py.File(path, "w") as file:
        file["readings"] = readings
        file["readings"].attrs["columns"] = list(NAMES)
        file["timestamp"] = times(len(readings))
    return path


def to_hdf5_columns(folder, readings):
    path = folder / "columns.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("plant", track_order=True)
        group["timestamp"] = [iso(t) for t in times(len(readings))]
        for name, column in zip(NAMES, readings.T, strict=True):
            group[name] = column
    return path


def to_lines(folder, readings):
    path = folder / "a.lp.gz"
    text = "".join(f"{name} value={value!r} {stamp}\n" for stamp, name, value in long_readings(readings))
    path.write_bytes(gzip.compress(b"# DML\n# CONTEXT-DATABASE: plant\n" + text.encode()))
    return path


def to_lines_series_by_series(folder, readings):
    path = folder / "series.line"
    rows = sorted(long_readings(readings), key=lambda one: one[1])
    path.write_text("".join(f"{name} value={value!r} {stamp}\n" for stamp, name, value in rows))
    return path


WRITERS = (
    to_csv, to_csv_gz, to_jsonl, to_long_jsonl, to_parquet, to_hdf5_matrix, to_hdf5_columns, to_lines,
    to_lines_series_by_series,
)  # fmt: skip


def read(history, rows=None):
    blocks = list(history.blocks(rows))
    return np.concatenate([b.time_ns for b in blocks]), np.concatenate([b.values for b in blocks]), blocks


def in_order(history, found):
    return found[:, [history.sensors.index(name) for name in NAMES]]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_ticks_again_and_again(write, values, tmp_path):
    history = open_history(write(tmp_path, values))
    assert set(history.sensors) == set(NAMES)
    assert history.period_s == 1.0
    for rows in (None, 17):
        stamps, found, blocks = read(history, rows)
        np.testing.assert_array_equal(in_order(history, found), values)
        np.testing.assert_array_equal(stamps, times(len(values)))
        assert {b.segment for b in blocks} == {0}
        assert max(map(len, blocks)) <= (rows or 4096)


def database(folder, long, readings):
    path = folder / "plant.db"
    with sqlite3.connect(path) as connection:
        if long:
            connection.execute("CREATE TABLE log (sensor TEXT, time INTEGER, value REAL)")
            rows = sorted(long_readings(readings), key=lambda one: one[1])
            connection.executemany("INSERT INTO log VALUES (?, ?, ?)", [(n, t, v) for t, n, v in rows])
        else:
            connection.execute("CREATE TABLE log (timestamp TEXT, TI1 REAL, PI2 REAL, FI3 REAL)")
            cells = ([None if v != v else float(v) for v in row] for row in readings)
            rows = [(iso(t), *row) for t, row in zip(times(len(readings)), cells, strict=True)]
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", rows[::-1])
    return f"sqlite:///{path}"


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("select", ["log", "SELECT * FROM log ORDER BY 1 DESC, 2"])
def test_a_database_gives_the_same_ticks(long, select, values, tmp_path):
    if not long and select != "log":
        select = "SELECT * FROM log ORDER BY timestamp"
    history = open_history(database(tmp_path, long, values), select=select)
    np.testing.assert_array_equal(in_order(history, read(history)[1]), values)


def test_a_missing_table_is_named_with_those_there(values, tmp_path):
    url = database(tmp_path, False, values)
    with pytest.raises(DataFileError, match="no such table, found log"):
        open_history(url, select="logs")
    with pytest.raises(DataFileError, match="name a table or give a SELECT statement"):
        open_history(url)


def test_a_missing_database_file_is_refused_and_not_made(tmp_path):
    with pytest.raises(DataFileError, match=r"gone\.db: no such file"):
        open_history(f"sqlite:///{tmp_path / 'gone.db'}", select="log")
    assert not list(tmp_path.iterdir())


def test_a_password_is_not_shown():
    with pytest.raises(DataFileError) as caught:
        open_history("nosuchdriver://me:secret@host/db", select="log")
    assert "secret" not in str(caught.value)


def test_irregular_rows_go_to_the_nearest_tick_and_the_last_reading_counts(tmp_path):
    stamps = [START_NS + round(s * 1e9) for s in (0, 1.1, 1.9, 2.2, 5.0, 6.0)]
    readings = np.array([[0, 0, 0], [1, 1, 1], [2, 2, 2], [np.nan, 9, 9], [5, 5, 5], [6, 6, 6]])
    history = open_history(write_csv(tmp_path / "a.csv", stamps, readings), tick_s=1.0)
    stamps, found, _ = read(history, rows=2)
    np.testing.assert_array_equal(found[:, 0], [0, 1, 2, np.nan, np.nan, 5, 6])
    np.testing.assert_array_equal(found[:, 1], [0, 1, 9, np.nan, np.nan, 5, 6])
    np.testing.assert_array_equal(np.diff(stamps), 10**9)


def test_a_new_segment_begins_at_another_run_a_long_gap_and_a_clock_set_back(tmp_path):
    stamps = np.concatenate((np.arange(10), np.arange(10, 20), np.arange(500, 510), np.arange(100, 110)))
    run = ["a"] * 10 + ["b"] * 30
    path = write_csv(tmp_path / "a.csv", stamps, np.arange(120.0).reshape(40, 3), run=run)
    for rows in (4096, 7):
        blocks = read(open_history(path), rows)[2]
        lengths = {}
        for block in blocks:
            key = (block.segment, block.run)
            lengths[key] = lengths.get(key, 0) + len(block)
        assert lengths == {(0, "a"): 10, (1, "b"): 10, (2, "b"): 10, (3, "b"): 10}


def test_long_readings_of_different_rates_share_the_fastest_tick(tmp_path):
    path = tmp_path / "long.jsonl"
    rows = [("fast", t) for t in range(60)] + [("slow", t) for t in range(0, 60, 5)]
    path.write_text("\n".join(json.dumps({"sensor": s, "time": t, "value": t}) for s, t in rows))
    history = open_history(path)
    _, found, _ = read(history)
    assert history.period_s == 1.0
    assert "sorted on disk" in history.notes[0]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(found[:, 1])), np.arange(0, 60, 5))


def test_units_come_from_names_metadata_and_a_file(tmp_path):
    stamps, readings = np.arange(3), np.zeros((3, 3))
    path = write_csv(tmp_path / "a.csv", stamps, readings, names=("TI1 [degC]", "x[0]", "PI2"))
    units = tmp_path / "units.csv"
    units.write_text("sensor,unit\nPI2,bar\n")
    history = open_history(path, units=units)
    assert history.sensors == ("TI1", "x[0]", "PI2")
    assert history.units == ("degC", None, "bar")


@pytest.mark.parametrize(
    ("line", "measurement", "tags", "fields", "time"),
    [
        ("m value=1 5", "m", {}, {"value": 1.0}, 5),
        ("m,a=b,c=d x=1.5,y=2i,z=3u,t=true,f=F,s=\"no, number\" 5", "m", {"a": "b", "c": "d"},
         {"x": 1.5, "y": 2.0, "z": 3.0, "t": 1.0, "f": 0.0}, 5),
        (r"my\ room,a\ key=b\,c\=d a\,field=1 5", "my room", {"a key": "b,c=d"}, {"a,field": 1.0}, 5),
        (r'm s="with \" and = and  blanks",x=-1e-3 -5', "m", {}, {"x": -1e-3}, -5),
    ],
)  # fmt: skip
def test_line_protocol_is_parsed(line, measurement, tags, fields, time):
    point = parse_line(line)
    assert (point.measurement, point.tags, point.fields, point.time) == (measurement, tags, fields, time)


@pytest.mark.parametrize("line", ["m value=1", "m", "m value=one 5", "m,tag value=1 5"])
def test_what_is_no_line_protocol_is_refused_with_its_place(line, tmp_path):
    path = tmp_path / "a.lp"
    path.write_text(f"m value=1 5\n{line}\n")
    with pytest.raises(DataFileError, match=r"line 2: got .*, expected line protocol with a timestamp"):
        open_history(path)


def test_names_of_line_protocol_follow_a_template(tmp_path):
    path = tmp_path / "a.lp"
    path.write_text("m,line=3,unit=x level=1,flow=2 5\n")
    assert open_history(path).sensors == ("m.3.x.flow", "m.3.x.level")
    assert open_history(path, names="{line}-{field}").sensors == ("3-flow", "3-level")
    with pytest.raises(DataFileError, match="no 'machine' for the name"):
        open_history(path, names="{machine}")


BROKEN = {
    "empty.csv": ("", "empty, expected a header line"),
    "header.csv": ("timestamp,a,b\n", "no rows"),
    "twice.csv": ("a,b,a\n1,2,3\n", "two columns are called 'a'"),
    "nameless.csv": (",a\n1,2\n", "column 1 has no name"),
    "short.csv": ("a,b\n1,2\n3\n", "line 3: got 1 cells, expected 2"),
    "text.csv": ("a,b\n1,2\n1,on fire\n", "line 3, column 'b': got 'on fire', expected a number"),
    "time.csv": ("timestamp,a\n2026-01-01T00:00:00Z,1\nnoon,2\n", "line 3, column 'timestamp': got 'noon'"),
    "nosensor.csv": ("timestamp,label\n1,0\n", "no column of readings"),
    "list.jsonl": ("[1, 2]\n", r"line 1: got '\[1, 2\]', expected one object a line"),
    "half.jsonl": ('{"a": 1}\n{"a": \n', "line 2: not JSON"),
    "nested.jsonl": ('{"a": 1, "b": {"c": 2}}\n', "line 1, column 'b': got"),
    "long.jsonl": ('{"sensor": "a", "time": 1, "value": 2}\n{"sensor": "a", "time": 3}\n', "line 2: got .*expected s"),
    "empty.jsonl": ("", "empty, expected one JSON object a line"),
    "damaged.parquet": ("PAR1 no", "not a Parquet file, or damaged"),
    "damaged.h5": ("no", "not an HDF5 file, or damaged"),
    "damaged.csv.gz": ("no", "damaged gzip"),
    "other.xlsx": ("no", "got '.xlsx', expected one of .csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_refused_with_its_place(name, tmp_path):
    text, message = BROKEN[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataFileError, match=message):
        for _ in open_history(tmp_path / name).blocks():
            pass


def test_a_gzip_that_ends_early_is_refused(values, tmp_path):
    path = to_csv_gz(tmp_path, values)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataFileError, match="damaged gzip"):
        read(open_history(path))


def test_an_unknown_run_column_is_refused(values, tmp_path):
    with pytest.raises(DataFileError, match="no column 'batch' for the runs, found timestamp, TI1"):
        open_history(to_csv(tmp_path, values), run_column="batch")


def test_datasets_of_different_length_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = np.zeros(3), np.zeros(4)
    with pytest.raises(DataFileError, match="datasets differ in length"):
        open_history(tmp_path / "a.h5")


def test_several_groups_have_to_be_chosen_from(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/a"], file["two/a"] = np.zeros(3), np.arange(3.0)
    with pytest.raises(DataFileError, match="name one with --select"):
        open_history(tmp_path / "a.h5")
    found = read(open_history(tmp_path / "a.h5", select="two"))[1]
    np.testing.assert_array_equal(found[:, 0], np.arange(3.0))
    with pytest.raises(DataFileError, match="no such group or dataset, found one"):
        open_history(tmp_path / "a.h5", select="three")


def test_blocks_of_a_wide_history_stay_small(tmp_path):
    path = tmp_path / "wide.parquet"
    pq.write_table(pa.table({f"s{i}": np.zeros(1000, np.float32) for i in range(2000)}), path)
    assert max(len(block) for block in open_history(path).blocks()) * 2000 <= 1_000_000
