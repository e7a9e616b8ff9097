"""Folders of sinks that are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from outbox_rig import T0, event

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import BufferOptions
from edge_agent.outbox import Outbox, folder_of, tidy

DAY = 86_400 * NS_PER_S


def leave(root: Path, sink: str) -> Path:
    folder = folder_of(root, sink)
    outbox = Outbox(sink, folder, BufferOptions(), VirtualClock(T0))
    outbox.open()
    outbox.offer(event(1))
    outbox.close()
    for path in folder.iterdir():
        os.utime(path, ns=(T0, T0))
    return folder


def test_an_outbox_without_a_sink_is_told_once_and_removed_when_it_is_old(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone, used, told = leave(memory, "gone"), leave(memory, "used"), set[str]()
    for _ in range(2):
        tidy(memory, ["used"], T0 + DAY, told)
    assert gone.exists()
    assert caplog.text.count("undelivered events of 'gone', which is no sink any more") == 1
    tidy(memory, ["used"], T0 + 31 * DAY, told)
    assert not gone.exists()
    assert used.exists()
    assert "given up for their age" in caplog.text


def test_an_empty_outbox_without_a_sink_is_removed_without_a_word(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = memory / "gone"
    folder.mkdir()
    (folder / "position").write_bytes(b"x" * 24)
    tidy(memory, [], T0, set())
    assert not folder.exists()
    assert caplog.text == ""


def test_nothing_there_is_nothing_to_do(memory: Path) -> None:
    tidy(memory / "outbox", [], T0, set())


@pytest.mark.parametrize("sink", ["a/b", "..", ".", "ä ö", "%2F", "C:\\x", "x" * 60])
def test_any_name_of_a_sink_makes_a_folder_of_its_own(memory: Path, sink: str) -> None:
    folder = leave(memory, sink)
    assert folder.parent == memory
    tidy(memory, [sink], T0 + 100 * DAY, set())
    assert folder.exists()
