from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.clock import SystemClock, VirtualClock
from edge_agent.history import History, HistoryOptions
from edge_agent.metrics import Metrics
from edge_agent.verdict import Contribution, Event, EventKind, Feedback, Incident, IncidentKind, IncidentState, Severity

NOW = 1_800_000_000_000_000_000


def incident(name: str, opened: int = 0, state: IncidentState = IncidentState.OPEN, padding: int = 0) -> Incident:
    return Incident(
        id=name,
        kind=IncidentKind.PROCESS,
        state=state,
        severity=Severity.HIGH,
        opened_ns=NOW + opened,
        updated_ns=NOW + opened,
        closed_ns=NOW + opened if state is IncidentState.CLOSED else None,
        first_tick=1,
        last_tick=2,
        p_value=1e-6,
        score=9.5,
        summary="level too high" + "x" * padding,
        contributions=(Contribution("tank", 1.0, 9.5, 3.0, 1.0, "m", "level"),),
        series={"tank": [1.0, None, 3.0]},
    )


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[tuple[History, Metrics]]:
    metrics = Metrics()
    history = await History.open(path, HistoryOptions(**options), metrics, SystemClock())
    try:
        yield history, metrics
    finally:
        await history.close()


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.glob(path.name + "*"))


async def test_incident_is_found_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "data" / "history.db"
    async with opened(path) as (history, metrics):
        await history.record(incident("A"))
    async with opened(path) as (history, _):
        assert await history.incident("A") == incident("A").to_dict()
        assert await history.incidents() == [incident("A").to_dict()]
        assert await history.incident("B") is None
    assert metrics.store_bytes.labels("history").value > 4096


async def test_incident_is_seen_at_once_and_in_its_latest_state(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as (history, _):
        await history.record(incident("A"))
        await history.flush()
        await history.record(replace(incident("A"), state=IncidentState.CLOSED, updated_ns=NOW + 5))
        assert (await history.incident("A") or {})["state"] == "closed"
        assert [found["state"] for found in await history.incidents()] == ["closed"]


async def test_filters_and_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as (history, _):
        for number, state in enumerate(IncidentState):
            await history.record(incident(f"I{number}", opened=number, state=state))
            if number < 2:
                await history.flush()

        async def ids(**query: Any) -> list[str]:
            return [found["id"] for found in await history.incidents(**query)]

        assert await ids() == ["I2", "I1", "I0"]
        assert await ids(limit=2) == ["I2", "I1"]
        assert await ids(state=IncidentState.OPEN) == ["I1", "I0"]
        assert await ids(state=IncidentState.UPDATED) == ["I1"]
        assert await ids(state=IncidentState.CLOSED) == ["I2"]
        assert await ids(since_ns=NOW + 1) == ["I2", "I1"]


async def test_events_are_kept_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as (history, _):
        await history.record_event(Event("E1", EventKind.STATUS, NOW, {"text": "started"}))
        await history.flush()
        await history.record_event(Event("E2", EventKind.STATUS, NOW + 1, {"text": "stopped"}))
        assert [event["id"] for event in await history.events()] == ["E2", "E1"]
        assert (await history.events(since_ns=NOW + 1))[0] == {"id": "E2", "kind": "status", "text": "stopped"}


async def test_written_within_the_flush_time_without_being_asked(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    history = await History.open(tmp_path / "h.db", HistoryOptions(), Metrics(), clock)
    await history.record(incident("A"))
    await asyncio.sleep(0)
    with sqlite3.connect(tmp_path / "h.db") as reader:
        await asyncio.sleep(0)
        clock.advance(2_000_000_000)
        deadline = time.monotonic() + 5
        while not reader.execute("SELECT count(*) FROM incident").fetchone()[0]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
    reader.close()
    await history.close()


async def test_many_changes_are_one_write(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as (history, metrics):
        counter = metrics.store_bytes.labels("history")
        before = counter.value
        for number in range(500):
            await history.record(replace(incident("A"), last_tick=number))
        await history.flush()
        assert 0 < counter.value - before < 30_000


@pytest.mark.parametrize("damage", ["garbage", "truncated", "middle", "empty_wal_torn", "other_version"])
async def test_damaged_file_is_put_aside_and_the_history_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h.db"
    async with opened(path) as (history, _):
        for number in range(400):
            await history.record(incident(f"I{number}", opened=number, padding=2_000))
    content = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(os.urandom(20_000))
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2 + 100])
    elif damage == "middle":
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    elif damage == "empty_wal_torn":
        (tmp_path / "h.db-wal").write_bytes(os.urandom(5_000))
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version=99")
        database.close()
    async with opened(path) as (history, _):
        await history.incidents(1_000)
        await history.record(incident("new", opened=1_000))
        await history.flush()
        assert (await history.incidents(1))[0]["id"] == "new"
        kept = len(await history.incidents(1_000))
    put_aside = list(tmp_path.glob("h.db.damaged-*"))
    if damage == "empty_wal_torn":
        assert kept == 401
        assert not put_aside
    else:
        assert put_aside
        assert "going on without it" in caplog.text


async def test_what_is_watched_no_more_after_a_start_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    async with opened(path) as (history, _):
        for name, state in (("A", IncidentState.OPEN), ("B", IncidentState.UPDATED), ("C", IncidentState.CLOSED)):
            await history.record(incident(name, state=state))
    async with opened(path) as (history, _):
        assert await history.end_unwatched({"A"}) == 1
        assert [found["id"] for found in await history.incidents(state=IncidentState.OPEN)] == ["A"]
    async with opened(path) as (history, _):
        ended = await history.incident("B") or {}
        assert (ended["state"], ended["opened"]) == ("closed", incident("B").to_dict()["opened"])
        assert ended["closed"] == ended["updated"] != ended["opened"]
        assert await history.end_unwatched({"A"}) == 0


async def test_row_whose_bits_have_flipped_is_passed_over_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "h.db"
    async with opened(path) as (history, _):
        for name in ("A", "B", "C"):
            await history.record(incident(name, ord(name)))
        await history.record_event(Event("E", EventKind.STATUS, NOW, {"what": "start"}))
        await history.flush()
        await history.judge("C", Feedback.TRUE_ALARM, "pump", "kim")
    content = path.read_bytes()
    assert content.count(b'{"id":"B"') == content.count(b'{"id":"E"') == content.count(b"pump") == 1
    content = (
        content.replace(b'{"id":"B"', b'{"id";"B"').replace(b'{"id":"E"', b'{"ie":"E"').replace(b"pump", b"pu\xffp")
    )
    path.write_bytes(content)
    async with opened(path) as (history, metrics):
        for _ in range(2):
            assert [found["id"] for found in await history.incidents()] == ["C", "A"]
            assert await history.incident("B") is None
            assert await history.events() == []
        assert (await history.incident("C") or {})["feedback"]["note"] == "pu\ufffdp"
        await history.record(incident("B", 9))
        await history.flush()
        assert (await history.incident("B") or {})["id"] == "B"
        assert metrics.store_failures.labels("history").value == 0
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"{path}: {name!r} in it is damaged and passed over" for name in ("B", "E")]


