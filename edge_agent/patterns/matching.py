"""One incident against all patterns: a small state machine for each of them. Pure, with own state.

What was seen once stays seen: a stage that was reached, and evidence for or against. So a match needs nothing of the
past but that, and a pattern costs the same however long an incident lasts.

Confidence is a probability among the patterns and "none of them" (log odds 0)::

    confidence(p) = e^(s x(p)) / (1 + Σ e^(s x(q))),   x(p) = weight + Σ weights of evidence seen,  s: sharpness
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import exp

from edge_agent.patterns.conditions import satisfied
from edge_agent.patterns.library import Candidate, Library
from edge_agent.patterns.options import Pattern
from edge_agent.patterns.sight import Scene
from edge_agent.verdict import PatternMatch

_PARTIAL = 2  # stages from which on a pattern is told that has more of them
_MISSING = 1.5  # log odds for each stage that has not been seen
_HIGHEST = 50.0  # log odds, so that nothing overflows


@dataclass(slots=True)
class Track:
    """How far a pattern has come. ``since``: ticks at which its stages began. ``sensors``: those of the last stage."""

    since: list[int] = field(default_factory=list)
    sensors: tuple[str, ...] = ()
    evidence: set[int] = field(default_factory=set)


class Matcher:
    """All patterns against one incident. ``period_s``: time between two ticks."""

    def __init__(self, patterns: Sequence[Pattern], period_s: float) -> None:
        self._patterns = tuple(patterns)
        self._period_s = period_s
        self._tracks = [Track() for _ in patterns]

    def update(self, scene: Scene) -> None:
        """Take in what is seen now."""
        for pattern, track in zip(self._patterns, self._tracks, strict=True):
            self._advance(pattern, track, scene)
            for place, part in enumerate(pattern.evidence):
                if place not in track.evidence and satisfied(part, scene, self._period_s, ()):
                    track.evidence.add(place)

    def candidates(self) -> list[Candidate]:
        """Patterns of which all stages were seen, or at least two."""
        found = []
        for pattern, track in zip(self._patterns, self._tracks, strict=True):
            missing = len(pattern.stages) - len(track.since)
            if missing and len(track.since) < _PARTIAL:
                continue
            odds = pattern.weight + sum(pattern.evidence[place].weight for place in track.evidence)
            names = tuple(stage.name for stage in pattern.stages[: len(track.since)])
            found.append(Candidate(pattern, odds - _MISSING * missing, names))
        return found

    def _advance(self, pattern: Pattern, track: Track, scene: Scene) -> None:
        while len(track.since) < len(pattern.stages):
            stage = pattern.stages[len(track.since)]
            begun: list[int] = []
            sensors: dict[str, None] = {}
            for condition in stage.conditions:
                found = satisfied(condition, scene, self._period_s, track.sensors)
                if not found:
                    return
                begun.append(min(sight.since_tick for sight in found))
                sensors |= dict.fromkeys(sight.sensor for sight in found)
            since = min(begun)
            if track.since:
                after = since - track.since[-1]
                if after < 0 or (stage.within is not None and after * self._period_s > stage.within):
                    return
            track.since.append(since)
            track.sensors = tuple(sensors)


def ranked(candidates: Iterable[Candidate], library: Library) -> tuple[PatternMatch, ...]:
    """The likeliest of ``candidates``, with honest confidence, the likeliest first."""
    weights = [(exp(min(library.sharpness * one.odds, _HIGHEST)), one) for one in candidates]
    total = 1.0 + sum(weight for weight, _ in weights)
    likely = sorted(((weight / total, one) for weight, one in weights), key=lambda pair: -pair[0])
    return tuple(
        PatternMatch(one.pattern.id, one.pattern.title, one.pattern.techniques, round(confidence, 3), one.stages)
        for confidence, one in likely[: library.most]
        if confidence >= library.least_confidence
    )
