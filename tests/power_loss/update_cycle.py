"""A gateway's whole update cycle, while it is recorded: ``python update_cycle.py ROOT PACKAGES``.

``PACKAGES`` has ``A.tar``, ``B.tar``, ``C.tar``. Everything is real but trust, probe and the rest of the daemon; the
model slots are real. The file ``notes`` says what may be relied on: ``may AB`` (one of these models runs after a
start), ``denied C``, ``floor 3``, ``audit 7`` (so many entries are in the audit log).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ota" / "state"))

from scenarios import Notes
from updater_rig import Package, Rig, config_target, ring_of, tar_of

from edge_agent.bundle import read_bundle
from edge_agent.ota.boot import AUDIT
from edge_agent.ota.chain import entries
from edge_agent.ota.state import Phase, Result

CONFIG = b"decision:\n  false_alarms: 1 per week\n"


def load_packages(folder: Path) -> dict[str, Package]:
    """The models by their letters."""
    found = {name: read_bundle(folder / f"{name}.tar") for name in "ABC"}
    return {name: Package(name, dict(bundle.files)) for name, bundle in found.items()}


def write_packages(folder: Path, files: dict[str, dict[str, bytes]]) -> None:
    """For :func:`load_packages`, in a process that cannot make models itself."""
    for name, content in files.items():
        (folder / f"{name}.tar").write_bytes(tar_of(content))


async def update(rig: Rig, notes: Notes, name: str, counter: int, package: Package, before: str, good: bool) -> None:
    """One release from its look to its end; without ``good``, it fails on trial."""
    rig.sick = rig.host.sick = {} if good else {package.bundle.sha256: {"detector_failures": 1}}
    config = CONFIG * counter
    notes.say(f"may {before}{name}")
    rig.trust.publish(
        ring_of(counter, model=package.target, config=config_target(config), activate={"mode": "stage"}),
        package.tar,
        config,
    )
    await rig.look()
    notes.say(f"floor {counter}")
    notes.say(f"audit {len(list(entries(rig.data_dir / 'ota' / AUDIT)))}")
    assert rig.phase is Phase.STAGED
    await rig.updater.activate("tester")
    await rig.settle()
    assert rig.phase is Phase.TRIAL
    await rig.passes(61)
    outcome = rig.state.outcome
    assert outcome is not None
    assert outcome.result is (Result.COMMITTED if good else Result.ROLLED_BACK)
    notes.say(f"may {name if good else before}")
    if not good:
        notes.say(f"denied {name}")


async def cycle(root: Path, packages: dict[str, Package]) -> None:
    """A, then B, are committed; C fails and is taken back; power is lost in between, at every moment."""
    notes, rig = Notes(root), Rig(root / "data")
    notes.say("may -")
    async with rig.started():
        await update(rig, notes, "A", 1, packages["A"], "-", good=True)
        await update(rig, notes, "B", 2, packages["B"], "A", good=True)
    async with rig.started():
        await update(rig, notes, "C", 3, packages["C"], "B", good=False)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    asyncio.run(cycle(Path(sys.argv[1]), load_packages(Path(sys.argv[2]))))
