"""Plants with injected faults: what recordings hardly hold, above all faults that only relations between sensors show.

The normal part of a plant is cut: its first three quarters stay normal history, the last becomes one test for each kind
of fault, all of them from the same clean readings. Where the published recordings have a faultless test, or a
faultless run, that is used instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge_models.datasets import Entity, LabelledRun, Values, load, read_table
from edge_models.evaluation.suites import Case, Cause, tick_s
from edge_models.faults import Injected, inject

PREFIX = "faults:"
KINDS = ("replay", "drift", "stuck", "bias", "noise", "delay", "swap", "common_shift")
"""One sensor's own past again, and the faults of the everyday; the last one moves several sensors at once."""
SETS = tuple(PREFIX + name for name in ("asd", "smd", "tep", "skab", "batadal", "lbnl"))
_MOST_TICKS = 3_000
_NORMAL = 0.75


def fault_cases(folder: Path, name: str, seed: int) -> list[Case]:
    """The plants of one of ``SETS``. Other seeds put other faults at other places.

    :raises DataFileError: the recordings of the set are not in ``folder``.
    """
    base = name.removeprefix(PREFIX)
    return [_case(name, entity, clean, seed) for entity, clean in _clean(folder, base)]


def _clean(folder: Path, name: str) -> Iterator[tuple[Entity, Values]]:
    """Plants, each with normal readings to put faults into that come after its normal part."""
    if name == "skab":
        table = read_table(folder / "skab" / "train.parquet")
        yield _cut(Entity("anomaly-free", table.sensors, table.of_run("anomaly-free").values, ()))
        return
    for entity in load(folder, name):
        calm = [test.values for test in entity.tests if not test.label.any()]
        yield (entity, calm[0][:_MOST_TICKS]) if calm and not entity.pooled else _cut(entity)


def _cut(entity: Entity) -> tuple[Entity, Values]:
    border = int(len(entity.normal) * _NORMAL)
    shortened = Entity(entity.name, entity.sensors, entity.normal[:border], (), edges=entity.edges)
    return shortened, entity.normal[border : border + _MOST_TICKS]


def _case(name: str, entity: Entity, clean: Values, seed: int) -> Case:
    made = {kind: _injected(name, entity, clean, kind, seed) for kind in KINDS}
    made = {kind: injected for kind, injected in made.items() if injected.faults}
    tests = tuple(LabelledRun(kind, injected.values, injected.label) for kind, injected in made.items())
    causes = {
        kind: tuple(Cause(fault.start, fault.stop - 1, fault.sensors) for fault in injected.faults)
        for kind, injected in made.items()
    }
    with_faults = Entity(entity.name, entity.sensors, entity.normal, tests, edges=entity.edges)
    return Case(name, with_faults, tick_s(name.removeprefix(PREFIX)), causes)


def _injected(name: str, entity: Entity, clean: Values, kind: str, seed: int) -> Injected:
    generator = np.random.default_rng([seed, *f"{name}/{entity.name}/{kind}".encode()])
    return inject(clean, kind, generator, normal=entity.normal)
