"""Data-quality incidents: readings that are missing or wrong. They never count as anomalies of the process. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision.options import DecisionOptions
from edge_agent.graph.snapshot import Snapshot
from edge_agent.sample import Quality
from edge_agent.verdict import Contribution, Incident, IncidentKind, IncidentState, Severity, rfc3339

_WORDS = {
    Quality.BAD: "reported as bad by the device or not readable",
    Quality.NOT_FINITE: "not a finite number",
    Quality.OUT_OF_RANGE: "outside the possible range",
    Quality.RATE: "changed faster than possible",
    Quality.STUCK: "stuck at one value",
    Quality.FUTURE: "stamped with a time in the future",
    Quality.PAST: "stamped with a time long past",
    Quality.STALE: "no longer sending",
}


@dataclass(slots=True)
class _Open:
    id: str
    opened_ns: int
    first_tick: int
    last_active: int
    sensors: dict[str, float | None]


class QualityIncidents:
    """One incident for each kind of finding, over all sensors that have it: a dead link is one incident, not fifty."""

    def __init__(self, options: DecisionOptions, period_s: float, new_id: Callable[[int], str]) -> None:
        self._options = options
        self._new_id = new_id
        self._open_after = max(1, round(options.quality_after / period_s))
        self._close_after = max(2, round(options.close_after / period_s))
        self._sensors: tuple[str, ...] = ()
        self._since: dict[Quality, NDArray[np.int64]] = {}  # tick of the first finding, for each sensor; -1: none
        self._open: dict[Quality, _Open] = {}

    @property
    def open_count(self) -> int:
        """Incidents open now."""
        return len(self._open)

    def update(self, snapshot: Snapshot) -> list[Incident]:
        """One tick: the incidents that changed."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        flags = int(np.bitwise_or.reduce(snapshot.quality)) if len(snapshot) else 0
        changed: list[Incident] = []
        for flag in _WORDS:
            if flags & int(flag) or flag in self._since or flag in self._open:
                changed += self._watch(flag, snapshot)
        return changed

    def close_all(self, snapshot: Snapshot) -> list[Incident]:
        """Close what is open, as at a change of run."""
        closed = [self._incident(flag, one, snapshot, IncidentState.CLOSED) for flag, one in self._open.items()]
        self._open.clear()
        self._since.clear()
        return closed

    def _watch(self, flag: Quality, snapshot: Snapshot) -> list[Incident]:
        tick, found = snapshot.tick, (snapshot.quality & np.int32(flag)) != 0
        lasting: NDArray[np.int64] = np.zeros(0, np.int64)
        if found.any():
            since = self._since.get(flag, np.full(len(found), -1))
            since = self._since[flag] = np.where(found, np.where(since < 0, tick, since), -1)
            lasting = np.flatnonzero(found & (tick - since >= self._open_after))
        else:
            self._since.pop(flag, None)
        one = self._open.get(flag)
        if one is None:
            return [self._begin(flag, lasting, snapshot)] if len(lasting) else []
        if flag in self._since:
            one.last_active = tick
        before = len(one.sensors)
        one.sensors.update(_values(lasting, snapshot))
        if tick - one.last_active >= self._close_after:
            del self._open[flag]
            return [self._incident(flag, one, snapshot, IncidentState.CLOSED)]
        return [self._incident(flag, one, snapshot, IncidentState.UPDATED)] if len(one.sensors) > before else []

    def _begin(self, flag: Quality, lasting: NDArray[np.int64], snapshot: Snapshot) -> Incident:
        first_tick = int(self._since[flag][lasting].min())
        one = _Open(
            self._new_id(snapshot.time_ns), snapshot.time_ns, first_tick, snapshot.tick, _values(lasting, snapshot)
        )
        self._open[flag] = one
        return self._incident(flag, one, snapshot, IncidentState.OPEN)

    def _align(self, sensors: tuple[str, ...]) -> None:
        row = {name: i for i, name in enumerate(self._sensors)}
        rows = np.array([row.get(name, len(row)) for name in sensors], dtype=np.int64)
        self._since = {flag: np.append(since, -1)[rows] for flag, since in self._since.items()}
        self._sensors = sensors

    def _incident(self, flag: Quality, one: _Open, snapshot: Snapshot, state: IncidentState) -> Incident:
        names = list(one.sensors)
        listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        parts = tuple(
            Contribution(name, round(1 / len(names), 4), 0.0, value, None, None, _WORDS[flag])
            for name, value in list(one.sensors.items())[: self._options.contributors]
        )
        return Incident(
            id=one.id,
            kind=IncidentKind.DATA_QUALITY,
            state=state,
            severity=Severity.MEDIUM if flag in (Quality.STALE, Quality.BAD) else Severity.LOW,
            opened_ns=one.opened_ns,
            updated_ns=snapshot.time_ns,
            closed_ns=snapshot.time_ns if state is IncidentState.CLOSED else None,
            first_tick=one.first_tick,
            last_tick=one.last_active,
            p_value=1.0,
            score=0.0,
            summary=f"{listed}: {_WORDS[flag]}, since {rfc3339(one.opened_ns)[11:19]} UTC",
            contributions=parts,
        )


def _values(sensors: NDArray[np.int64], snapshot: Snapshot) -> dict[str, float | None]:
    values = np.where(snapshot.usable[sensors], snapshot.value[sensors], np.nan).tolist()
    names = [snapshot.sensors[i] for i in sensors]
    return {name: None if value != value else value for name, value in zip(names, values, strict=True)}
