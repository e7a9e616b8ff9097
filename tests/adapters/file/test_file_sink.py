"""The file sink on real files, a full device and standard output."""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from edge_adapters.file import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.testing import check_sink
from edge_agent.verdict import Event, EventKind

NOW_NS = 1_800_000_000 * 10**9


@contextlib.asynccontextmanager
async def opened(path: Path | str, **options: Any) -> AsyncIterator[Sink]:
    parsed = SINK.options.model_validate({"type": "file", "path": str(path), **options})
    sink = SINK.build(parsed, AdapterContext("file", VirtualClock(NOW_NS), random.Random(1), Metrics(), kind="sink"))
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def event(name: str, size: int = 0) -> Event:
    return Event(name, EventKind.INCIDENT, NOW_NS, {"text": "x" * size})


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]


async def test_event_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    async with opened(path) as sink:
        await sink.deliver([event("a"), event("b")])
    assert path.read_text().splitlines()[0] == (
        '{"id":"a","kind":"incident","time":"2027-01-15T08:00:00.000Z","body":{"text":""}}'
    )
    assert ids(path) == ["a", "b"]


async def test_replayed_event_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "e") as sink:
        await sink.deliver([replace(event("a"), replayed=True), event("b")])
    lines = [json.loads(line) for line in (tmp_path / "e").read_bytes().splitlines()]
    assert [line.get("replayed") for line in lines] == [True, None]


async def test_restart_appends(tmp_path: Path) -> None:
    for name in "ab":
        async with opened(tmp_path / "e") as sink:
            await sink.deliver([event(name)])
    assert ids(tmp_path / "e") == ["a", "b"]


async def test_torn_line_of_a_crash_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "e"
    path.write_bytes(b'{"id":"a"}\n{"id":"to')
    async with opened(path) as sink:
        await sink.deliver([event("b")])
    lines = path.read_bytes().splitlines()
    assert lines[1] == b'{"id":"to'
    assert json.loads(lines[2])["id"] == "b"


@pytest.mark.parametrize("sync", ["never", "batch"])
async def test_file_rotates_before_it_outgrows_its_size_and_old_ones_go(tmp_path: Path, sync: str) -> None:
    path = tmp_path / "e"
    async with opened(path, max_size="1kB", max_files=3, sync=sync) as sink:
        for number in range(8):
            await sink.deliver([event(str(number), size=400)])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e", "e.1", "e.2"]
    assert (ids(tmp_path / "e.2"), ids(tmp_path / "e.1"), ids(path)) == (["2", "3"], ["4", "5"], ["6", "7"])
    assert all(file.stat().st_size <= 1000 for file in tmp_path.iterdir())


async def test_single_file_starts_anew(tmp_path: Path) -> None:
    async with opened(tmp_path / "e", max_size="1kB", max_files=1) as sink:
        for number in range(3):
            await sink.deliver([event(str(number), size=400)])
    assert ids(tmp_path / "e") == ["2"]
    assert len(list(tmp_path.iterdir())) == 1


async def test_event_larger_than_a_file_is_still_written(tmp_path: Path) -> None:
    async with opened(tmp_path / "e", max_size="1kB", max_files=2) as sink:
        await sink.deliver([event("small")])
        await sink.deliver([event("large", size=5000)])
    assert (ids(tmp_path / "e.1"), ids(tmp_path / "e")) == (["small"], ["large"])


async def test_file_moved_away_by_another_program_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "e"
    async with opened(path) as sink:
        await sink.deliver([event("a")])
        path.rename(tmp_path / "rotated")
        await sink.deliver([event("b")])
        path.unlink()
        await sink.deliver([event("c")])
    assert ids(tmp_path / "rotated") == ["a"]
    assert ids(path) == ["c"]


async def test_full_disk_is_tried_again_and_says_so() -> None:
    async with opened("/dev/full") as sink:
        with pytest.raises(RetryableAdapterError, match="/dev/full: the disk is full"):
            await sink.deliver([event("a")])


async def test_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "e"
    async with opened(path) as sink:
        await sink.deliver([event("a", size=3000)])
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        # A limit on the size of files stands in for a disk that fills up in the middle of a write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
        try:
            with pytest.raises(AdapterError, match="File too large"):
                await sink.deliver([event("b"), event("c", size=3000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        await sink.deliver([event("d")])
    assert ids(path) == ["a", "d"]


async def test_missing_folder_is_tried_again_as_it_may_be_mounted_later(tmp_path: Path) -> None:
    with pytest.raises(RetryableAdapterError, match="cannot be written now: No such file or directory"):
        async with opened(tmp_path / "card" / "e"):
            pass


async def test_folder_instead_of_a_file_is_final(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="cannot be written: Is a directory") as caught:
        async with opened(tmp_path):
            pass
    assert not isinstance(caught.value, RetryableAdapterError)


async def test_new_file_is_not_readable_by_everyone(tmp_path: Path) -> None:
    async with opened(tmp_path / "e"):
        pass
    assert (tmp_path / "e").stat().st_mode & 0o007 == 0


async def test_minus_is_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    async with opened("-") as sink:
        await sink.deliver([event("a"), event("b")])
    assert [json.loads(line)["id"] for line in capfd.readouterr().out.splitlines()] == ["a", "b"]


async def test_closed_pipe_on_standard_output_is_final() -> None:
    reading, writing = os.pipe()
    saved = os.dup(1)
    os.dup2(writing, 1)
    os.close(reading)
    try:
        async with opened("-") as sink:
            with pytest.raises(AdapterError, match="standard output: cannot be written: Broken pipe"):
                await sink.deliver([event("a")])
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(writing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/var/log/"}, "got '/var/log/', expected a file such as"),
        ({"path": ""}, "got '', expected a file such as"),
        ({"max_size": "10B"}, "greater than or equal to 1000"),
        ({"max_files": 0}, "greater than or equal to 1"),
        ({"sync": "always"}, "'never' or 'batch'"),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SINK.options.model_validate({"type": "file", "path": "e", **options})
    assert message in str(caught.value)


async def test_the_shared_rules_for_sinks_hold(tmp_path: Path) -> None:
    path = tmp_path / "e"

    async def received() -> list[str]:
        return ids(path)

    await check_sink(
        SINK,
        {"type": "file", "path": str(path)},
        received=received,
        unreachable={"type": "file", "path": str(tmp_path / "not-mounted" / "e")},
    )


def test_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.file") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["log"])
