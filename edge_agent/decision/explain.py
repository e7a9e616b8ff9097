"""Words and evidence for an incident: who, expected against seen, which edges broke. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_agent.decision.facts import SensorFacts
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Contribution, Edge, Scores, rfc3339

_CLEAR_ATTENTION = 0.2
_MOST_EDGES = 6
_SERIES_SENSORS = 5
_SERIES_TICKS = 120


@dataclass(slots=True)
class Evidence:
    """What is held against one sensor, from the tick where it stood out most. Values in ``unit``."""

    sensor: str
    score: float
    seen: float
    expected: float
    scale: float
    unit: str | None
    neighbours: tuple[tuple[str, float], ...]


def gather(snapshot: Snapshot, scores: Scores, sensor: int, score: float, facts: SensorFacts) -> Evidence:
    """Evidence against ``sensor`` (an index) at this tick."""
    weights = [
        (snapshot.sensors[int(j)], float(weight))
        for j, weight in zip(scores.neighbour[sensor], scores.attention[sensor], strict=True)
        if j >= 0 and weight >= _CLEAR_ATTENTION
    ]
    return Evidence(
        sensor=snapshot.sensors[sensor],
        score=score,
        seen=float(snapshot.value[sensor]),
        expected=float(scores.expected[sensor]),
        scale=float(scores.scale[sensor]),
        unit=facts.unit(sensor),
        neighbours=tuple(weights),
    )


def contributions(evidence: list[Evidence], most: int) -> tuple[Contribution, ...]:
    """The worst sensors, each with its share of all evidence."""
    ranked = sorted(evidence, key=lambda item: -item.score)
    total = sum(item.score for item in ranked) or 1.0
    return tuple(
        Contribution(
            sensor=item.sensor,
            share=round(item.score / total, 4),
            score=round(item.score, 2),
            seen=item.seen,
            expected=item.expected,
            unit=item.unit,
            reason=_reason(item),
        )
        for item in ranked[:most]
    )


def broken_edges(evidence: list[Evidence]) -> tuple[Edge, ...]:
    """Neighbours that the worst sensors were expected to follow, and do not."""
    ranked = sorted(evidence, key=lambda item: -item.score)
    edges = [Edge(item.sensor, other, round(weight, 3)) for item in ranked for other, weight in item.neighbours]
    return tuple(edges[:_MOST_EDGES])


def summary(evidence: list[Evidence], first_mover: str | None, opened_ns: int) -> str:
    """One plain sentence for a person."""
    ranked = sorted(evidence, key=lambda item: -item.score)
    worst, others = ranked[0], [item.sensor for item in ranked[1:4]]
    text = f"{worst.sensor} {_reason(worst)}"
    against = [name for name, _ in worst.neighbours if name not in others][:3]
    if others:
        text += f"; also unusual: {', '.join(others)}"
    if against:
        text += f"; it no longer fits {', '.join(against)}"
    if first_mover is not None and first_mover != worst.sensor:
        text += f"; first seen at {first_mover}"
    return f"{text}; since {rfc3339(opened_ns)[11:19]} UTC"


def series(snapshot: Snapshot, evidence: list[Evidence], facts: SensorFacts) -> dict[str, list[float | None]]:
    """The last minutes of the worst sensors, for plotting."""
    index = {name: i for i, name in enumerate(snapshot.sensors)}
    ranked = sorted(evidence, key=lambda item: -item.score)[:_SERIES_SENSORS]
    return {item.sensor: facts.history(index[item.sensor], _SERIES_TICKS) for item in ranked if item.sensor in index}


def number(value: float) -> str:
    """A value as people write it: four significant digits, no needless exponent."""
    if not math.isfinite(value):
        return "?"
    if value and not 1e-6 <= abs(value) < 1e12:
        return f"{value:.4g}"
    return np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="-")


def _reason(item: Evidence) -> str:
    unit = f" {item.unit}" if item.unit else ""
    times = abs(item.seen - item.expected) / max(item.scale, 1e-12)
    return (
        f"reads {number(item.seen)}{unit}, expected {number(item.expected)} ± {number(item.scale)}{unit} "
        f"({number(times)} times its usual deviation)"
    )