async def test_only_two_damaged_files_are_kept(tmp_path: Path) -> None:
    for round_number in range(4):
        (tmp_path / "h.db").write_bytes(b"garbage" * 1_000)
        clock = VirtualClock(NOW + round_number * 1_000_000_000)
        history = await History.open(tmp_path / "h.db", HistoryOptions(), Metrics(), clock)
        await history.close()
    assert len(list(tmp_path.glob("h.db.damaged-*"))) == 2


async def test_size_cap_is_kept_and_the_oldest_closed_incidents_go_first(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    largest = 0
    async with opened(path, max_bytes="1MB") as (history, metrics):
        await history.record(incident("open", opened=-1))
        for number in range(600):
            await history.record(incident(f"I{number:04}", opened=number, state=IncidentState.CLOSED, padding=8_000))
            if number % 20 == 0:
                await history.flush()
                largest = max(largest, size_of(path) - (tmp_path / "h.db-shm").stat().st_size)
        await history.flush()
        ids = [found["id"] for found in await history.incidents(1_000)]
        assert metrics.store_failures.labels("history").value == 0
    assert largest <= 1_000_000
    assert ids[-1] == "open"
    assert ids[0] == "I0599"
    assert ids[:-1] == [f"I{number:04}" for number in range(599, 599 - len(ids) + 1, -1)]
    assert 30 < len(ids) < 600


@pytest.mark.parametrize("what", ["open incidents", "events"])
async def test_size_cap_is_kept_whatever_it_is_that_fills_the_file(tmp_path: Path, what: str) -> None:
    path = tmp_path / "h.db"
    async with opened(path, max_bytes="1MB") as (history, metrics):
        for number in range(400):
            if what == "events":
                await history.record_event(
                    Event(f"E{number:04}", EventKind.STATUS, NOW + number, {"text": "x" * 8_000})
                )
            else:
                await history.record(incident(f"I{number:04}", opened=number, padding=8_000))
            if number % 50 == 49:
                assert await history.flush()
                assert size_of(path) - (tmp_path / "h.db-shm").stat().st_size <= 1_000_000
        found = await (history.events(1_000) if what == "events" else history.incidents(1_000))
        assert found[0]["id"][1:] == "0399"
        assert 30 < len(found) < 400
        assert metrics.store_failures.labels("history").value == 0


async def test_numbers_of_numpy_and_not_a_number_are_stored(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db") as (history, _):
        await history.record(replace(incident("A"), score=np.float32(1.5), p_value=float("nan")))
        await history.flush()
        stored = await history.incident("A") or {}
        assert (stored["score"], stored["p_value"]) == (1.5, None)


async def test_smaller_cap_is_met_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    async with opened(path, max_bytes="8MB") as (history, _):
        for number in range(400):
            await history.record(incident(f"I{number}", opened=number, state=IncidentState.CLOSED, padding=9_000))
    assert path.stat().st_size > 2_000_000
    async with opened(path, max_bytes="1MB") as (history, _):
        await history.record(incident("last", opened=1_000))
    assert path.stat().st_size <= 1_000_000


async def test_oversized_incident_is_stored_without_its_series(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db", max_bytes="1MB") as (history, _):
        await history.record(replace(incident("A"), series={"tank": [1.5] * 50_000}))
        await history.flush()
        assert (await history.incident("A") or {})["series"] == {}


async def test_retention_forgets_old_closed_incidents_and_keeps_open_ones(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    history = await History.open(tmp_path / "h.db", HistoryOptions(retention="1d"), Metrics(), clock)
    await history.record(incident("closed", state=IncidentState.CLOSED))
    await history.record(incident("open"))
    await history.flush()
    clock.advance(2 * 86_400 * 10**9)
    await history.record(incident("new", opened=2 * 86_400 * 10**9))
    await history.flush()
    assert [found["id"] for found in await history.incidents()] == ["new", "open"]
    await history.close()


async def test_disabled_history_remembers_in_memory_only(tmp_path: Path) -> None:
    async with opened(tmp_path / "h.db", enabled=False) as (history, _):
        await history.record(incident("A"))
        assert [found["id"] for found in await history.incidents()] == ["A"]
    assert list(tmp_path.iterdir()) == []


async def test_unwritable_place_is_counted_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocker = tmp_path / "data"
    blocker.write_text("a file where the folder should be")
    async with opened(blocker / "h.db") as (history, metrics):
        await history.record(incident("A"))
        assert not await history.flush()
        assert [found["id"] for found in await history.incidents()] == ["A"]
        assert metrics.store_failures.labels("history").value >= 2
        assert caplog.text.count("kept in memory and tried again") == 1
        blocker.unlink()
        assert await history.flush()
    async with opened(blocker / "h.db") as (history, _):
        assert await history.incident("A") is not None


async def test_a_file_that_could_not_be_read_is_tried_again_without_being_asked(tmp_path: Path) -> None:
    blocker, clock = tmp_path / "data", VirtualClock(NOW)
    blocker.write_text("a file where the folder should be")
    history = await History.open(blocker / "h.db", HistoryOptions(), Metrics(), clock)
    assert history.failing
    blocker.unlink()
    async with asyncio.timeout(5):
        while history.failing:  # nothing is recorded
            clock.advance(1_000_000_000)
            await asyncio.sleep(0.001)
    await history.close()


async def test_memory_is_bounded_while_nothing_can_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "data"
    blocker.write_text("")
    async with opened(blocker / "h.db") as (history, metrics):
        for number in range(1_500):
            await history.record(incident(f"I{number}", opened=number))
        found = await history.incidents(10_000)
        assert len(found) == 1_000
        assert found[0]["id"] == "I1499"
        assert metrics.store_failures.labels("history").value >= 500
        blocker.unlink()


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
sys.path[:0] = [{folder!r}]
from test_history import incident, opened
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    async with opened(Path({path!r})) as (history, metrics):
        await history.record(incident("before"))
        assert await history.flush()
        size = Path({path!r} + "-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 2000, resource.RLIM_INFINITY))
        await history.record(incident("full", opened=1, padding=20_000))
        assert not await history.flush()
        assert metrics.store_failures.labels("history").value >= 1
        assert [found["id"] for found in await history.incidents()] == ["full", "before"]
        assert history.failing  # that it can be read does not say that it can be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert await history.flush()
        assert not history.failing
        print("survived")

asyncio.run(main())
"""


def test_full_disk_is_survived_and_what_was_recorded_is_written_later(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    code = FULL_DISK.format(folder=str(Path(__file__).parent), path=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "survived\n", done.stderr
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM incident").fetchone() == (2,)
    database.close()
    assert not list(tmp_path.glob("*.damaged-*"))


WRITER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = [{folder!r}]
from test_history import incident, opened

async def main():
    async with opened(Path({path!r})) as (history, _):
        for number in range(100_000):
            await history.record(incident(f"I{{number}}", opened=number, padding=3_000))
            assert await history.flush()
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 40, 150])
async def test_killed_in_the_middle_of_writing_no_committed_incident_is_lost(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "h.db"
    code = WRITER.format(folder=str(Path(__file__).parent), path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        committed = -1
        for _ in range(lines):
            committed = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        whole_lines = writer.stdout.read().split("\n")[:-1]
        committed = max([committed, *map(int, whole_lines)])
    async with opened(path) as (history, metrics):
        found = {item["id"] for item in await history.incidents(100_000)}
        assert {f"I{number}" for number in range(committed + 1)} <= found
        assert metrics.store_failures.labels("history").value == 0
    assert not list(tmp_path.glob("*.damaged-*"))


async def test_torn_tail_of_the_log_loses_only_what_was_not_committed(tmp_path: Path) -> None:
    path = tmp_path / "h.db"
    code = WRITER.format(folder=str(Path(__file__).parent), path=str(path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
    wal = tmp_path / "h.db-wal"
    content = wal.read_bytes()
    wal.write_bytes(content[: len(content) - 3_000] + os.urandom(1_000))
    async with opened(path) as (history, _):
        numbers = sorted(int(item["id"][1:]) for item in await history.incidents(100_000))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 18
