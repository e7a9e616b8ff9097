"""The whole cycle, killed at any moment and on a disk that is full at any write: the gateway stays usable."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bundle_factory import make_files
from updater_rig import Package, Rig, ring_of, tar_of

from edge_agent.ota.boot import boot
from edge_agent.ota.state import Phase, Result

HERE = Path(__file__).parent


def killed(tmp_path: Path, kills: int) -> dict[str, object]:
    for name in "ABC":
        (tmp_path / f"{name}.tar").write_bytes(tar_of(make_files(name=name)))
    command = [sys.executable, str(HERE / "killed_updates.py"), str(tmp_path / "data"), str(tmp_path), str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=400)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_killed_at_any_moment(tmp_path: Path) -> None:
    found = killed(tmp_path, 30)
    assert found["wrong"] == []
    assert found["kills"] == 30


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_killed_so_often_that_every_phase_was_met(tmp_path: Path) -> None:
    found = killed(tmp_path, 500 if os.environ.get("EDGE_AGENT_LONG_TESTS") else 120)
    assert found["wrong"] == []
    phases = found["phases"]
    assert isinstance(phases, dict)
    assert {"downloading", "staged", "shadow", "trial", "idle"} <= set(phases)


class Disk:
    """Writes that must be durable fail from number ``full_from`` on, ``for_writes`` of them."""

    def __init__(self, full_from: int, for_writes: int) -> None:
        self.writes = 0
        self._bad = range(full_from, full_from + for_writes)

    def sync(self, descriptor: int) -> None:
        self.writes += 1
        if self.writes - 1 in self._bad:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def disk(monkeypatch: pytest.MonkeyPatch, full_from: int, for_writes: int) -> Iterator[Disk]:
    found, real = Disk(full_from, for_writes), os.fsync

    def fsync(descriptor: int) -> None:
        found.sync(descriptor)
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield found


async def whole_update(rig: Rig, package: Package, counter: int) -> None:
    rig.trust.publish(ring_of(counter, model=package.target), package.tar)
    await rig.look()
    for _ in range(30):
        await rig.passes(61)


@pytest.mark.parametrize("for_writes", [1, 40])
async def test_disk_full_at_each_write(
    tmp_path: Path, packages: dict[str, Package], monkeypatch: pytest.MonkeyPatch, for_writes: int
) -> None:
    base = Rig(tmp_path / "counting")
    async with base.started():
        await whole_update(base, packages["A"], 1)
        with disk(monkeypatch, 10**9, 0) as counting:
            await whole_update(base, packages["B"], 2)
    assert counting.writes > 20
    models = {None, packages["A"].bundle.sha256, packages["B"].bundle.sha256}
    for full_from in range(0, counting.writes, 3):
        rig = Rig(tmp_path / str(full_from))
        async with rig.started():
            await whole_update(rig, packages["A"], 1)
            with disk(monkeypatch, full_from, for_writes):
                await whole_update(rig, packages["B"], 2)
                assert not rig.running.done()
                assert rig.loaded().model in models
            await whole_update(rig, packages["B"], 3)
            assert rig.phase is Phase.IDLE
        outcome = rig.state.outcome
        assert outcome is not None
        if outcome.result is Result.COMMITTED:
            assert rig.loaded().model == packages["B"].bundle.sha256
        else:  # it could not be activated on the full disk, and went back
            assert rig.loaded().model == packages["A"].bundle.sha256


async def test_start_on_trial_that_cannot_be_counted_is_told_and_changes_nothing(
    rig: Rig, packages: dict[str, Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig.started():
        await whole_update(rig, packages["A"], 1)
        rig.trust.publish(ring_of(2, model=packages["B"].target), packages["B"].tar)
        await rig.look()
        assert rig.phase is Phase.TRIAL
    with disk(monkeypatch, 0, 10**9):
        done = boot(rig.data_dir, rig.clock)
    assert done.problems
    assert done.state.phase is Phase.TRIAL
    boot(rig.data_dir, rig.clock)
    assert rig.loaded().model == packages["B"].bundle.sha256
