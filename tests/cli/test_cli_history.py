"""``edge-agent history export``: every part in every format, while the daemon writes, from copies, and from rubbish."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from edge_agent.cli.app import cli
from edge_agent.clock import SystemClock
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history import History, HistoryOptions
from edge_agent.history.archive import opened
from edge_agent.history.export import read_readings
from edge_agent.metrics import Metrics
from edge_agent.recording import read_recording
from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Event,
    EventKind,
    Feedback,
    Incident,
    IncidentKind,
    IncidentState,
    PatternMatch,
    Scores,
    Severity,
)

S = 1_000_000_000
NOW = 1_800_000_000 * S  # 2027-01-15T08:00:00Z
SENSORS = ("level", "timestamp")
OPTIONS = {"readings": {"every": "1s", "block": "20s"}, "scores": {"every": "10s", "block": "60s", "top": 2}}


def incident(name: str, opened_s: int, closed_s: int | None) -> Incident:
    state = IncidentState.OPEN if closed_s is None else IncidentState.CLOSED
    last = NOW + (opened_s if closed_s is None else closed_s) * S
    return Incident(
        name,
        IncidentKind.PROCESS,
        state,
        Severity.HIGH,
        NOW + opened_s * S,
        last,
        None if closed_s is None else last,
        0,
        1,
        1e-6,
        7.5,
        'rises, "fast"\nand far',
        (Contribution("level", 0.75, 9.0, 8.0, 6.0, "mm", "high"), Contribution("flow", 0.25, 3.0, 0, 2, None, "low")),
        areas=("north",),
        patterns=(PatternMatch("spoof", "Spoofed", ("T0856",), 0.8),),
        acknowledged=Acknowledgement("eva", NOW, ""),
        series={"level": [1.0, None]},
    )


def snapshot(second: int) -> Snapshot:
    zeros = np.zeros(2, np.float32)
    usable = np.array([True, second % 7 != 0])
    values = np.array([21.3 + second, 5.0])
    place = NOW + second * S
    return Snapshot(
        second, place, 0, SENSORS, values, zeros, zeros.astype(np.int32), usable, np.zeros((2, 1), np.int64)
    )


def scores(second: int) -> Scores:
    zeros, none = np.zeros(2, np.float32), np.zeros((2, 1), np.int64)
    valid = np.array([True, False])
    return Scores(np.array([second, 0], np.float32), zeros, zeros, valid, none, none.astype(np.float32))


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[History]:
    """A daemon's history, still open."""
    one = await History.open(tmp_path / "history.db", HistoryOptions.model_validate(OPTIONS), Metrics(), SystemClock())
    for second in range(100):
        one.observe(snapshot(second), alarm=40 <= second < 60)
        one.observe_scores(snapshot(second), scores(second), 0.5, 1 / (1 + second), alarm=False)
        if second % 20 == 0:
            await one.flush()
    await one.record(incident("A", 0, 20))
    await one.record(incident("B", 40, 60))
    await one.record(incident("C", 90, None))
    body = {"what": "clock_jump", "message": "it jumped", "by_s": 3, "agent": "gw"}
    await one.record_event(Event("E", EventKind.STATUS, NOW + 50 * S, body))
    await one.judge("B", Feedback.FALSE_ALARM, "pump test", "eva")
    await one.flush()
    yield one
    await one.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["history", "export", *arguments])


def exported(folder: Path, name: str, *arguments: str) -> Path:
    out = folder / name
    result = run(str(folder), "-o", str(out), *arguments)
    assert result.exit_code == 0, result.output
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_incidents_as_a_table(history: History, tmp_path: Path) -> None:
    first, second, third = rows(exported(tmp_path, "out.csv"))
    assert [row["id"] for row in (first, second, third)] == ["A", "B", "C"]
    assert first["opened"] == "2027-01-15T08:00:00.000Z"
    assert first["summary"] == 'rises, "fast"\nand far'
    assert (first["sensors"], first["areas"], first["techniques"]) == ("level; flow", "north", "T0856")
    assert (first["flapping"], first["reopened"], first["acknowledged_by"]) == ("0", "0", "eva")
    assert (second["verdict"], second["note"]) == ("false_alarm", "pump test")
    assert (third["closed"], third["verdict"]) == ("", "")


