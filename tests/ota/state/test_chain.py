"""The chained audit log: every change, removal and insertion is found where it was made."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from edge_agent.errors import StoreError
from edge_agent.ota.chain import ChainedLog, entries, files, verify


def filled(path: Path, count: int = 12, max_bytes: int = 1_000_000) -> ChainedLog:
    log = ChainedLog(path, max_bytes)
    for number in range(count):
        log.append({"action": "step", "number": number})
    return log


def test_untouched_log_holds(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.jsonl")
    assert verify(log.path, log.head()) is None
    assert [entry["seq"] for entry in entries(log.path)] == list(range(12))
    assert log.latest(1)[0]["number"] == 11


def test_empty_log_has_no_head(tmp_path: Path) -> None:
    assert ChainedLog(tmp_path / "audit.jsonl").head() is None
    assert verify(tmp_path / "audit.jsonl") is None


@pytest.mark.parametrize("number", range(12))
def test_changed_entry_is_found(tmp_path: Path, number: int) -> None:
    log = filled(tmp_path / "audit.jsonl")
    head = log.head()
    lines = log.path.read_bytes().splitlines()
    lines[number] = lines[number].replace(b'"step"', b'"stop"')
    log.path.write_bytes(b"\n".join(lines) + b"\n")
    found = verify(log.path, head)
    assert found is not None
    assert (found.line, found.seq) == (number + 1, number) if number < 11 else found.line == 12


@pytest.mark.parametrize("number", range(12))
def test_removed_entry_is_found(tmp_path: Path, number: int) -> None:
    log = filled(tmp_path / "audit.jsonl")
    head = log.head()
    lines = log.path.read_bytes().splitlines()
    del lines[number]
    log.path.write_bytes(b"\n".join(lines) + b"\n")
    found = verify(log.path, head)
    assert found is not None
    assert (found.line, found.seq) == (number + 1, number) if number < 11 else "cut off" in found.why


def test_inserted_entry_is_found(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.jsonl")
    lines = log.path.read_bytes().splitlines()
    forged = orjson.loads(lines[5]) | {"seq": 6}
    lines.insert(6, orjson.dumps(forged))
    log.path.write_bytes(b"\n".join(lines) + b"\n")
    found = verify(log.path)
    assert found is not None
    assert found.line in (6, 7)


def test_rotation_keeps_the_chain_and_bounds_the_log(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.jsonl", 300, max_bytes=2_000)
    assert len(files(log.path)) == 5
    assert sum(path.stat().st_size for path in files(log.path)) <= 10_000
    assert verify(log.path, log.head()) is None
    again = ChainedLog(log.path, 2_000)
    again.append({"action": "after"})
    assert verify(log.path, again.head()) is None


def test_file_that_is_gone_is_found(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.jsonl", 300, max_bytes=2_000)
    log.path.with_name("audit.jsonl.2").unlink()
    found = verify(log.path)
    assert found is not None
    assert found.file == "audit.jsonl.4" or found.line == 1


def test_end_that_was_cut_off_is_found_by_the_reported_head(tmp_path: Path) -> None:
    log = filled(tmp_path / "audit.jsonl")
    head = log.head()
    log.path.write_bytes(b"\n".join(log.path.read_bytes().splitlines()[:9]) + b"\n")
    assert verify(log.path) is None
    found = verify(log.path, head)
    assert found is not None
    assert "cut off" in found.why


@pytest.mark.parametrize("cut", [1, 5, 60, 150])
@pytest.mark.parametrize("junk", [b"", b"\0" * 40])
def test_torn_end_is_repaired(tmp_path: Path, cut: int, junk: bytes) -> None:
    log = filled(tmp_path / "audit.jsonl")
    log.path.write_bytes(log.path.read_bytes()[:-cut] + junk)
    again = ChainedLog(log.path)
    again.append({"action": "after"})
    assert verify(log.path, again.head()) is None
    assert again.latest(1)[0]["action"] == "after"


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "ota").write_text("a file")
    with pytest.raises(StoreError, match=r"audit.jsonl: cannot be written: .*"):
        ChainedLog(tmp_path / "ota" / "audit.jsonl").append({"action": "step"})
