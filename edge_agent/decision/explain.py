"""Words and evidence for an incident: who, since when, expected against seen, which edges broke. Pure.

::

    readings ──► motion ──────────────┐
    scores ────► member most surprised ├──► Evidence of each sensor ──► contributions, sentence, edges,
    relations ─► who speaks against it ┘         (worst ones in full)      propagation, series
    trail ─────► since when ──────────┘

A tick in alarm costs little however many sensors take part: all are noted, only the worst ``_FULL`` are looked into.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision import phrases
from edge_agent.decision.facts import Relation, SensorFacts
from edge_agent.decision.motion import Readings, motion
from edge_agent.decision.trail import TICKS, Trail
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import MODEL, SENSOR_MEMBERS, Contribution, Edge, Finding, Scores, Step

OUTSTANDING = 9.0
"""Score from which on a sensor stands out by itself: three usual deviations, squared."""
_FULL = 8  # sensors that are looked into at one tick
_RENEW = 1.1  # times its score after which a sensor's evidence is renewed
_AS_USUAL = 4.0  # score up to which a member is not surprised
_CLEAR_ATTENTION = 0.2
_CLEAR_SHARE = 0.15
_MOST_RELATIONS = 3
_PULLING = 0.25  # share of the residual by which a neighbour that speaks against it moves the expectation
_MOST_EDGES = 6
_MOST_STEPS = 20
_SERIES_SENSORS, _SERIES_POINTS = 5, 120
_ALSO = 3

_RELATION = SENSOR_MEMBERS.index("relation")
_SHARED = SENSOR_MEMBERS.index("shared history")
_OWN = SENSOR_MEMBERS.index("own history")
_PERSISTENCE = SENSOR_MEMBERS.index("persistence")
_BLAME = attrgetter("blame", "score")
_UPWARD = (Finding.RISES, Finding.JUMPS_UP, Finding.ABOVE)
_FROM = {
    "own history": " by its own past",
    "shared history": " by its past and that of others",
    "persistence": " by its past and that of others",
    "relation": " by what others read",
    MODEL: "",
}


@dataclass(slots=True)
class Evidence:
    """What is held against one sensor, from when it stood out most. Values in ``unit``, those of wall time ``at_ns``.

    ``neighbours``: whom it was expected to follow, and with which weight. ``first_tick``: since when it stands out.
    ``blame``: by which it is ranked, summed over the ticks in which it stood out. ``member``: who expected this.
    ``motion`` and ``against``: words, empty where there is nothing to say. ``full``: it was looked into.
    """

    sensor: str
    score: float
    seen: float
    expected: float
    scale: float
    unit: str | None
    at_ns: int
    first_tick: int
    blame: float
    finding: str | None
    member: str = MODEL
    motion: str = ""
    against: str = ""
    neighbours: tuple[tuple[str, float], ...] = ()
    full: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick in alarm. ``strength`` (N): by how much each sensor stands out."""

    snapshot: Snapshot
    scores: Scores
    strength: NDArray[np.float32]
    facts: SensorFacts
    trail: Trail
    period_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """What the worst sensors read and what was expected, ``step_s`` apart from ``first_ns`` on (wall time)."""

    seen: dict[str, list[float | None]] = field(default_factory=dict)
    expected: dict[str, list[float | None]] = field(default_factory=dict)
    first_ns: int | None = None
    step_s: float | None = None

    def fields(self) -> dict[str, Any]:
        """As fields of an incident."""
        return {
            "series": self.seen,
            "expected_series": self.expected,
            "series_first_ns": self.first_ns,
            "series_step_s": self.step_s,
        }