async def test_incidents_as_json_lines_are_whole(history: History, tmp_path: Path) -> None:
    found = records(exported(tmp_path, "out.jsonl"))
    assert found[0]["series"] == {"level": [1.0, None]}
    assert found[1]["feedback"] == {"verdict": "false_alarm", "note": "pump test", "by": "eva"}


async def test_incidents_that_were_open_between_two_times(history: History, tmp_path: Path) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["id"] for row in rows(exported(tmp_path, "out.csv", *arguments))]

    assert ids("--since", "2027-01-15T08:00:30Z") == ["B", "C"]
    assert ids("--until", "2027-01-15T08:00:50Z") == ["A", "B"]
    assert ids("--since", "2027-01-15T09:00:50+01:00", "--until", "2027-01-15T08:01:00") == ["B"]
    assert ids("--since", "2027-01-16") == ["C"]  # it is still open
    assert ids("--until", "2027-01-15") == []


async def test_events(history: History, tmp_path: Path) -> None:
    [row] = rows(exported(tmp_path, "out.csv", "--what", "events"))
    assert row == {
        "timestamp": "2027-01-15T08:00:50.000000000Z",
        "id": "E",
        "kind": "status",
        "what": "clock_jump",
        "message": "it jumped",
        "details": '{"by_s":3}',
    }
    [record] = records(exported(tmp_path, "out.jsonl", "--what", "events", "--since", "2027-01-15T08:00:50Z"))
    assert record["time"] == "2027-01-15T08:00:50.000Z"
    assert rows(exported(tmp_path, "out.csv", "--what", "events", "--until", "2027-01-15T08:00:50Z")) == []


async def test_scores(history: History, tmp_path: Path) -> None:
    found = rows(exported(tmp_path, "out.csv", "--what", "scores", "--since", "2027-01-15T08:00:20Z"))
    assert found[0] == {
        "timestamp": "2027-01-15T08:00:29.000000000Z",
        "score": "0.5",
        "p_value": "0.03333333507180214",
        "alarm": "0",
        "sensor_1": "level",
        "score_1": "29.0",
        "sensor_2": "",
        "score_2": "",
    }
    assert records(exported(tmp_path, "out.jsonl", "--what", "scores"))[0]["sensors"] == [
        {"sensor": "level", "score": 9.0}
    ]
    table = pq.read_table(exported(tmp_path, "out.parquet", "--what", "scores"))
    assert table.num_rows == len(records(tmp_path / "out.jsonl"))
    assert str(table.schema.field("timestamp").type) == "timestamp[ns, tz=UTC]"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_readings_can_be_scored_and_trained_on_again(history: History, tmp_path: Path, suffix: str) -> None:
    out = exported(tmp_path, f"out.{suffix}", "--what", "readings", "--since", "2027-01-15T08:00:10Z")
    recording = read_recording(out)
    assert recording.sensors == ("level", "timestamp_")
    np.testing.assert_allclose(recording.values[:, 0], 21.3 + np.arange(10, 10 + len(recording)), rtol=1e-6)
    assert np.isnan(recording.values[recording.time_ns == NOW + 14 * S, 1]).all()
    assert recording.time_ns[0] == NOW + 10 * S
    kept = read_readings(tmp_path)
    assert kept.time_ns[-1] == recording.time_ns[-1]


async def test_readings_as_json_lines(history: History, tmp_path: Path) -> None:
    found = records(exported(tmp_path, "out.jsonl", "--what", "readings"))
    assert found[0] == {"time": "2027-01-15T08:00:00.000Z", "alarm": False, "values": {"level": 21.3}}
    assert found[41]["alarm"] is True


async def test_sensors_that_come_later_have_a_column_of_their_own(history: History, tmp_path: Path) -> None:
    zeros = np.zeros(1, np.float32)
    one = np.zeros((1, 1), np.int64)
    usable = np.ones(1, np.bool_)
    later = Snapshot(200, NOW + 200 * S, 1, ("pump",), np.ones(1), zeros, zeros.astype(np.int32), usable, one)
    history.observe(later, alarm=False)
    await history.close()
    found = rows(exported(tmp_path, "out.csv", "--what", "readings"))
    assert list(found[0]) == ["timestamp", "pump", "level", "timestamp_"]
    assert (found[0]["pump"], found[-1]["pump"], found[-1]["level"]) == ("", "1.0", "")


