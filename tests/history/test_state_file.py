from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import VirtualClock
from edge_agent.errors import StoreError
from edge_agent.history import StateFile


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert StateFile(tmp_path / "state").load() is None


@given(payload=st.binary(max_size=2_000))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, payload: bytes) -> None:
    file = StateFile(tmp_path_factory.mktemp("state") / "deep" / "state")
    file.save(b"earlier")
    assert file.save(payload) >= len(payload)
    assert file.load() == payload
    assert [found.name for found in file.path.parent.iterdir()] == ["state"]


def test_every_damaged_byte_is_noticed_and_the_file_put_aside(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state", VirtualClock(1))
    file.save(b"payload of the state")
    good = file.path.read_bytes()
    for position in range(len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0x10
        file.path.write_bytes(damaged)
        assert file.load() is None, position
        assert not file.path.exists()


@pytest.mark.parametrize("length", [0, 1, 11, 50, 60])
def test_torn_file_is_noticed(tmp_path: Path, length: int) -> None:
    file = StateFile(tmp_path / "state")
    file.save(b"payload of the state")
    file.path.write_bytes(file.path.read_bytes()[:length])
    assert file.load() is None
    assert len(list(tmp_path.glob("state.damaged-*"))) == 1


def test_garbage_is_noticed(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state", max_bytes=100)
    file.path.write_bytes(random.Random(1).randbytes(1_000_000))
    assert file.load() is None


def test_failed_save_keeps_the_earlier_state_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code = f"""
import resource, signal
from pathlib import Path
from edge_agent.errors import StoreError
from edge_agent.history import StateFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = StateFile(Path({str(tmp_path / "state")!r}))
file.save(b"earlier")
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    file.save(bytes(100_000))
except StoreError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "state: cannot be written: File too large" in done.stdout
    assert StateFile(tmp_path / "state").load() == b"earlier"
    assert os.listdir(tmp_path) == ["state"]


def test_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        StateFile(tmp_path / "folder" / "state").save(b"x")
    assert StateFile(tmp_path / "folder" / "state").load() is None


def test_too_large_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="got 11 bytes to save, expected at most 10"):
        StateFile(tmp_path / "state", max_bytes=10).save(b"x" * 11)


def test_crash_before_the_rename_keeps_the_earlier_state(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state")
    file.save(b"earlier")
    (tmp_path / "state.new").write_bytes(b"half of someth")
    assert file.load() == b"earlier"
    file.save(b"later")
    assert os.listdir(tmp_path) == ["state"]