def gather(known: dict[str, Evidence], moment: Moment, group: list[int]) -> bool:
    """Add the evidence of this tick against the sensors in ``group`` to what is ``known``; True when some are new."""
    names, sensors = moment.snapshot.sensors, np.array(group, np.int64)
    strengths, parts = moment.strength[sensors].tolist(), moment.trail.newest_blame[sensors].tolist()
    new, renewed = [], set()
    for i, strength, part in zip(group, strengths, parts, strict=True):
        item = known.get(names[i])
        if item is None:
            new.append(i)
            continue
        item.blame += part
        if strength > _RENEW * item.score:
            item.score = strength
            renewed.add(names[i])
    if new:
        _note(known, moment, new)
    worst = nlargest(_FULL, known.values(), key=_BLAME)
    due = {item.sensor for item in worst if not item.full or item.sensor in renewed}
    if due:
        _look_into(known, moment, [i for i in group if names[i] in due])
    return bool(new)


def contributions(evidence: list[Evidence], most: int) -> tuple[Contribution, ...]:
    """The worst sensors, each with its share of all evidence."""
    total = sum(item.blame for item in evidence) or 1.0
    return tuple(
        Contribution(
            sensor=item.sensor,
            share=round(item.blame / total, 4),
            score=round(item.score, 2),
            seen=item.seen,
            expected=item.expected,
            unit=item.unit,
            reason=_reason(item),
            scale=item.scale,
            finding=item.finding,
            judged_by=item.member,
        )
        for item in ranked(evidence, most)
    )


def broken_edges(evidence: list[Evidence]) -> tuple[Edge, ...]:
    """Neighbours that the worst sensors were expected to follow, and do not; each pair once."""
    found: dict[frozenset[str], Edge] = {}
    for item in ranked(evidence, _FULL):
        for other, weight in item.neighbours:
            found.setdefault(frozenset((item.sensor, other)), Edge(item.sensor, other, round(weight, 3)))
    return tuple(found.values())[:_MOST_EDGES]


def propagation(evidence: list[Evidence], period_s: float) -> tuple[Step, ...]:
    """In which order the sensors began to stand out, of those that did so at the same tick the strongest first."""
    ordered = nsmallest(_MOST_STEPS, evidence, key=lambda item: (item.first_tick, -item.score))
    return tuple(
        Step(item.sensor, item.first_tick, round((item.first_tick - ordered[0].first_tick) * period_s, 3))
        for item in ordered
    )


def summary(evidence: list[Evidence], steps: tuple[Step, ...], first_ns: int, now_ns: int) -> str:
    """One plain sentence for a person. ``first_ns``: wall time of the first step."""
    worst, *others = ranked(evidence, 1 + _ALSO)
    text = f"{worst.sensor} {worst.motion or _comparison(worst)}"
    if worst.score < OUTSTANDING:
        text = f"many sensors are a little unlike usual, none stands out; the worst: {text}"
    if worst.against:
        text += f", {worst.against}"
    if others:
        text += f"; also unusual: {phrases.listed([item.sensor for item in others], len(evidence) - 1)}"
    text += f"; first seen {phrases.time_of(first_ns, now_ns)}"
    return text if not steps or steps[0].sensor == worst.sensor else f"{text} at {steps[0].sensor}"