async def test_standard_output(history: History, tmp_path: Path) -> None:
    result = run(str(tmp_path / "history.db"))
    assert result.stdout.splitlines()[0].startswith("id,kind,state,severity,opened,")
    result = run(str(tmp_path), "--format", "jsonl", "--what", "events")
    assert json.loads(result.stdout)["id"] == "E"
    assert run(str(tmp_path), "--format", "parquet").exit_code == 2


async def test_the_configuration_says_where_the_history_is(history: History, tmp_path: Path) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text(f"agent: {{data_dir: {tmp_path}}}\n")
    result = run("-c", str(config), "--what", "events")
    assert result.exit_code == 0, result.output
    assert "clock_jump" in result.stdout


async def test_an_export_does_not_keep_the_daemon_from_emptying_its_log(history: History, tmp_path: Path) -> None:
    for number in range(200):
        await history.record(incident(f"N{number:03}", number, number + 1))
    await history.flush()
    with opened(tmp_path) as archive:
        pages = archive.incidents()
        assert len(next(pages)) == 50
        writer = sqlite3.connect(tmp_path / "history.db", timeout=0.1)
        busy, _, _ = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        writer.close()
        assert busy == 0
        assert sum(len(page) for page in pages) == 153


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder that this user may read and not write."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_copy_in_a_folder_that_may_not_be_written_to(history: History, tmp_path: Path, locked: Path) -> None:
    await history.close()
    shutil.copy(tmp_path / "history.db", locked / "copy.db")
    (locked / "copy.db").chmod(0o444)
    locked.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)  # nothing is forbidden to root
    with opened(locked / "copy.db") as archive:
        assert [body["id"] for page in archive.incidents() for body in page] == ["A", "B", "C"]


async def test_a_file_of_an_older_agent_has_no_scores(history: History, tmp_path: Path) -> None:
    await history.close()
    with sqlite3.connect(tmp_path / "history.db") as database:
        database.executescript("DROP TABLE score; DROP TABLE reading; DROP TABLE layout; DROP TABLE feedback")
    database.close()
    assert rows(exported(tmp_path, "out.csv"))[0]["verdict"] == ""
    assert "0 rows of scores" in run(str(tmp_path), "--what", "scores").stderr
    assert exported(tmp_path, "out.parquet", "--what", "readings").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "not found, expected a history of the daemon (history.db in its data folder)"),
        (b"no database at all" * 1_000, "cannot be read as a history of the daemon: file is not a database"),
        (b"", "cannot be read as a history of the daemon: it has no table 'incident'"),
    ],
)
def test_what_is_no_history_is_told(tmp_path: Path, content: bytes | None, expected: str) -> None:
    if content is not None:
        (tmp_path / "history.db").write_bytes(content)
    result = run(str(tmp_path), "-o", str(tmp_path / "out.csv"))
    assert result.exit_code == 2
    assert expected in result.stderr
    assert not (tmp_path / "out.csv").exists()


async def test_damage_in_the_middle_leaves_no_half_table(history: History, tmp_path: Path) -> None:
    await history.close()
    with sqlite3.connect(tmp_path / "history.db") as database:
        database.execute("UPDATE reading SET body = x'00' WHERE rowid = (SELECT max(rowid) FROM reading)")
    database.close()
    result = run(str(tmp_path), "--what", "readings", "-o", str(tmp_path / "out.csv"))
    assert result.exit_code == 2
    assert "a block of readings is damaged" in result.stderr
    assert [path.name for path in tmp_path.glob("out*")] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--since", "yesterday"], "--since: got 'yesterday', expected a time such as 2026-11-20"),
        (["--what", "secrets"], "'secrets' is not one of"),
        (["-o", "out.xlsx"], "out.xlsx: got '.xlsx', expected .csv, .parquet or .jsonl; or say --format"),
        (["-o", "/nowhere/out.csv"], "/nowhere/out.csv: cannot be written: No such file or directory"),
    ],
)
async def test_wrong_arguments_are_told(history: History, tmp_path: Path, arguments: list[str], expected: str) -> None:
    result = run(str(tmp_path), *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
