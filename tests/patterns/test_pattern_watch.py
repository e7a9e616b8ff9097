"""Incidents beside patterns: what is seen of the readings, and what people are told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.config.pattern_file import load_library
from edge_agent.decision.explain import Evidence
from edge_agent.decision.lifecycle import Standing
from edge_agent.graph.snapshot import Snapshot
from edge_agent.patterns.library import Library
from edge_agent.patterns.options import PatternOptions
from edge_agent.pipeline.pattern_watch import PatternWatch
from edge_agent.verdict import Contribution, Incident, IncidentKind, IncidentState, Scores, Severity

NAMES = ("LIT1", "LIT2", "FIT1", "PIT1", "P1", "AIT9")
UNITS = ("mm", "mm", "m3/h", "kPa", "%", "pH")
START, TICKS = 250, 320


class World:
    """Six sensors, the last one in another area; P1 is a pump. An attack changes ``rows`` from ``START`` on."""

    def __init__(self, library: Library) -> None:
        rng = np.random.default_rng(7)
        level = np.array([600.0, 700.0, 2.0, 150.0, 50.0, 7.2])
        noise = np.array([1.5, 1.5, 0.02, 1.0, 0.3, 0.01])
        self.rows = np.round(level + noise * rng.standard_normal((TICKS, 6)), 3)
        self.monitored = np.array([True, True, True, True, False, True])
        self.tick = 0
        self.worst: list[tuple[str, int]] = []
        self.watch = PatternWatch(library, 1.0, self._evidence)

    def unit(self, sensor: int) -> str:
        return UNITS[sensor]

    def area_of(self, sensor: int) -> str:
        return "other" if sensor == 5 else "one"

    def limits(self, sensor: int) -> tuple[float, float]:
        return 0.0, 100.0 if sensor == 4 else 1200.0

    def readings(self, sensors: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        return self.rows[max(0, self.tick + 1 - ticks) : self.tick + 1, sensors]

    def _evidence(self, _id: str, most: int) -> list[Evidence]:
        found = []
        for rank, (name, since) in enumerate(self.worst[:most]):
            i = NAMES.index(name)
            seen, expected = float(self.rows[since, i]), float(self.rows[:START, i].mean())
            found.append(Evidence(name, 50.0 - rank, seen, expected, 1.0, UNITS[i], 0, since, 50.0 - rank, None))
        return found

    def run(
        self, until: int, *, incident_at: int = START + 2, kind: IncidentKind = IncidentKind.PROCESS
    ) -> list[Incident]:
        told: list[Incident] = []
        nobody = np.full((6, 2), -1, np.int64)
        ring = np.array([[1, 2], [0, 2], [3, 4], [2, 4], [2, 3], [2, 3]])
        quiet = np.zeros(6, np.float32)
        scores = Scores(quiet, quiet, quiet, np.ones(6, np.bool_), nobody, np.zeros((6, 2), np.float32))
        for tick in range(self.tick, until):
            self.tick = tick
            good = np.ones(6, np.bool_)
            row = self.rows[tick]
            snapshot = Snapshot(
                tick, tick * 10**9, 1, NAMES, row, np.zeros(6, np.float32), np.zeros(6, np.int32), good, ring
            )
            self.watch.remember(snapshot)
            found = [self.incident(kind, IncidentState.OPEN)] if tick == incident_at else []
            told += self.watch.update(snapshot, scores, self, found, self._standing)
        self.tick = until
        return told

    def incident(self, kind: IncidentKind, state: IncidentState) -> Incident:
        flag = "stale" if kind is IncidentKind.DATA_QUALITY else None
        parts = tuple(Contribution(name, 0.5, 9.0, 1.0, 2.0, None, "", finding=flag) for name, _ in self.worst)
        return Incident("I", kind, state, Severity.LOW, 0, 0, None, START, START, 1e-6, 3.0, "odd", parts)

    def _standing(self, _id: str) -> Standing:
        return Standing(tuple(name for name, _ in self.worst), self.tick)


@pytest.fixture
def world() -> World:
    return World(load_library(PatternOptions()))


def swap(world: World) -> None:
    world.rows[START:, [0, 1]] = world.rows[START:, [1, 0]]
    world.worst = [("LIT1", START), ("LIT2", START)]


def spoof(world: World) -> None:
    world.rows[START:, 0] -= 250
    world.worst = [("LIT1", START)]


def dead(world: World) -> None:
    world.rows[START:, 3] = 0.0
    world.worst = [("PIT1", START)]


def noisy(world: World) -> None:
    world.rows[START:, 0] += 40 * np.random.default_rng(1).standard_normal(TICKS - START)
    world.worst = [("LIT1", START)]


def frozen(world: World) -> None:
    world.rows[START:, :5] = world.rows[START, :5]
    world.worst = [("AIT9", START + 8)]


def replayed(world: World) -> None:
    world.rows[START:, :4] = world.rows[START - 200 : TICKS - 200, :4]
    world.worst = [("FIT1", START), ("PIT1", START)]


def leaking(world: World) -> None:
    world.rows[START:, 0] -= 8.0 * np.arange(TICKS - START)
    world.worst = [("LIT1", START)]


def driven(world: World) -> None:
    world.rows[START:, 4] = 100.0
    way = 1 - np.exp(-np.arange(TICKS - START) / 6.0)
    world.rows[START:, 3] += 80 * way
    world.rows[START:, 2] += 1.5 * way
    world.worst = [("PIT1", START + 1), ("FIT1", START + 1)]


@pytest.mark.parametrize(
    ("attack", "pattern"),
    [
        (swap, "swapped-sensors"),
        (spoof, "spoofed-reading"),
        (dead, "dead-sensor"),
        (noisy, "noisy-sensor"),
        (frozen, "frozen-controller"),
        (replayed, "replayed-reports"),
        (leaking, "leak"),
        (driven, "unauthorized-command"),
    ],
)
def test_an_attack_is_told_by_its_pattern(attack: object, pattern: str, world: World) -> None:
    assert callable(attack)
    attack(world)
    told = world.run(START + 60, incident_at=START + (10 if attack is frozen else 2))
    assert [one.state for one in told][:2] in ([IncidentState.OPEN], [IncidentState.OPEN, IncidentState.UPDATED])
    last = told[-1].patterns[0]
    assert (last.pattern, last.confidence > 0.5) == (pattern, True)


def test_what_it_looks_like_is_told_again_only_when_it_has_changed(world: World) -> None:
    swap(world)
    told = world.run(TICKS)
    assert [one.state for one in told] == [IncidentState.OPEN]
    assert told[0].patterns[0].pattern == "swapped-sensors"


def test_a_closed_incident_says_it_for_the_last_time_and_is_forgotten(world: World) -> None:
    swap(world)
    world.run(START + 20)
    (closed,) = world.watch.new_run([world.incident(IncidentKind.PROCESS, IncidentState.CLOSED)])
    assert closed.patterns[0].pattern == "swapped-sensors"
    (again,) = world.watch.new_run([world.incident(IncidentKind.PROCESS, IncidentState.CLOSED)])
    assert again.patterns == ()


def test_silence_of_an_area_is_told_by_its_pattern(world: World) -> None:
    world.worst = [(name, START) for name in ("LIT1", "LIT2", "FIT1")]
    (told,) = world.run(START + 20, kind=IncidentKind.DATA_QUALITY)
    assert told.patterns[0].pattern == "lost-view"
    assert told.patterns[0].techniques == ("T0829", "T0804")


def test_without_patterns_nothing_is_said() -> None:
    world = World(Library())
    swap(world)
    assert [one.patterns for one in world.run(TICKS)] == [()]


def test_other_patterns_are_taken_into_use_while_an_incident_is_open(world: World) -> None:
    swap(world)
    world.run(START + 20)
    world.watch.reload(load_library(PatternOptions(disabled=("swapped-sensors",))))
    world.run(START + 40)
    (closed,) = world.watch.new_run([world.incident(IncidentKind.PROCESS, IncidentState.CLOSED)])
    assert "swapped-sensors" not in [match.pattern for match in closed.patterns]
