"""A gateway that is updated again and again and killed at any moment: ``python killed_updates.py DATA PACKAGES KILLS``.

Each life is a process of its own that is killed with SIGKILL; after each the disk is looked at as the next start would.
Prints one line of JSON: kills, releases that ended, and what was ever wrong.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from updater_rig import Package, Rig, config_target, ring_of

from edge_agent.bundle import read_bundle
from edge_agent.ota.boot import AUDIT, boot
from edge_agent.ota.chain import ChainedLog, verify
from edge_agent.ota.state import Phase

LIFE_S = (0.0, 0.12)
TRIAL = {"seconds": 60, "ticks": 50, "starts": 100}


def config_of(name: str) -> bytes:
    return b"# " + name.encode() + b"\ngraph: {}\n"


async def live(data: Path, packages: dict[str, Package]) -> None:
    """One release after the other, for ever."""
    rig = Rig(data)
    everything = [*(package.tar for package in packages.values()), *(config_of(name) for name in packages)]
    rig.trust.publish(ring_of(1), *everything)
    async with rig.started(seed=os.getpid()):
        while True:
            state = rig.state
            floor = state.floors.get("stable")
            counter = floor.counter + 1 if floor is not None else 1
            if state.release is None:
                name = "ABC"[counter % 3]
                shadow = {"seconds": 0 if counter % 2 else 5, "ticks": 0}
                target, config = packages[name].target, config_target(config_of(name))
                ring = ring_of(counter, model=target, config=config, trial=TRIAL, shadow=shadow)
                rig.trust.publish(ring)
                await rig.look()
            elif counter % 5 == 0:
                rig.trust.publish(state.release.model_copy(update={"counter": counter, "halt": True}))
                await rig.look()
            await rig.passes(61)


def wrong(data: Path, packages: dict[str, Package], floor: int) -> tuple[list[str], int]:
    """What a start finds amiss, and the floor it has."""
    rig = Rig(data)
    found = boot(data, rig.clock)
    problems = list(found.problems)
    names = {package.bundle.sha256: name for name, package in packages.items()}
    in_force = rig.loaded()
    model = None if in_force.model is None else names.get(in_force.model, "?")
    expected = None if model is None else hashlib.sha256(config_of(model)).hexdigest()
    if in_force.config != expected:
        problems.append(f"model {model} runs with a configuration that is not its own")
    if found.state.phase not in set(Phase) - {Phase.CHECKING}:
        problems.append(f"phase {found.state.phase}")
    now = found.state.floors["stable"].counter if found.state.floors else 0
    if now < floor:
        problems.append(f"the floor went from {floor} to {now}")
    log = ChainedLog(data / "ota" / AUDIT)
    log.append({"action": "looked"})
    broken = verify(log.path, log.head())
    return problems + ([str(broken)] if broken is not None else []), now


def main(data: Path, folder: Path, kills: int) -> None:
    bundles = {name: read_bundle(folder / f"{name}.tar") for name in "ABC"}
    packages = {name: Package(name, dict(bundle.files)) for name, bundle in bundles.items()}
    chance, floor, amiss = random.Random(7), 0, []
    phases: dict[str, int] = {}
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            asyncio.run(live(data, packages))
            os._exit(0)
        time.sleep(chance.uniform(*LIFE_S))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            amiss.append(f"a life ended by itself: {status}")
        phase = Rig(data).phase.value
        phases[phase] = phases.get(phase, 0) + 1
        problems, floor = wrong(data, packages, floor)
        amiss += problems
    print(json.dumps({"kills": kills, "releases": floor, "phases": phases, "wrong": amiss}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
