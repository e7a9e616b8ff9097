"""Attacks of the simulated plant found by the universal model under a budget, beside what it cries on normal operation.

Not a measure of quality on other plants: the attacks are as strong as a demonstration needs them.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator

import numpy as np
from result import Result

from edge_agent.bundle import universal_bundle
from edge_agent.clock import VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.demo.attacks import ATTACKS
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import SETTLE_S
from edge_agent.demo.tags import EDGES, NAMES, TAGS
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.intake.options import SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import IncidentState

WARM_UP, NORMAL, BEFORE, AFTER = 7200, 7200, 60, 10
SEEDS = (1, 2, 3)


class Watched:
    """A plant and the pipeline that watches it, as in the demonstration: actuators inform but raise nothing."""

    def __init__(self, seed: int, budget: str) -> None:
        self.plant = Plant(np.random.default_rng(seed))
        self.clock = VirtualClock(1_760_000_000_000_000_000)
        actuators = {tag.name for tag in TAGS if tag.kind == "actuator"}
        options = PipelineOptions(
            decision=DecisionOptions.model_validate({"false_alarms": budget}),
            sensor_options=lambda name: SensorOptions(monitor=name not in actuators),
            edges=tuple(EDGES),
        )
        detector, new_id = OnnxDetector(universal_bundle()), UlidMaker(random.Random(0))
        self.pipeline = Pipeline(options, detector, StatisticalDetector, self.clock, Metrics(), new_id)
        self.port = self.pipeline.port("plant", SourceOptions(type="plant"))
        for _ in range(round(SETTLE_S)):
            self.plant.step()
        self.pipeline.trusting = True  # as the demonstration runs a normal history through first
        self.opened(WARM_UP)
        self.pipeline.trusting = False

    def opened(self, ticks: int) -> list[int]:
        """Run for ``ticks``; the ticks at which an incident was opened."""
        found = []
        for tick in range(ticks):
            row = self.plant.step()
            self.clock.advance(1_000_000_000)
            there = np.isfinite(row)
            names = NAMES if there.all() else tuple(name for name, known in zip(NAMES, there, strict=True) if known)
            self.pipeline.take(self.port, Batch(names, row[there], self.clock.monotonic_ns()))
            report = self.pipeline.tick(self.clock.monotonic_ns())
            if any(incident.state is IncidentState.OPEN for incident in report.decision.changed):
                found.append(tick)
        return found

    def in_a_copy(self, attack: str | None) -> list[int]:
        """:meth:`opened` from here on in a forked process, so that every attack meets the same plant."""
        read, write = os.pipe()
        if os.fork() == 0:
            if attack is None:
                found = self.opened(NORMAL)
            else:
                self.opened(BEFORE)
                self.plant.start(attack)
                found = self.opened(int(ATTACKS[attack].duration_s) + AFTER)
            os.write(write, json.dumps(found).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = pipe.read()
        os.wait()
        return list(json.loads(answer))


def run() -> Iterator[Result]:
    """Attacks found and false incidents, for two budgets, summed over the seeds."""
    for budget, allowed in (("1 per hour", 2.0), ("1 per day", 1 / 12)):
        found = false = 0
        for seed in SEEDS:
            watched = Watched(seed, budget)
            found += sum(bool(watched.in_a_copy(attack)) for attack in ATTACKS)
            false += len(watched.in_a_copy(None))
        name, attacks = budget.replace(" ", "_"), float(len(ATTACKS) * len(SEEDS))
        yield Result(
            f"attacks_found_{name}", float(found), "attacks", attacks, "attacks made", "> half", found > attacks / 2
        )
        expected = allowed * len(SEEDS)
        yield Result(
            f"false_incidents_{name}",
            float(false),
            f"in {2 * len(SEEDS)} h",
            expected,
            "budget",
            "<= 2 x",
            false <= 2 * expected,
        )
