"""Score streams to alarms by one decision layer for all detectors, and alarms judged against labelled events.

The threshold knows no labels: it is the score that normal operation exceeds, in clusters, as often as the budget of
false alarms allows, by ranks of held-out normal scores with a generalised Pareto tail
(:class:`edge_agent.decision.calibration.Calibration`, the daemon's own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision.calibration import Calibration, Judgement
from edge_agent.decision.options import DecisionOptions
from edge_models.evaluation.metrics import events

Floats = NDArray[np.float64]
Span = tuple[int, int]
"""First and last tick."""

LEAST_CALM = 20
_OFTENEST = 0.01  # events a tick; as in the daemon, a budget of hours or days does not make every tick an alarm
_HOLD_P = 1e-2
_EARLY = 10
_LEVELS = 200


@dataclass(frozen=True, slots=True)
class Threshold:
    """An alarm opens at ``open`` and lasts while scores are at least ``hold``."""

    open: float
    hold: float


@dataclass(frozen=True, slots=True)
class Layer:
    """How scores become alarms.

    ``confirm``: (2, 3) asks for two unusual ticks of three. ``close_after``: an alarm ends
    when so many ticks in a row are calm.
    """

    confirm: tuple[int, int]
    close_after: int

    @classmethod
    def of(cls, tick_s: float) -> Layer:
        """As in the daemon with its default options and this tick."""
        options = DecisionOptions()
        confirm = (2, 3) if options.detect_within / tick_s >= 6 else (1, 1)
        return cls(confirm, max(2, round(options.close_after / tick_s)))

    def alarms(self, score: Floats, threshold: Threshold) -> list[Span]:
        """Each alarm, from the tick at which it opens to its last unusual tick."""
        needed, of = self.confirm
        hot = score >= threshold.open
        confirmed = np.convolve(hot, np.ones(of, np.int64))[: len(hot)] >= needed
        active = np.flatnonzero(confirmed | (score >= threshold.hold))
        borders = np.flatnonzero(np.diff(active) > self.close_after) + 1
        found = []
        for group in np.split(active, borders):
            opening = group[confirmed[group]]
            if len(opening):
                found.append((int(opening[0]), int(group[-1])))
        return found


def threshold_for(calm: Floats, events_per_tick: float) -> Threshold:
    """From held-out normal scores; infinite where there are fewer than ``LEAST_CALM`` of them."""
    if len(calm) < LEAST_CALM:
        return Threshold(np.inf, np.inf)
    calibration = Calibration(1, len(calm), len(calm))
    calibration.load(calm[:, None])
    rate = min(events_per_tick, _OFTENEST)
    return Threshold(
        _first(calm, lambda score: _judged(calibration, score).event_rate < rate),
        _first(calm, lambda score: _judged(calibration, score).p_value < _HOLD_P),
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: ``delays`` has for each event the ticks to its alarm, or None. ``lengths``: of the events, in ticks."""

    delays: tuple[int | None, ...]
    lengths: tuple[int, ...]
    false_alarms: int
    normal_ticks: int
    alarmed_normal_ticks: int

    @property
    def found(self) -> int:
        return sum(delay is not None for delay in self.delays)


def judge(alarms: Sequence[Span], label: NDArray[np.int8]) -> Outcome:
    """An event is found by an alarm that opens in it, or up to ten ticks before and lasts into it.

    An alarm that finds nothing is false, however long an event it later runs into: people were called for nothing.
    """
    true_events = events(label)
    useful: set[Span] = set()
    delays: list[int | None] = []
    for start, stop in true_events:
        hits = [a for a in alarms if start <= a[0] <= stop or (start - _EARLY <= a[0] < start <= a[1])]
        useful.update(hits)
        delays.append(max(0, hits[0][0] - start) if hits else None)
    normal = label == 0
    alarmed = as_ticks(alarms, len(label))
    return Outcome(
        tuple(delays),
        tuple(stop - start + 1 for start, stop in true_events),
        len(set(alarms) - useful),
        int(normal.sum()),
        int(alarmed[normal].sum()),
    )


def as_ticks(alarms: Sequence[Span], ticks: int) -> NDArray[np.int8]:
    """1 where an alarm is on."""
    on = np.zeros(ticks, np.int8)
    for start, stop in alarms:
        on[start : stop + 1] = 1
    return on


def most_found(scores: Sequence[Floats], labels: Sequence[NDArray[np.int8]], layer: Layer, false_alarms: int) -> int:
    """Events found by the best threshold that gives at most so many false alarms over all these tests.

    It is chosen with the labels, so it is an upper bound and no operating point. The threshold comes down from the
    top and stops where there are more: further down one endless alarm would swallow everything.
    """
    ranked = np.unique(np.concatenate(scores))[::-1]
    levels = ranked[np.unique(np.geomspace(1, len(ranked), _LEVELS).astype(np.int64)) - 1]
    best = 0
    for level in levels:
        threshold = Threshold(float(level), float(level))
        outcomes = [judge(layer.alarms(s, threshold), label) for s, label in zip(scores, labels, strict=True)]
        if sum(outcome.false_alarms for outcome in outcomes) > false_alarms:
            break
        best = max(best, sum(outcome.found for outcome in outcomes))
    return best


def _judged(calibration: Calibration, score: float) -> Judgement:
    judgement = calibration.judge(np.array([score]))
    assert judgement is not None  # loaded with as many rows as it needs
    return judgement


def _first(calm: Floats, holds: Callable[[float], bool]) -> float:
    """The lowest score for which ``holds``, which is false for low and true for high ones; to a millionth."""
    low, step = float(calm.min()), float(np.ptp(calm)) + 1.0
    high = low + step
    while not holds(high):
        low, step = high, 2 * step
        high = low + step
    while high - low > 1e-6 * (1.0 + abs(high)):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
