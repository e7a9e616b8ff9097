"""Power lost at every moment of an update: the gateway starts with the right model, and can go on."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
from bundle_factory import make_files
from test_power_loss import HERE, memory, recorder
from update_cycle import CONFIG, load_packages, write_packages
from updater_rig import Package, Rig, ring_of
from weak_disk import Operation, WeakDisk, put, read_log, split_notes

from edge_agent.errors import OtaError
from edge_agent.ota.boot import AUDIT
from edge_agent.ota.chain import ChainedLog, entries, verify
from edge_agent.ota.state import Result

pytestmark = pytest.mark.counterpart
__all__ = ["memory", "recorder"]

NEEDED = {
    "state, both copies": "file:*/ota/state.new,file:*/ota/state.copy.new",
    "state, its names": "folder:*/data/ota",
    "slots": "file:*/models/slots.tmp",
    "slots, its names": "folder:*/data/models,folder:*/data",
    "bundle": "file:*/models/.new-*",
    "what was fetched": "file:*/partial/*",
    "audit log": "file:*/audit.jsonl",
}
REDUNDANT = {
    "state, first copy": "file:*/ota/state.new",
    "state, second copy": "file:*/ota/state.copy.new",
    "overlay": "file:*/ota/config.yaml.new",  # it is checked, and made again from the verified file, at each start
}


@dataclass
class Promised:
    """What the notes say up to a moment."""

    may: str = "-"
    denied: set[str] = field(default_factory=set)
    floor: int = 0
    audit: int = 0

    def add(self, note: str) -> None:
        what, value = note.split()
        if what == "may":
            self.may = value
        elif what == "denied":
            self.denied.add(value)
        elif what == "audit":
            self.audit = int(value)
        else:
            self.floor = int(value)


@dataclass
class Recorded:
    """An update cycle: what it did to the disk, and the models that were in it."""

    root: Path
    operations: list[Operation | str]
    packages: dict[str, Package]

    def moments(self, ignore: str, images: int) -> Iterator[tuple[int, Promised, dict[str, bytes | None]]]:
        disk, promised = WeakDisk(self.root, ignore), Promised()
        for moment, step in enumerate(self.operations):
            if isinstance(step, str):
                promised.add(step)
                continue
            disk.apply(step)
            for image in disk.images(moment, images):
                yield moment, promised, image


@pytest.fixture(scope="module")
def cycle(recorder: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("cycle")
    root, log = folder / "root", folder / "log"
    write_packages(folder, {name: make_files(name=name) for name in "ABC"})
    environ = {**os.environ, "LD_PRELOAD": str(recorder), "RECORD_ROOT": str(root), "RECORD_LOG": str(log)}
    subprocess.run([sys.executable, str(HERE / "update_cycle.py"), str(root), str(folder)], env=environ, check=True)
    # The recorder saw the folder itself being made; the disk begins with it.
    operations = [step for step in read_log(log) if (step.kind, step.path) != ("M", str(root))]
    return Recorded(root, list(split_notes(operations, "notes")), load_packages(folder))


def violations(found: Path, cycle: Recorded, promised: Promised) -> list[str]:
    """What does not hold after a start on the disk that was left."""
    rig = Rig(found / "data")
    asyncio.run(start(rig))
    names = {package.bundle.sha256: name for name, package in cycle.packages.items()}
    model, wrong = rig.host.in_force.model, []
    name = "-" if model is None else names[model]
    if name not in promised.may:
        wrong.append(f"model {name} runs, expected one of {promised.may}")
    config = None if name == "-" else hashlib.sha256(CONFIG * ("ABC".index(name) + 1)).hexdigest()
    if rig.host.in_force.config != config:
        wrong.append(f"the configuration is not the one of model {name}")
    state = rig.state
    denied = {names[item.sha256] for item in state.denied if item.sha256 in names}
    if not promised.denied <= denied:
        wrong.append(f"denied is {denied}, expected {promised.denied}")
    if (state.floors["stable"].counter if state.floors else 0) < promised.floor:
        wrong.append(f"floors are {state.floors}, expected at least {promised.floor}")
    wrong += rig.booted.problems
    kept = len(list(entries(found / "data" / "ota" / AUDIT)))
    if kept < promised.audit:
        wrong.append(f"{kept} entries are in the audit log, expected at least {promised.audit}")
    log = ChainedLog(found / "data" / "ota" / AUDIT)
    log.append({"action": "after"})
    broken = verify(log.path)
    return wrong + ([f"audit log: {broken}"] if broken is not None else [])


async def start(rig: Rig) -> None:
    """Without a network, so that it is seen what the disk alone makes of it."""
    rig.trust.error = rig.trust.fetch_error = OtaError("unreachable", "no network")
    async with rig.started():
        pass


async def finish_another(rig: Rig, cycle: Recorded) -> None:
    """An update is still possible."""
    package = cycle.packages["A"]
    contents = [*(found.tar for found in cycle.packages.values()), *(CONFIG * counter for counter in (1, 2, 3))]
    rig.trust.publish(ring_of(1), *contents)
    async with rig.started():
        rig.trust.publish(ring_of(9, model=package.target), package.tar)
        await rig.look()
        await rig.passes(61)
    assert rig.loaded().model == package.bundle.sha256
    assert rig.state.outcome is not None
    assert rig.state.outcome.result is Result.COMMITTED


@pytest.mark.slow
def test_every_moment(cycle: Recorded, memory: Path) -> None:
    count, finished = 0, 0
    for moment, promised, image in cycle.moments("", 2):
        put(image, cycle.root, memory / "left")
        wrong = violations(memory / "left", cycle, promised)
        assert wrong == [], f"power lost after {moment}: {cycle.operations[moment]}"
        count += 1
        if count % 40 == 0:
            asyncio.run(finish_another(Rig(memory / "left" / "data"), cycle))
            finished += 1
    assert count > 500
    assert finished > 10


@pytest.mark.parametrize("sync", NEEDED)
def test_without_a_sync_something_would_be_lost(cycle: Recorded, memory: Path, sync: str) -> None:
    for _, promised, image in cycle.moments(NEEDED[sync], 0):
        put(image, cycle.root, memory / "left")
        if violations(memory / "left", cycle, promised):
            return
    pytest.fail(f"nothing was lost without the sync of {sync}")


@pytest.mark.slow
@pytest.mark.parametrize("sync", REDUNDANT)
def test_what_is_there_twice_may_be_lost_once(cycle: Recorded, memory: Path, sync: str) -> None:
    every = 1 if os.environ.get("EDGE_AGENT_LONG_TESTS") else 4
    for moment, promised, image in islice(cycle.moments(REDUNDANT[sync], 0), None, None, every):
        put(image, cycle.root, memory / "left")
        wrong = [what for what in violations(memory / "left", cycle, promised) if "was damaged" not in what]
        assert wrong == [], f"power lost after {moment}: {cycle.operations[moment]}"
