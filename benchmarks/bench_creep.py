"""An attack that creeps: one sensor is moved ever so slowly. Which rates are caught, after how much, by what?

A rate is in usual deviations of the sensor (its standard deviation in the history) a time. Each creep starts from the
same watched plant with a normal history behind it, goes on to ``MOST`` deviations, stays there for ``STAYS_S``, and
ends as soon as it is caught: by a process incident, or by a drift event that names the sensor. Noted beside it: when a
limit of the user's would have held (one usual deviation above the highest reading of the history), how far p-values
were stretched meanwhile, and how much of the creep the companions' relation has come to expect (0: nothing, 1: the
false reading is what is normal).

Slow creeps are run at longer ticks, so that days take seconds: what learns by ticks learns less of them than at every
second, what looks at blocks of ticks (drift) sees them nearly alike. Readings of the linear plant are spoofed on their
way to the gateway; on the simulated water line the controllers believe them too.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from math import exp
from multiprocessing import get_context
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from result import Result

from edge_agent.bundle import universal_bundle
from edge_agent.clock import VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.demo.attacks import Attack, Injection, Place
from edge_agent.demo.effects import Offset
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import SETTLE_S
from edge_agent.demo.tags import EDGES, NAMES, TAGS
from edge_agent.drift import DriftMonitor, DriftOptions
from edge_agent.drift.findings import DriftKind
from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.intake.options import SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport
from edge_agent.pipeline.options import TickOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.rules.options import RuleOptions
from edge_agent.sample import Batch
from edge_agent.verdict import SENSOR_MEMBERS, IncidentKind, IncidentState, Scores

Floats = NDArray[np.float64]

MOST, STAYS_S = 8.0, 5_400.0
RATES = {  # a second per usual deviation, by name; with the tick at which it is run
    "1 a minute": (60.0, 1.0),
    "1 in 10 minutes": (600.0, 1.0),
    "1 an hour": (3_600.0, 10.0),
    "1 in 6 hours": (21_600.0, 60.0),
    "1 a day": (86_400.0, 60.0),
}
HISTORY = {1.0: 7_500, 10.0: 8_000, 60.0: 3_000}
"""Ticks of it, by tick length; then a fifth of it as any other time, so that nothing is new any more."""
_LAST = 60  # ticks over which it is looked at what was learned
_RELATION = SENSOR_MEMBERS.index("relation")
_DRIFTS = (DriftKind.SENSOR_DRIFT, DriftKind.PLANT_CHANGED)
LINEAR, WATER = "linear", "water line"
SENSORS = {LINEAR: ("related", "alone"), WATER: ("AIT201", "AIT202", "LIT301")}
WORLDS = ((LINEAR, 1, "1 per week"), (LINEAR, 2, "1 per week"), (LINEAR, 1, "1 per day"), (WATER, 1, "1 per week"))


class Creeping(Protocol):
    """A plant of which one sensor can be moved away slowly."""

    names: tuple[str, ...]

    def row(self) -> Floats:
        """Readings of the next tick, NaN where there is none."""

    def creep(self, sensor: str, per_s: float, most: float) -> None:
        """From now on ``sensor`` reads more by ``per_s`` each second, in its unit, up to ``most``."""


class Linear:
    """Seven sensors of three slow causes, one that has nothing to do with them, and noise."""

    names = ("related", "b", "c", "d", "e", "f", "g", "alone")

    def __init__(self, seed: int, tick_s: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._keep = exp(-tick_s / 300.0)
        self._causes = self._rng.normal(size=4)
        self._weights = np.zeros((8, 4))
        self._weights[:7, :3] = self._rng.normal(size=(7, 3))
        self._weights[7, 3] = 1.0
        self._tick_s = tick_s
        self._step, self._most = np.zeros((2, 8))
        self._offset = np.zeros(8)

    def row(self) -> Floats:
        news = self._rng.normal(size=4)
        self._causes = self._keep * self._causes + np.sqrt(1.0 - self._keep**2) * news
        self._offset = np.minimum(self._offset + self._step, self._most)
        return self._weights @ self._causes + 0.3 * self._rng.normal(size=8) + self._offset

    def creep(self, sensor: str, per_s: float, most: float) -> None:
        place = self.names.index(sensor)
        self._step[place], self._most[place] = per_s * self._tick_s, most


class WaterLine:
    """The simulated water line of the demonstration."""

    names = NAMES

    def __init__(self, seed: int, tick_s: float) -> None:
        self._plant = Plant(np.random.default_rng(seed), tick_s)
        for _ in range(round(SETTLE_S / tick_s)):
            self._plant.step()

    def row(self) -> Floats:
        return self._plant.step()

    def creep(self, sensor: str, per_s: float, most: float) -> None:
        duration_s = most / per_s
        attack = Attack(
            "creep",
            "",
            0,
            frozenset({Place.INSTRUMENTS}),
            (sensor,),
            most,
            "",
            lambda by: Offset((sensor,), by, duration_s),
        )
        self._plant.schedule(Injection(attack, self._plant.seconds, 2.0 * duration_s, most))


@dataclass(frozen=True)
class Outcome:
    """``caught``: by what, None if not. ``deviations``: of the creep by then, else all of it; ``limit_at``: when the
    limit held, None if it had not by then. ``stretch``: of p-values, before and at the end. ``learned``: share of the
    creep that the relation expects. ``events``: of the control, where nothing creeps."""

    plant: str
    seed: int
    budget: str
    rate: str
    sensor: str | None
    caught: str | None
    deviations: float
    limit_at: float | None
    stretch: tuple[float, float]
    learned: float
    events: int = 0


class Watched:
    """A plant at one tick length, and the pipeline that watches it, with a normal history behind them."""

    def __init__(self, plant: str, seed: int, budget: str, tick_s: float) -> None:
        self.plant: Creeping = Linear(seed, tick_s) if plant == LINEAR else WaterLine(seed, tick_s)
        self.kind, self.seed, self.budget, self.tick_s = plant, seed, budget, tick_s
        self.clock = VirtualClock(1_760_000_000_000_000_000)
        actuators = {tag.name for tag in TAGS if tag.kind == "actuator"}
        options = PipelineOptions(
            tick=TickOptions.model_validate({"period": f"{tick_s:g}s"}),
            decision=DecisionOptions.model_validate({"false_alarms": budget}),
            sensor_options=lambda name: SensorOptions(monitor=name not in actuators),
            edges=tuple(EDGES) if plant == WATER else (),
        )
        detector, new_id = OnnxDetector(universal_bundle()), UlidMaker(random.Random(0))
        self.pipeline = Pipeline(options, detector, StatisticalDetector, self.clock, Metrics(), new_id)
        self.port = self.pipeline.port("plant", SourceOptions(type="plant"))
        self.pipeline.trusting = True
        history = np.array([self.tick()[0] for _ in range(HISTORY[tick_s])])
        self.pipeline.trusting = False
        for _ in range(HISTORY[tick_s] // 5):
            self.tick()
        self.usual = dict(zip(self.plant.names, np.nanstd(history, axis=0).tolist(), strict=True))
        self.highest = dict(zip(self.plant.names, np.nanmax(history, axis=0).tolist(), strict=True))

    def tick(self) -> tuple[Floats, TickReport]:
        """One tick: the readings, and what was made of them."""
        row = self.plant.row()
        self.clock.advance(round(self.tick_s * 1e9))
        there = np.isfinite(row)
        names = tuple(itertools.compress(self.plant.names, there.tolist()))
        self.pipeline.take(self.port, Batch(names, row[there], self.clock.monotonic_ns()))
        return row, self.pipeline.tick(self.clock.monotonic_ns())

    def creep(self, rate: str, sensor: str) -> Outcome:
        """Move ``sensor`` until it is noticed."""
        pipeline, usual, per_s = self.pipeline, self.usual[sensor], 1.0 / RATES[rate][0]
        limit = {"sensors": [sensor], "limit": {"above": self.highest[sensor] + usual}, "for": "60s"}
        pipeline.rules.reload({"limit": RuleOptions.model_validate(limit)}, lambda _name: {})
        self.plant.creep(sensor, usual * per_s, usual * MOST)
        before = pipeline.decider.stretch
        limit_at = caught = None
        shares: list[float] = []
        ticks = round((MOST / per_s + STAYS_S) / self.tick_s)
        for tick in range(1, ticks + 1):
            row, report = self.tick()
            moved = min(tick * self.tick_s * per_s, MOST)
            if limit_at is None and _limit_held(report):
                limit_at = moved
            shares = [*shares[1 - _LAST :], self._expected(report, row, sensor, moved * usual)]
            caught = _caught(report, sensor)
            if caught is not None:
                break
        stretch = (round(before, 2), round(pipeline.decider.stretch, 2))
        learned = float(np.nanmean(shares)) if np.isfinite(shares).any() else float("nan")
        names = (self.kind, self.seed, self.budget, rate, sensor)
        return Outcome(*names, caught, moved, limit_at, stretch, round(learned, 2))

    def quiet(self, rate: str) -> Outcome:
        """The control: as long as the history, and nothing creeps."""
        before = self.pipeline.decider.stretch
        reports = (self.tick()[1] for _ in range(HISTORY[self.tick_s]))
        events = sum(_caught(report, None) is not None for report in reports)
        stretch = (round(before, 2), round(self.pipeline.decider.stretch, 2))
        return Outcome(self.kind, self.seed, self.budget, rate, None, None, 0.0, None, stretch, 0.0, events)

    def _expected(self, report: TickReport, row: Floats, sensor: str, creep: float) -> float:
        """The share of ``creep`` that the companions' relation expects in the reading of ``sensor``."""
        forecasts = report.scores.forecasts
        if forecasts is None:
            return float("nan")
        expected = forecasts[_RELATION, report.snapshot.sensors.index(sensor)]
        return float((expected - (row[self.plant.names.index(sensor)] - creep)) / creep)

    def in_fork(self, rate: str, sensor: str | None) -> Outcome:
        """:meth:`creep` in a forked process, so that every creep meets the same plant."""
        read, write = os.pipe()
        if os.fork() == 0:
            outcome = self.quiet(rate) if sensor is None else self.creep(rate, sensor)
            os.write(write, json.dumps(asdict(outcome)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = json.loads(pipe.read())
        os.wait()
        return Outcome(**{**answer, "stretch": tuple(answer["stretch"])})


def _limit_held(report: TickReport) -> bool:
    return any("limit" in incident.rules for incident in report.decision.changed)


def _caught(report: TickReport, sensor: str | None) -> str | None:
    """By what the tick gave the creep away; ``sensor`` None: whatever was said of any sensor."""
    for incident in report.decision.changed:
        if incident.kind is IncidentKind.PROCESS and incident.state is IncidentState.OPEN:
            return "incident"
    for event in report.events:
        named = [shift["sensor"] for shift in event.body.get("sensors", ()) if isinstance(shift, dict)]
        if event.body.get("what") in (DriftKind.SENSOR_DRIFT, DriftKind.PLANT_CHANGED) and (
            not sensor or sensor in named
        ):
            return str(event.body["what"])
    return None


def _world(plant: str, seed: int, budget: str, tick_s: float) -> list[Outcome]:
    watched = Watched(plant, seed, budget, tick_s)
    rates = [rate for rate, (_, tick) in RATES.items() if tick == tick_s]
    found = [watched.in_fork(rate, sensor) for rate in rates for sensor in SENSORS[plant]]
    return [*found, watched.in_fork(f"nothing, ticks of {tick_s:g} s", None)]


def drift_alone(per_day: float, seed: int) -> Outcome:
    """The drift monitor on eight sensors that are not related, ticks of half a minute, two days of history."""
    rng, keep, tick_s, days = np.random.default_rng(seed), exp(-30.0 / 300.0), 30.0, 2.0
    monitor, names = DriftMonitor(DriftOptions(), tick_s), tuple(f"s{i}" for i in range(8))
    zeros, ones, none = np.zeros(8, np.float32), np.ones(8, np.bool_), np.full((8, 1), -1)
    quality, scores = np.zeros(8, np.int32), Scores(zeros + 1, zeros, zeros + 1, ones, none, zeros[:, None])
    causes, moved, caught = rng.normal(size=8), 0.0, None
    for tick in range(round((days + MOST / per_day) * 86_400.0 / tick_s)):
        causes = keep * causes + np.sqrt(1.0 - keep**2) * rng.normal(size=8)
        value = (causes + 0.3 * rng.normal(size=8)) / np.hypot(1.0, 0.3)
        moved = max(0.0, tick * tick_s / 86_400.0 - days) * per_day
        value[0] += moved
        found = monitor.observe(Snapshot(tick, 0, 0, names, value, zeros, quality, ones, none), scores, None)
        if any(shift.sensor == "s0" for finding in found if finding.kind in _DRIFTS for shift in finding.shifts):
            caught = DriftKind.SENSOR_DRIFT.value
            break
    rate = f"{per_day:.2g} a day"
    return Outcome("drift alone", seed, "", rate, "s0", caught, moved, None, (1.0, 1.0), 0.0)


def outcomes() -> Iterator[Outcome]:
    """Every creep on every plant, two plants at a time; then what drift alone makes of those that take days."""
    worlds = [(*world, tick_s) for tick_s in reversed(HISTORY) for world in reversed(WORLDS)]
    with ProcessPoolExecutor(2, get_context("fork")) as pool:
        for found in pool.map(_world, *zip(*worlds, strict=True)):
            for outcome in found:
                print(outcome, file=sys.stderr, flush=True)
                yield outcome
    for per_day, seed in itertools.product((24.0, 4.0, 1.0, 1 / 3), (1, 2)):
        yield drift_alone(per_day, seed)


def run() -> Iterator[Result]:
    """The share caught of each rate, beside what is said of plants where nothing creeps."""
    found = list(outcomes())
    print(table(found), file=sys.stderr)
    quiet = sum(one.events for one in found if one.sensor is None)
    for rate in RATES:
        rows = [one for one in found if one.rate == rate]
        caught = float(sum(one.caught is not None for one in rows))
        name = "creeps_caught_" + rate.replace(" ", "_")
        met = caught > len(rows) / 2
        yield Result(name, caught, "creeps", float(len(rows)), "creeps made", "> half", met)
    slow = [one for one in found if one.plant == "drift alone"]
    caught = float(sum(one.caught is not None for one in slow))
    met = caught == len(slow)
    yield Result("creeps_caught_by_drift_alone", caught, "creeps", float(len(slow)), "creeps made", "all", met)
    controls = float(sum(one.sensor is None for one in found))
    yield Result("creep_false", float(quiet), "events", controls, "quiet plants", "<= 1 in 4", quiet <= controls / 4)


def table(found: list[Outcome]) -> str:
    """A row for each plant, sensor and rate: means and counts over seeds and budgets."""
    lines = [
        "| plant | sensor | rate | creeps | incident | drift | after (deviations) | limit after | stretch | learned |"
    ]
    keys = dict.fromkeys((one.plant, one.sensor, one.rate) for one in found if one.sensor is not None)
    for key in keys:
        rows = [one for one in found if (one.plant, one.sensor, one.rate) == key]
        incident = sum(one.caught == "incident" for one in rows)
        drift = sum(one.caught in tuple(DriftKind) for one in rows)
        after = _spread([one.deviations for one in rows if one.caught is not None])
        limit = _spread([one.limit_at for one in rows if one.limit_at is not None])
        stretch = f"{max(one.stretch[0] for one in rows)} → {max(one.stretch[1] for one in rows)}"
        learned = _spread([one.learned for one in rows])
        cells = [*key, len(rows), incident, drift, after, limit, stretch, learned]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _spread(numbers: list[float]) -> str:
    if not numbers:
        return ""
    low, high = min(numbers), max(numbers)
    return f"{low:.2g}" if high - low < 0.05 else f"{low:.2g} to {high:.2g}"
