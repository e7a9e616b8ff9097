"""Plant changed, or plant attacked? What the drift detectors say of both, on the simulated plant.

Every case starts from the same plant: two and a half hours of normal operation behind it, two hours ahead, in which the
case acts from the first minute on. Attacks are made as long as the case, and once as short as they are in the
demonstration. Changes are of operation (water, season, demand; they come within half an hour) or of equipment; a
replaced instrument is no change of the plant. A change that stays under suspicion is called a false alarm in the end,
as its operator would.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import bench_detection
import numpy as np
from bench_detection import Watched
from numpy.typing import NDArray
from result import Result

from edge_agent.demo.attacks import ATTACKS
from edge_agent.demo.physics import Wander
from edge_agent.demo.process import Process
from edge_agent.demo.tags import INDEX, NAMES
from edge_agent.drift.findings import DriftKind
from edge_agent.sample import Batch

SEEDS = (1,)
WARM_S, CASE_S, START_S, JUDGED_S = 9_000, 7_200, 60, 1_800
RAMP_S = 1_800.0


Change = Callable[[Process, float], None]


@dataclass(frozen=True)
class Case:
    """``process`` acts on the plant every second, told the share that is done; ``report`` changes rows."""

    name: str
    truth: str
    attack: str | None = None
    duration_s: float | None = None
    process: Change | None = None
    report: Callable[[NDArray[np.float64]], None] | None = None


def _wander(place: str, name: str, start: float, end: float, deviation: float, tau_s: float) -> Change:
    def act(process: Process, share: float) -> None:
        part = getattr(process, place)
        moved = Wander(start + share * (end - start), deviation, tau_s, process.dt)
        moved.value = getattr(part, name).value
        if share < 1.0:  # the mean moves, and what wanders about it with it
            moved.value += (end - start) / RAMP_S
        setattr(part, name, moved)

    return act


def _constant(place: str, name: str, factor: float) -> Change:
    def act(process: Process, share: float) -> None:
        part = getattr(process, place)
        setattr(part, name, getattr(type(part), name) * (1 + (factor - 1) * share))

    return act


def _all(*parts: Change) -> Change:
    def act(process: Process, share: float) -> None:
        for part in parts:
            part(process, share)

    return act


def _calibrated(tag: str, gain: float, offset: float) -> Callable[[NDArray[np.float64]], None]:
    def act(row: NDArray[np.float64]) -> None:
        row[INDEX[tag]] = row[INDEX[tag]] * gain + offset

    return act


_WARMER = _wander("raw", "temperature", 18.0, 28.0, 0.5, 900.0)
_WATER = _wander("dosing", "raw_conductivity", 420.0, 600.0, 8.0, 600.0)

CASES = (
    Case("warmer water", "changed", process=_WARMER),
    Case("colder water", "changed", process=_wander("raw", "temperature", 18.0, 8.0, 0.5, 900.0)),
    Case("saltier water", "changed", process=_WATER),
    Case("muddier water", "changed", process=_wander("dosing", "raw_turbidity", 6.0, 14.0, 0.7, 400.0)),
    Case("lower supply pressure", "changed", process=_wander("raw", "supply", 1.0, 0.7, 0.03, 120.0)),
    Case("higher demand", "changed", process=_wander("permeate", "demand", 0.78, 0.95, 0.08, 150.0)),
    Case("lower demand", "changed", process=_wander("permeate", "demand", 0.78, 0.5, 0.08, 150.0)),
    Case("another season", "changed", process=_all(_WARMER, _WATER)),
    Case("new ultrafiltration membrane", "changed", process=_constant("filtration", "CLEAN", 0.5)),
    Case("new osmosis membrane", "changed", process=_constant("osmosis", "PERMEABILITY", 1.3)),
    Case("stronger raw water pumps", "changed", process=_constant("raw", "HEAD", 1.4)),
    Case("TIT101 replaced", "replaced", report=_calibrated("TIT101", 1.0, 3.0)),
    Case("AIT201 replaced", "replaced", report=_calibrated("AIT201", 1.05, 0.0)),
    Case("PIT501 replaced", "replaced", report=_calibrated("PIT501", 1.03, 0.0)),
    Case("nothing", "normal"),
    *(Case(f"{name} (long)", "attack", attack=name, duration_s=CASE_S) for name in ATTACKS),
    *(Case(name, "attack", attack=name) for name in ATTACKS),
)


@dataclass(frozen=True)
class Outcome:
    """``said``: the status events of a case. ``judged``: those that followed when a person called it a false alarm."""

    case: str
    truth: str
    incident: bool
    said: tuple[str, ...]
    judged: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What the table counts it as, the boldest first."""
        kinds = ("plant_changed", "sensor_drift", "suspected", "model_stale")
        return next((kind for kind in kinds if kind in self.said), "nothing said")


