"""Readings kept for training: sampled, packed, bounded, and read back as a regular table."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_agent.clock import SystemClock
from edge_agent.errors import DataFileError, StoreError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history import History, HistoryOptions
from edge_agent.history.export import read_readings
from edge_agent.history.readings import ReadingRows, ReadingSampler, ReadingsOptions, decode, encode
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind, Feedback, Incident, IncidentKind, IncidentState, Severity

S = 1_000_000_000
NOW = 1_800_000_000 * S
SENSORS = ("level", "flow", "valve")


def snapshot(
    second: int, values: tuple[float | None, ...] = (1.0, 2.0, 0.0), sensors: tuple[str, ...] = SENSORS
) -> Snapshot:
    n = len(sensors)
    usable = np.array([value is not None for value in values])
    array = np.array([0.0 if value is None else value for value in values])
    zeros = np.zeros(n, np.float32)
    return Snapshot(
        second, NOW + second * S, 0, sensors, array, zeros, zeros.astype(np.int32), usable, np.zeros((n, 1), np.int64)
    )


def options(**given: Any) -> HistoryOptions:
    return HistoryOptions.model_validate({"readings": {"every": "10s", "block": "1m"}, **given})


async def opened(path: Path, **given: Any) -> History:
    return await History.open(path, options(**given), Metrics(), SystemClock())


def incident(name: str, opened_s: int, closed_s: int | None) -> Incident:
    state = IncidentState.OPEN if closed_s is None else IncidentState.CLOSED
    last = NOW + (opened_s if closed_s is None else closed_s) * S
    closed_ns = None if closed_s is None else last
    return Incident(
        name, IncidentKind.PROCESS, state, Severity.LOW, NOW + opened_s * S, last, closed_ns, 0, 1, 0.1, 1.0, "", ()
    )


def rows(values: NDArray[np.float32], times: NDArray[np.int64] | None = None) -> ReadingRows:
    count, width = values.shape
    time_ns = NOW + np.arange(count, dtype=np.int64) * S if times is None else times
    return ReadingRows(tuple(f"s{i}" for i in range(width)), time_ns, values, np.arange(count) % 3 == 0)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_out_again_bit_for_bit(count: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**32, (count, width), dtype=np.uint32).view(np.float32)
    block = rows(values, np.sort(rng.integers(0, 2**62, count)))
    again = decode(encode(block), block.sensors, count)
    assert again.values.tobytes() == values.tobytes()
    np.testing.assert_array_equal(again.time_ns, block.time_ns)
    np.testing.assert_array_equal(again.alarm, block.alarm)


@pytest.mark.parametrize("body", [b"", b"rubbish", encode(rows(np.ones((4, 2), np.float32)))[:-6]])
def test_damaged_blocks_are_refused(body: bytes) -> None:
    with pytest.raises(StoreError, match="a block of readings is damaged"):
        decode(body, ("s0", "s1"), 4)


def test_a_block_of_another_size_is_refused() -> None:
    with pytest.raises(StoreError, match="damaged: got"):
        decode(encode(rows(np.ones((400, 2), np.float32))), ("s0", "s1"), 4)


def test_one_row_is_taken_in_each_interval() -> None:
    sampler = ReadingSampler(ReadingsOptions.model_validate({"every": "10s"}), 10.0)
    assert all(sampler.take(snapshot(second), alarm=second == 20) is None for second in range(60))
    block = sampler.finish()
    assert block is not None
    np.testing.assert_array_equal((block.time_ns - NOW) // S, [0, 10, 20, 30, 40, 50])
    np.testing.assert_array_equal(block.alarm, [False, False, True, False, False, False])
    assert sampler.finish() is None


def test_a_block_ends_with_its_time_its_size_and_its_sensors() -> None:
    sampler = ReadingSampler(ReadingsOptions.model_validate({"every": "1s", "block": "5s"}), 1.0, 24)
    lengths = [block and len(block) for second in range(4) if (block := sampler.take(snapshot(second), alarm=False))]
    assert lengths == [2]  # 24 bytes are two rows of three
    sampler = ReadingSampler(ReadingsOptions.model_validate({"every": "1s", "block": "5s"}), 1.0)
    lengths = [block and len(block) for second in range(11) if (block := sampler.take(snapshot(second), alarm=False))]
    assert lengths == [5, 5]
    other = sampler.take(snapshot(11, (1.0,), ("level",)), alarm=False)
    assert other is not None
    assert (len(other), other.sensors) == (1, SENSORS)


async def test_readings_are_off_by_default(tmp_path: Path) -> None:
    history = await History.open(tmp_path / "history.db", HistoryOptions(), Metrics(), SystemClock())
    for second in range(100):
        history.observe(snapshot(second), alarm=False)
    await history.close()
    with pytest.raises(DataFileError, match=r"holds no readings; set history\.readings\.every"):
        read_readings(tmp_path)


async def test_kept_readings_are_a_regular_table(tmp_path: Path) -> None:
    history = await opened(tmp_path / "history.db")
    for second in range(300):
        if not 120 <= second < 140:  # two rows are missing
            history.observe(snapshot(second, (second / 7, None if second < 100 else 3.0, 1.0)), alarm=second >= 200)
            await history.flush()
    await history.close()
    table = read_readings(tmp_path)
    assert (table.sensors, table.every_ns, len(table)) == (SENSORS, 10 * S, 30)
    np.testing.assert_array_equal(np.diff(table.time_ns), 10 * S)
    np.testing.assert_allclose(table.values[:12, 0], np.arange(0, 120, 10) / 7, rtol=1e-6)
    assert np.isnan(table.values[12:14]).all()
    assert np.isnan(table.values[:10, 1]).all()
    np.testing.assert_array_equal(table.alarm, np.arange(30) >= 20)
    assert set(table.run) == {0}


async def test_a_long_gap_is_another_run_and_new_sensors_get_a_column(tmp_path: Path) -> None:
    history = await opened(tmp_path / "history.db")
    for second in range(60):
        history.observe(snapshot(second), alarm=False)
    for second in range(1000, 1060):
        history.observe(snapshot(second, (1.0, 2.0, 3.0, 4.0), (*SENSORS, "new")), alarm=False)
    await history.close()
    table = read_readings(tmp_path / "history.db")
    assert table.sensors == (*SENSORS, "new")
    np.testing.assert_array_equal(table.run, [0] * 6 + [1] * 6)
    assert np.isnan(table.values[:6, 3]).all()
    assert (table.values[6:, 3] == 4.0).all()


async def test_only_the_newest_rows_are_read_when_asked(tmp_path: Path) -> None:
    history = await opened(tmp_path / "history.db")
    for second in range(600):
        history.observe(snapshot(second, (float(second), 0.0, 0.0)), alarm=False)
        await history.flush()
    await history.close()
    table = read_readings(tmp_path, most_rows=7)
    np.testing.assert_array_equal(table.values[:, 0], np.arange(530, 600, 10))


async def test_incidents_come_with_what_was_said_of_them(tmp_path: Path) -> None:
    history = await opened(tmp_path / "history.db")
    history.observe(snapshot(0), alarm=False)
    await history.record(incident("A", 10, 20))
    await history.record(incident("B", 30, None))
    await history.judge("A", Feedback.FALSE_ALARM, "", "me")
    await history.close()
    first, second = read_readings(tmp_path).periods
    assert (first.incident, first.start_ns, first.stop_ns) == ("A", NOW + 10 * S, NOW + 20 * S)
    assert (first.verdict, second.verdict) == (Feedback.FALSE_ALARM, None)
    assert second.stop_ns is None


async def test_readings_stay_below_the_cap_and_never_push_an_incident_out(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = await opened(path, max_bytes="1MB", readings={"every": "1s", "block": "20s"})
    await history.record(incident("A", 0, 1))
    await history.record_event(Event("E", EventKind.STATUS, NOW, {}))
    rng = np.random.default_rng(0)
    sensors = tuple(f"s{i}" for i in range(200))
    for second in range(3000):
        history.observe(snapshot(second, tuple(rng.normal(size=200)), sensors), alarm=False)
        if second % 100 == 0:
            await history.flush()
    await history.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1_000_000
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM incident").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM event").fetchone() == (1,)
    database.close()
    newest = read_readings(path)
    assert newest.time_ns[-1] == NOW + 2999 * S
    assert 300 < len(newest) < 1500


async def test_incidents_push_readings_out(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = await opened(path, max_bytes="1MB", readings={"every": "1s", "block": "20s"})
    rng = np.random.default_rng(0)
    sensors = tuple(f"s{i}" for i in range(200))
    for second in range(1200):
        history.observe(snapshot(second, tuple(rng.normal(size=200)), sensors), alarm=False)
        if second % 60 == 0:
            await history.flush()
    before = path.stat().st_size
    for number in range(300):
        body = incident(f"I{number}", number, number + 1)
        await history.record(body)
        await history.record_event(Event(f"E{number}", EventKind.STATUS, NOW + number, {"text": "x" * 500}))
        if number % 100 == 0:
            await history.flush()
    await history.close()
    assert before > 500_000
    assert len(read_readings(path).periods) == 300


async def test_a_history_of_before_readings_is_still_used(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    history = await opened(path)
    await history.record(incident("A", 10, 20))
    await history.close()
    with sqlite3.connect(path) as database:
        database.executescript("DROP TABLE reading; DROP TABLE layout; DROP TABLE feedback")
    database.close()
    history = await opened(path)
    assert await history.incident("A") is not None
    assert await history.judge("A", Feedback.TRUE_ALARM, "", "me") is not None
    await history.close()


def test_what_is_no_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="not found, expected a history of the daemon"):
        read_readings(tmp_path)
    (tmp_path / "history.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(DataFileError, match="cannot be read as a history of the daemon"):
        read_readings(tmp_path)


@pytest.mark.parametrize("given", [{"every": "0s"}, {"every": "10"}, {"block": "0s"}, {"block": "2d"}, {"rows": 1}])
def test_options_out_of_range_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReadingsOptions.model_validate(given)
