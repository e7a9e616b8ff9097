"""Attacks and faults of the simulated plant, and what the incidents they raise are said to look like.

Each meets the same plant, after two hours of normal history, for as long as it usually lasts. What counts is what
people are told while it acts: the likeliest pattern of all incidents opened. The table goes to
``benchmarks/results/patterns.md``.

The patterns' weights were set on other seeds; still it is one plant, and attacks as strong as a demonstration needs.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from result import RESULTS, Result

from edge_agent.bundle import universal_bundle
from edge_agent.clock import VirtualClock
from edge_agent.config.pattern_file import load_library
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.demo.attacks import ATTACKS
from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import SETTLE_S
from edge_agent.demo.tags import BY_NAME, EDGES, NAMES, STAGES, TAGS
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.intake.options import SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.patterns.options import PatternOptions
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import Incident, PatternMatch

WARM_UP, NORMAL, BEFORE = 7200, 3600, 60
SEEDS = (1, 2, 3)
NO_INCIDENT, NO_PATTERN = "no incident", "no pattern"

TRUE = {
    "spoofed-level": "spoofed-reading",
    "replay": "replayed-reports",
    "slow-drift": "drift",
    "stuck-sensor": "stuck-sensor",
    "bias": "bias",
    "noise-burst": "noisy-sensor",
    "actuator-override": "unauthorized-command",
    "stale-plc": "frozen-controller",
    "multi-stage": "spoofed-then-starved",
    "pump-failure": "pump-without-effect",
    "valve-stuck": "blocked-valve",
    "leak": "leak",
    "clogged-filter": "clogged-filter",
    "dosing-manipulation": "changed-dosing",
    "sensor-swap": "swapped-sensors",
    "delayed-reports": "delayed-reports",
    "dropout": "lost-view",
    "lamp-failure": "actuator-without-effect",
    "cavitation": "cavitation",
    "dead-sensor": "dead-sensor",
    "brute-force": "brute-force-io",
    "campaign": "staged-manipulation",
}
"""The pattern that each attack or fault of the plant is."""


@dataclass(frozen=True)
class Told:
    """What was told while an attack acted: the patterns of the incident that looked most like one, likeliest first."""

    incidents: int
    patterns: tuple[str, ...]
    confidence: float

    @property
    def predicted(self) -> str:
        """The likeliest pattern."""
        return NO_INCIDENT if not self.incidents else self.patterns[0] if self.patterns else NO_PATTERN


class Watched:
    """A plant and the pipeline that watches it, each stage an area with a source of its own."""

    def __init__(self, seed: int) -> None:
        self.plant = Plant(np.random.default_rng(seed))
        self.clock = VirtualClock(1_760_000_000_000_000_000)
        options = PipelineOptions(
            decision=DecisionOptions.model_validate({"false_alarms": "1 per hour"}),
            patterns=load_library(PatternOptions()),
            sensor_options=_options,
            edges=tuple(EDGES),
        )
        detector, new_id = OnnxDetector(universal_bundle()), UlidMaker(random.Random(0))
        self.pipeline = Pipeline(options, detector, StatisticalDetector, self.clock, Metrics(), new_id)
        stages = np.array([tag.stage for tag in TAGS])
        self.ports = [
            (stages == stage, self.pipeline.port(f"stage{stage}", SourceOptions(type="plant"))) for stage in STAGES
        ]
        for _ in range(round(SETTLE_S)):
            self.plant.step()
        self.pipeline.trusting = True
        self.told(WARM_UP)
        self.pipeline.trusting = False

    def told(self, ticks: int) -> dict[str, Incident]:
        """Run for ``ticks``; incidents that were opened, as they were told last."""
        found: dict[str, Incident] = {}
        names, before = np.array(NAMES), {one.id for one in self.pipeline.lifecycle.open_incidents()}
        for _ in range(ticks):
            row = self.plant.step()
            self.clock.advance(1_000_000_000)
            now_ns = self.clock.monotonic_ns()
            for of_stage, port in self.ports:
                there = of_stage & np.isfinite(row)
                if there.any():
                    self.pipeline.take(port, Batch(tuple(names[there].tolist()), row[there], now_ns))
            changed = self.pipeline.tick(now_ns).decision.changed
            found |= {incident.id: incident for incident in changed if incident.id not in before}
        return found

    def in_a_copy(self, attack: str | None) -> list[Told]:
        """What is told of ``attack``, or of each incident in normal operation, in a forked process."""
        read, write = os.pipe()
        if os.fork() == 0:
            self.told(BEFORE)
            if attack is not None:
                self.plant.start(attack)
            incidents = self.told(NORMAL if attack is None else int(ATTACKS[attack].duration_s))
            matches = [one.patterns for one in incidents.values()]
            answer = matches if attack is None else [max(matches, key=_confidence, default=())]
            plain = [[len(matches), [match.pattern for match in one], _confidence(one)] for one in answer]
            os.write(write, json.dumps(plain).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            answer = json.loads(pipe.read())
        os.wait()
        return [Told(count, tuple(patterns), confidence) for count, patterns, confidence in answer]


def run() -> Iterator[Result]:
    """How often the likeliest pattern is the true one, of attacks that raised an incident, and how honest it is."""
    seen: dict[str, list[Told]] = {attack: [] for attack in ATTACKS}
    normal: list[Told] = []
    for seed in SEEDS:
        watched = Watched(seed)
        for attack in ATTACKS:
            seen[attack] += watched.in_a_copy(attack)
        normal += watched.in_a_copy(None)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "patterns.md").write_text("\n".join(_table(seen, normal)) + "\n")
    found = [(TRUE[attack], told) for attack, runs in seen.items() for told in runs if told.incidents]
    made = float(len(ATTACKS) * len(SEEDS))
    first = float(sum(told.predicted == true for true, told in found))
    among = float(sum(true in told.patterns for true, told in found))
    named = [(told.confidence, told.predicted == true) for true, told in found if told.patterns]
    named += [(told.confidence, False) for told in normal if told.patterns]
    claimed, right = float(sum(share for share, _ in named)), float(sum(hit for _, hit in named))
    yield Result(
        "patterns_incidents", float(len(found)), "attacks", made, "attacks made", "> 3/4", len(found) > 0.75 * made
    )
    yield Result("patterns_first", first, "right", float(len(found)), "incidents", "> 3/4", first > 0.75 * len(found))
    yield Result(
        "patterns_among", among, "among those told", float(len(found)), "incidents", "> 3/4", among > 0.75 * len(found)
    )
    yield Result(
        "patterns_confidence",
        claimed,
        "right, claimed",
        right,
        "right",
        "0.8 to 1.25",
        0.8 * right < claimed < 1.25 * right,
    )


def _options(name: str) -> SensorOptions:
    tag = BY_NAME[name]
    given = {"min": tag.low, "max": tag.high, "area": STAGES[tag.stage], "monitor": tag.kind == "sensor"}
    unit = {"unit": tag.unit} if tag.unit else {}
    stuck = {"stuck_after": "45s"} if name.startswith("LIT") else {}
    return SensorOptions.model_validate({**given, **unit, **stuck})


def _confidence(matches: tuple[PatternMatch, ...]) -> float:
    return matches[0].confidence if matches else 0.0


def _table(seen: dict[str, list[Told]], normal: list[Told]) -> Iterator[str]:
    """Which pattern was told, beside the true one."""
    runs = len(SEEDS)
    yield "| attack or fault | pattern | incident raised | told first | told at all | otherwise told |"
    yield "|---|---|---|---|---|---|"
    for attack, told in seen.items():
        true = TRUE[attack]
        raised = sum(bool(one.incidents) for one in told)
        first, among = sum(one.predicted == true for one in told), sum(true in one.patterns for one in told)
        others = Counter(one.predicted for one in told if one.predicted not in (true, NO_INCIDENT))
        wrong = ", ".join(
            f"`{name}` {count}" if name != NO_PATTERN else f"{name} {count}" for name, count in others.items()
        )
        yield f"| {attack} | `{true}` | {raised} of {runs} | {first} | {among} | {wrong} |"
    others = Counter(one.predicted for one in normal)
    wrong = ", ".join(f"{name} {count}" for name, count in others.items())
    yield f"| none, {runs} h of normal operation | | {len(normal)} incidents | | | {wrong} |"
