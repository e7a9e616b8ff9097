"""Scores and readings as events, for the sinks that ask for them, and not more often than each of them wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edge_agent.clock import NS_PER_S
from edge_agent.contract import SinkOptions
from edge_agent.pipeline.engine import TickReport
from edge_agent.verdict import Event, EventKind


class Taker(Protocol):
    """A sink's runner, as far as it is needed here (:class:`~edge_agent.delivery.SinkRunner`)."""

    options: SinkOptions

    def offer(self, event: Event) -> None:
        """Take ``event`` without waiting."""
        ...


class Measurements:
    """Knows which sinks are due. ``sinks`` is the daemon's own mapping: it adds, replaces and removes runners."""

    def __init__(self, sinks: Mapping[str, Taker], new_id: Callable[[int], str]) -> None:
        self._sinks = sinks
        self._new_id = new_id
        self._slots: dict[str, int] = {}

    def events(self, report: TickReport, unit: Callable[[int], str | None]) -> Iterator[tuple[Event, Sequence[Taker]]]:
        """Each event of this tick, and who is due for it; ``unit`` answers by place in the snapshot."""
        due = [sink for name, sink in self._sinks.items() if self._is_due(name, sink.options, report.time_ns)]
        for kind in (EventKind.SCORES, EventKind.READINGS):
            takers = [sink for sink in due if kind in sink.options.events]
            if takers:
                body = _scores(report) if kind is EventKind.SCORES else _readings(report, unit)
                yield Event(self._new_id(report.time_ns), kind, report.time_ns, body), takers

    def _is_due(self, name: str, options: SinkOptions, time_ns: int) -> bool:
        if not {EventKind.SCORES, EventKind.READINGS} & set(options.events):
            return False
        if options.every is None:
            return True
        # The first tick in each stretch of time, so that several gateways, and a restarted one, report alike.
        slot = time_ns // round(options.every * NS_PER_S)
        if self._slots.get(name) == slot:
            return False
        self._slots[name] = slot
        return True


def _scores(report: TickReport) -> dict[str, Any]:
    scores, decision = report.scores, report.decision
    sensors = report.snapshot.sensors
    return {
        "tick": report.tick,
        "score": decision.plant_score,
        "p_value": decision.p_value,
        "alarm": decision.alarm,
        "sensors": {sensors[i]: float(scores.score[i]) for i in np.flatnonzero(scores.valid)},
    }


def _readings(report: TickReport, unit: Callable[[int], str | None]) -> dict[str, Any]:
    snapshot = report.snapshot
    usable = [int(i) for i in np.flatnonzero(snapshot.usable)]
    units = {snapshot.sensors[i]: text for i in usable if (text := unit(i)) is not None}
    body = {"tick": report.tick, "sensors": {snapshot.sensors[i]: float(snapshot.value[i]) for i in usable}}
    return {**body, "units": units} if units else body