def series(snapshot: Snapshot, evidence: list[Evidence], facts: SensorFacts, trail: Trail, period_s: float) -> Series:
    """The last minutes of the worst sensors, for plotting; where they are longer, every second tick and so on."""
    index = {name: i for i, name in enumerate(snapshot.sensors)}
    chosen = [item for item in ranked(evidence, _SERIES_SENSORS) if item.sensor in index]
    if not chosen:
        return Series()
    values = facts.readings(np.array([index[item.sensor] for item in chosen], np.int64), TICKS)
    step = -(-len(values) // _SERIES_POINTS)
    ticks = range(snapshot.tick - len(values) + 1, snapshot.tick + 1)
    picked = range(len(values) - 1, -1, -step)[::-1]  # the newest one always
    seen, expected = {}, {}
    for column, item in enumerate(chosen):
        told = trail.expected(index[item.sensor], item.member, ticks)
        seen[item.sensor] = [_rounded(float(values[at, column])) for at in picked]
        expected[item.sensor] = [_rounded(float(told[at])) for at in picked]
    first_ns = snapshot.time_ns - round((len(values) - 1 - picked[0]) * period_s * 1e9)
    return Series(seen, expected, first_ns, step * period_s)


def _note(known: dict[str, Evidence], moment: Moment, new: list[int]) -> None:
    """By what the model says of them."""
    names, scores, sensors = moment.snapshot.sensors, moment.scores, np.array(new, np.int64)
    onsets = np.minimum(moment.trail.onset[sensors], moment.snapshot.tick)
    for i, strength, seen, expected, scale, onset, so_far in zip(
        new,
        moment.strength[sensors].tolist(),
        moment.snapshot.value[sensors].tolist(),
        scores.expected[sensors].tolist(),
        scores.scale[sensors].tolist(),
        onsets.tolist(),
        moment.trail.blame(sensors, onsets).tolist(),
        strict=True,
    ):
        known[names[i]] = Evidence(
            sensor=names[i],
            score=strength,
            seen=seen,
            expected=expected,
            scale=scale,
            unit=moment.facts.unit(i),
            at_ns=moment.snapshot.time_ns,
            first_tick=onset,
            blame=so_far,
            finding=_side(seen, expected),
        )


def _look_into(known: dict[str, Evidence], moment: Moment, sensors: list[int]) -> None:
    """Motion, the member most surprised and the neighbours, of the worst."""
    names = moment.snapshot.sensors
    values = moment.facts.readings(np.array(sensors, np.int64), TICKS)
    tick = moment.snapshot.tick
    for column, i in enumerate(sensors):
        item = known[names[i]]
        item.full, item.motion, item.against = True, "", ""
        since = max(0, len(values) - 1 - (tick - item.first_tick))
        _judge(item, moment, i)
        told = moment.trail.expected(i, item.member, range(tick + 1 - (len(values) - since), tick + 1))
        _compare(item, values[since:, column], told, moment)
        moved = motion(Readings(values[:, column], since, item.unit, moment.period_s))
        if moved is not None:
            item.finding, item.motion = moved.finding, moved.text
        _ask_neighbours(item, moment, i)


def _judge(item: Evidence, moment: Moment, sensor: int) -> None:
    """By the member that is most surprised at this tick, the model where there is no other."""
    scores = moment.scores
    item.member, item.scale, item.at_ns = MODEL, float(scores.scale[sensor]), moment.snapshot.time_ns
    item.seen, item.expected = float(moment.snapshot.value[sensor]), float(scores.expected[sensor])
    if scores.member_scores is None or scores.forecasts is None:
        return
    surprise = np.nan_to_num(scores.member_scores[:, sensor], nan=-1.0)
    place = int(surprise.argmax())
    expert = _SHARED if place == _PERSISTENCE else place
    if expert < len(scores.forecasts) and surprise[expert] > 0.0 and np.isfinite(scores.forecasts[expert, sensor]):
        item.member, item.expected = SENSOR_MEMBERS[place], float(scores.forecasts[expert, sensor])
        item.scale = abs(item.seen - item.expected) / float(np.sqrt(surprise[expert]))


def _compare(item: Evidence, seen: NDArray[np.float64], expected: NDArray[np.float64], moment: Moment) -> None:
    """Tell of the tick at which both were farthest apart since it stands out: forecasts soon follow what they see."""
    apart = np.abs(seen - expected)
    if np.isfinite(apart).any():
        place = int(np.nanargmax(apart))
        item.at_ns = moment.snapshot.time_ns - round((len(apart) - 1 - place) * moment.period_s * 1e9)
        item.seen, item.expected = float(seen[place]), float(expected[place])
    item.finding = _side(item.seen, item.expected)


def _ask_neighbours(item: Evidence, moment: Moment, sensor: int) -> None:
    """Whom it no longer follows: by the model's attention, and by the relation, of those that are surprised."""
    scores, names = moment.scores, moment.snapshot.sensors
    own = None if scores.member_scores is None else scores.member_scores[:, sensor]
    edges: dict[str, float] = {}
    if own is None or own[-1] > OUTSTANDING:
        for j, weight in zip(scores.neighbour[sensor], scores.attention[sensor], strict=True):
            if j >= 0 and weight >= _CLEAR_ATTENTION:
                edges[names[int(j)]] = float(weight)
    if own is not None and scores.forecasts is not None and own[_RELATION] > OUTSTANDING:
        near = [one for one in moment.facts.relations(sensor, _MOST_RELATIONS) if one.share >= _CLEAR_SHARE]
        edges |= {names[one.sensor]: max(one.share, edges.get(names[one.sensor], 0.0)) for one in near}
        item.against = _against(item, near, moment, float(scores.forecasts[_RELATION, sensor]))
        if item.against and item.member == SENSOR_MEMBERS[_RELATION] and _fits_own_past(item, moment, sensor):
            item.against += "; by its own past it would be normal"
    elif edges:
        item.against = f"which does not fit {phrases.listed(list(edges)[:_MOST_RELATIONS])}"
    item.neighbours = tuple(sorted(edges.items(), key=lambda edge: -edge[1]))


def _against(item: Evidence, near: list[Relation], moment: Moment, forecast: float) -> str:
    """``near``: those on whose readings the relation leans most."""
    snapshot, off = moment.snapshot, item.seen - forecast
    speaking = [one for one in near if one.pull * off < 0.0 and abs(one.pull) >= _PULLING * abs(off)]
    if speaking and (off > 0) == (item.finding in _UPWARD):
        told = [
            f"{snapshot.sensors[one.sensor]} "
            f"({phrases.with_unit(float(snapshot.value[one.sensor]), moment.facts.unit(one.sensor))})"
            for one in speaking
        ]
        verb = "speaks" if len(told) == 1 else "speak"
        return f"while {phrases.listed(told)} {verb} for {'less' if off > 0 else 'more'}"
    fitting = [snapshot.sensors[one.sensor] for one in near]
    return f"which does not fit {phrases.listed(fitting)}" if fitting else ""


def _fits_own_past(item: Evidence, moment: Moment, sensor: int) -> bool:
    """At the newest tick, and never since it stands out farther off than it is from what others read now."""
    scores, tick = moment.scores, moment.snapshot.tick
    if scores.member_scores is None or not scores.member_scores[_OWN, sensor] <= _AS_USUAL:
        return False
    seen = moment.facts.readings(np.array([sensor], np.int64), tick + 1 - item.first_tick)[:, 0]
    told = moment.trail.expected(sensor, SENSOR_MEMBERS[_OWN], range(tick + 1 - len(seen), tick + 1))
    apart = np.abs(seen - told)
    return bool(np.isfinite(apart).any() and np.nanmax(apart) < 0.5 * abs(item.seen - item.expected))


def _reason(item: Evidence) -> str:
    times = abs(item.seen - item.expected) / max(item.scale, 1e-12)
    parts = [item.motion] if item.motion else []
    parts.append(_comparison(item))
    if item.scale > 0.0 and times >= 1.0:
        parts[-1] += f" ({phrases.number(round(times, 1))} times its usual deviation)"
    if item.against:
        parts.append(item.against)
    return ", ".join(parts) if len(parts) > 1 else parts[0]


def _comparison(item: Evidence) -> str:
    when = phrases.time_of(item.at_ns, item.at_ns)
    return phrases.comparison(item.seen, item.expected, item.scale, item.unit, when) + _FROM[item.member]


def _side(seen: float, expected: float) -> str | None:
    if seen == expected or not math.isfinite(expected):
        return None
    return Finding.ABOVE if seen > expected else Finding.BELOW


def ranked(evidence: list[Evidence], most: int) -> list[Evidence]:
    """Those with the most blame, the worst first."""
    return nlargest(most, evidence, key=_BLAME)


def _rounded(value: float) -> float | None:
    """Six significant digits: enough for a picture."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
