"""Power lost at every moment of a look and a download: what was brought is there, what was revoked stays revoked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_power_loss import memory, recorder  # noqa: F401 - fixtures
from trust_cycle import gateway_at, model
from tuf_repository import Repository
from weak_disk import Operation, WeakDisk, put, read_log, split_notes

from edge_agent.errors import OtaError

pytestmark = pytest.mark.counterpart
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recorded:
    operations: list[Operation | str]
    root: Path
    second: Path
    forged: Path


@pytest.fixture
def cycle(recorder: Path, memory: Path) -> Recorded:  # noqa: F811
    """Two releases taken; between them the timestamp's key was revoked. ``forged``: what its thief shows."""
    first, second, forged, root = (memory / name for name in ("first", "repository", "forged", "root"))
    repository = Repository(second)
    repository.release(model(1))
    shutil.copytree(second, first)
    old = repository.rotate("timestamp")
    repository.release(model(2))
    shutil.copytree(second, forged)
    (forged / "metadata" / "2.root.json").unlink()
    repository.folder = forged
    repository.metadata["timestamp"].signed.version += 1
    repository.put("timestamp", signers=[old])
    root.mkdir()
    log = memory / "log"
    environ = {**os.environ, "LD_PRELOAD": str(recorder), "RECORD_ROOT": str(root), "RECORD_LOG": str(log)}
    command = [sys.executable, str(HERE / "trust_cycle.py"), str(root), str(first), str(second)]
    subprocess.run(command, env=environ, check=True)
    return Recorded(list(split_notes(read_log(log), "notes")), root, second, forged)


def violations(cycle: Recorded, left: Path, notes: list[str]) -> Iterator[str]:
    """What is wrong with the gateway whose files are ``left``, after ``notes``."""
    gateway = gateway_at(left, cycle.second)
    for number in (1, 2):
        file = gateway.model.with_name(str(number))
        if f"kept {number}" in notes and not (file.exists() and file.read_bytes() == model(number)):
            yield f"model {number} is lost"
    if "root 2" in notes:
        try:
            gateway_at(left, cycle.forged).check()
        except OtaError:
            pass
        else:
            yield "a revoked key is believed"
    named = json.loads(gateway.check().ring_file)["model"]
    gateway.fetch(named)
    if gateway.model.read_bytes() != model(2):
        yield "the next update is wrong"


def found(cycle: Recorded, ignore: str = "") -> Iterator[tuple[Operation, list[str]]]:
    disk, notes = WeakDisk(cycle.root, ignore), []
    left = cycle.root.with_name("left")
    for moment, step in enumerate(cycle.operations):
        if isinstance(step, str):
            notes.append(step)
            continue
        disk.apply(step)
        for image in disk.images(moment, 1):
            put(image, cycle.root, left)
            yield step, list(violations(cycle, left, notes))


@pytest.mark.slow
def test_at_every_moment_the_gateway_goes_on(cycle: Recorded) -> None:
    images = 0
    for step, wrong in found(cycle):
        assert wrong == [], f"power lost after {step}"
        images += 1
    assert images > 200


@pytest.mark.parametrize(
    ("ignored", "wrong"),
    [
        ("folder:*/root_history", "a revoked key is believed"),
        ("file:*/partial/*", "model 1 is lost"),
        ("folder:*/blobs", "model 1 is lost"),
    ],
)
def test_without_a_sync_something_would_be_lost(cycle: Recorded, ignored: str, wrong: str) -> None:
    assert any(wrong in each for _, each in found(cycle, ignored))
