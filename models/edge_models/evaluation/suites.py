"""The cases that detectors are measured on: recordings with labels, and normal recordings with injected faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.errors import DataFileError
from edge_models.datasets import OPEN_SETS, VUS_WINDOW, Entity, load

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
_TICK_S = {
    "wsn_suthaharan": 5.0,
    "tep": 180.0,
    "asd": 300.0,
    "smd": 60.0,
    "skab": 1.0,
    "batadal": 3600.0,
    "lbnl": 60.0,
    "swat": 1.0,
    "wadi": 1.0,
}
LABELLED = tuple(name for name in OPEN_SETS if name in _TICK_S)
"""Sets that anybody may download, with labels of their own."""
WITH_LABELS = tuple(_TICK_S)
"""Names for :func:`cases`; two of them are given out on request only."""
_CAUSES = "interpretation_label.txt"


@dataclass(frozen=True, slots=True)
class Cause:
    """The sensors (indices) that an event from tick ``start`` to ``stop`` (inclusive) shows in."""

    start: int
    stop: int
    sensors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One plant of a set. ``tick_s``: seconds between rows. ``causes``: by name of the test, where they are known."""

    set: str
    entity: Entity
    tick_s: float
    causes: dict[str, tuple[Cause, ...]] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Window of VUS-PR in ticks."""
        return VUS_WINDOW.get(self.set.rpartition(":")[2], 20)

    @property
    def false_alarms_per_s(self) -> float:
        """The budget: one false alarm a week, or a day where all tests together last less than two weeks."""
        tested_s = sum(len(test.label) for test in self.entity.tests) * self.tick_s
        return 1.0 / (WEEK_S if tested_s >= 2 * WEEK_S else DAY_S)


def tick_s(name: str) -> float:
    """Seconds between two rows of the set ``name``."""
    return _TICK_S[name]


def cases(folder: Path, name: str) -> list[Case]:
    """All plants of the set ``name``. :raises DataFileError: it is unknown or its recordings are not in ``folder``."""
    return [
        Case(name, entity, tick_s(name), _causes(folder / name / entity.name, entity)) for entity in load(folder, name)
    ]


def _causes(place: Path, entity: Entity) -> dict[str, tuple[Cause, ...]]:
    path = place / _CAUSES
    return {entity.tests[0].name: read_causes(path, len(entity.sensors))} if path.exists() else {}


def read_causes(path: Path, sensors: int) -> tuple[Cause, ...]:
    """Read lines such as ``760-765:4,5,7``: ticks from 0, sensors from 1.

    :raises DataFileError: a line is of another form, or names a sensor that is not there.
    """
    found = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            ticks, _, names = line.partition(":")
            start, stop = (int(tick) for tick in ticks.split("-"))
            chosen = tuple(int(name) - 1 for name in names.split(","))
        except ValueError as error:
            raise DataFileError(f"{path}: line {number}: got {line!r}, expected such as 760-765:4,5,7") from error
        if min(chosen) < 0 or max(chosen) >= sensors:
            raise DataFileError(f"{path}: line {number}: got {line!r}, expected sensors from 1 to {sensors}")
        found.append(Cause(start, stop, chosen))
    return tuple(found)
