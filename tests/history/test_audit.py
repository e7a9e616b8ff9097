"""The audit log: durable lines, bounded files, torn ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import StoreError
from edge_agent.history.audit import AuditLog


def test_entries_come_back_newest_first(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    assert log.latest(10) == []
    for number in range(5):
        log.append({"action": "lift", "number": number})
    assert [entry["number"] for entry in log.latest(3)] == [4, 3, 2]
    assert [entry["number"] for entry in AuditLog(tmp_path / "audit.jsonl").latest(10)] == [4, 3, 2, 1, 0]


def test_files_are_rotated_and_bounded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", max_bytes=100)
    for number in range(200):
        log.append({"number": number})
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit.jsonl", *(f"audit.jsonl.{number}" for number in (1, 2, 3, 4))]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    found = [entry["number"] for entry in log.latest(1000)]
    assert found == list(range(199, 199 - len(found), -1))
    assert len(found) > 20


@pytest.mark.parametrize("cut", range(1, 15))
def test_a_line_torn_by_a_power_loss_costs_only_itself(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    for number in range(3):
        log.append({"number": number})
    path.write_bytes(path.read_bytes()[:-cut])
    log.append({"number": 3})
    found = [entry["number"] for entry in log.latest(10)]
    assert found == ([3, 2, 1, 0] if cut == 1 else [3, 1, 0])


def test_a_disk_that_refuses_is_said_and_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    log = AuditLog(tmp_path / "audit.jsonl")
    with pytest.raises(StoreError, match=r"audit\.jsonl: cannot be written: Is a directory"):
        log.append({"number": 1})
    with pytest.raises(StoreError, match="cannot be read"):
        log.latest(1)