class Watch(Watched):
    """A plant that was warmed up, and what is said of it."""

    def run(self, case: Case) -> Outcome:
        """Play ``case``; then, if a change is under suspicion, call its incident a false alarm and go on."""
        said: list[str] = []
        incident = False
        for second in range(CASE_S):
            if second == START_S and case.attack is not None:
                self.plant.start(case.attack, case.duration_s)
            said += self.second(case, second)
            incident |= self.pipeline.decider.process.open_count > 0
        return Outcome(case.name, case.truth, incident, tuple(said), tuple(self.judge_false(case)))

    def judge_false(self, case: Case) -> list[str]:
        drift = self.pipeline.drift
        assert drift is not None
        suspected = drift.status()["suspected"]
        if case.truth == "attack" or suspected is None:
            return []
        drift.exonerate(suspected)
        return [what for second in range(CASE_S, CASE_S + JUDGED_S) for what in self.second(case, second)]

    def second(self, case: Case, second: int) -> list[str]:
        """Play one second; what was said of drift."""
        share = min(1.0, (second - START_S) / RAMP_S)
        if case.process is not None and share > 0:
            case.process(self.plant.process, share)
        row = self.plant.step()
        if case.report is not None and second >= START_S:
            case.report(row)
        self.clock.advance(1_000_000_000)
        there = np.isfinite(row)
        names = NAMES if there.all() else tuple(name for name, known in zip(NAMES, there, strict=True) if known)
        self.pipeline.take(self.port, Batch(names, row[there], self.clock.monotonic_ns()))
        report = self.pipeline.tick(self.clock.monotonic_ns())
        bodies = [event.body for event in report.events if event.body.get("what") in tuple(DriftKind)]
        return ["suspected" if body["incident"] else body["what"] for body in bodies]

    def in_fork(self, case: Case) -> Outcome:
        """:meth:`run` in a forked process, so that every case meets the same plant."""
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, json.dumps(asdict(self.run(case))).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = json.loads(pipe.read())
        os.wait()
        return Outcome(**{**answer, "said": tuple(answer["said"]), "judged": tuple(answer["judged"])})


def outcomes() -> Iterator[Outcome]:
    """Every case, with every seed."""
    bench_detection.WARM_UP = WARM_S
    for seed in SEEDS:
        watch = Watch(seed, "1 per week")
        for case in CASES:
            outcome = watch.in_fork(case)
            print(seed, outcome, file=sys.stderr, flush=True)
            yield outcome


def run() -> Iterator[Result]:
    """How many attacks were taken for a change of the plant, and how many changes were recognised."""
    found = list(outcomes())
    print(table(found), file=sys.stderr)
    attacks = [one for one in found if one.truth == "attack"]
    changes = [one for one in found if one.truth == "changed"]
    wrong = float(sum(_PLANT in one.said for one in attacks))
    yield Result("attacks_taken_for_changes", wrong, "attacks", float(len(attacks)), "attacks made", "<= 1", wrong <= 1)
    right = float(sum(_PLANT in (*one.said, *one.judged) for one in changes))
    share = right / len(changes)
    yield Result("changes_recognised", right, "changes", float(len(changes)), "changes made", ">= half", share >= 0.5)


_PLANT = DriftKind.PLANT_CHANGED.value


def table(found: list[Outcome]) -> str:
    """Truth by verdict, and every case."""
    lines = []
    kinds = ("plant_changed", "sensor_drift", "suspected", "model_stale", "nothing said")
    lines.append("| truth | cases | with an incident | " + " | ".join(kinds) + " | `plant_changed` once judged false |")
    for truth in dict.fromkeys(one.truth for one in found):
        rows = [one for one in found if one.truth == truth]
        counts = Counter(one.verdict for one in rows)
        judged = sum(_PLANT in one.judged for one in rows)
        cells = [len(rows), sum(one.incident for one in rows), *(counts[kind] for kind in kinds), judged]
        lines.append(f"| {truth} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
