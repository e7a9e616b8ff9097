"""A tick of the user's rules, beside the same conditions as functions written by hand in Python, without states."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from result import Result

from edge_agent.graph.snapshot import Snapshot
from edge_agent.rules.incidents import RuleIncidents
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.rules import Rules

GOAL_MS = 5.0
TICKS = 300


class Units:
    def unit(self, sensor: int) -> str | None:
        return None


def run() -> Iterator[Result]:
    """1,000 expressions over two sensors, 1,000 limits, and one limit on 10,000 sensors."""
    expressions = {f"r{i}": {"when": f"s{i} == on and s{i + 1} < 0.1 for 30s"} for i in range(1_000)}
    by_hand: list[Callable[[list[float]], bool]] = [
        lambda v, i=i: v[i] == 1.0 and v[i + 1] < 0.1  # type: ignore[misc]
        for i in range(1_000)
    ]
    yield from _case("rules_1000_expressions", expressions, 1_001, by_hand)
    limits = {f"r{i}": {"sensors": [f"s{i}"], "limit": {"above": 3, "deadband": 1}, "for": "30s"} for i in range(1_000)}
    yield from _case("rules_1000_limits", limits, 1_000, [lambda v, i=i: v[i] > 3.0 for i in range(1_000)])  # type: ignore[misc]
    wide = {"r": {"sensors": ["s*"], "limit": {"above": 3, "deadband": 1}, "for": "30s"}}
    yield from _case("rules_one_on_10000", wide, 10_000, [lambda v, i=i: v[i] > 3.0 for i in range(10_000)])  # type: ignore[misc]


def _case(
    name: str,
    rules: Mapping[str, Mapping[str, object]],
    count: int,
    by_hand: list[Callable[[list[float]], bool]],
) -> Iterator[Result]:
    options = {key: RuleOptions.model_validate(dict(rule)) for key, rule in rules.items()}
    watched = Rules(options, 1.0, 30.0, lambda _name: {})
    incidents = RuleIncidents(str, 8)
    snapshots = list(_snapshots(count))
    ours, theirs = [], []
    for tick, snapshot in enumerate(snapshots):
        began = time.perf_counter()
        watched.update(snapshot, tick * 10**9)
        watched.counts()
        incidents.update(watched.holding, snapshot, Units(), [])
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        values = np.where(snapshot.usable, snapshot.value, np.nan).tolist()
        [function(values) for function in by_hand]
        theirs.append(time.perf_counter() - began)
    for percent, suffix in ((99, ""), (50, "_p50")):
        value, control = (float(np.percentile(times[10:], percent)) * 1e3 for times in (ours, theirs))
        goal, unit = f"< {GOAL_MS:g} ms", f"ms p{percent}"
        yield Result(f"{name}{suffix}", value, unit, control, "functions by hand", goal, value < GOAL_MS)


def _snapshots(count: int) -> Iterator[Snapshot]:
    rng = np.random.default_rng(0)
    names = tuple(f"s{i}" for i in range(count))
    zeros = np.zeros(count, np.int32)
    for tick in range(TICKS):
        value = np.round(rng.normal(size=count), 1)
        usable = rng.random(count) > 0.01
        age, neighbour = np.zeros(count, np.float32), np.full((count, 1), -1)
        yield Snapshot(tick, 1_760_000_000_000_000_000 + tick * 10**9, 0, names, value, age, zeros, usable, neighbour)
