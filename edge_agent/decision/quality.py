"""Data-quality incidents: readings that are missing or wrong. They never count as anomalies of the process. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision import phrases, severity
from edge_agent.decision.facts import SensorFacts
from edge_agent.decision.lifecycle import Standing
from edge_agent.decision.options import DecisionOptions
from edge_agent.graph.snapshot import Snapshot
from edge_agent.sample import Quality
from edge_agent.verdict import Contribution, Incident, IncidentKind, IncidentState, Severity

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


_SIGHT_LOST = (Quality.STALE, Quality.BAD)
_LEAST_SOURCE = 2  # sensors; of a source with a single one it goes without saying
_UPDATE_EVERY = 30  # ticks between two updates of one incident, as sensors join it one by one
_Key = tuple[Quality, str | None]
"""Kind of finding, and the source it comes from: None where no source has spoken for the sensor yet."""


@dataclass(slots=True)
class _Open:
    id: str
    opened_ns: int
    since_ns: int
    first_tick: int
    last_active: int
    last_told: int
    severity: Severity
    sensors: dict[str, float | None]
    told: int = 0
    whole: bool = False


class QualityIncidents:
    """One incident for each kind of finding and source, over all sensors: a dead link is one incident, not fifty."""

    def __init__(self, options: DecisionOptions, period_s: float, new_id: Callable[[int], str]) -> None:
        self._new_id = new_id
        self._period_s = period_s
        self.reconfigure(options)
        self._sensors: tuple[str, ...] = ()
        self._since: dict[Quality, NDArray[np.int64]] = {}  # tick of the first finding, for each sensor; -1: none
        self._open: dict[_Key, _Open] = {}
        self._standing: dict[str, Standing] = {}

    def reconfigure(self, options: DecisionOptions) -> None:
        """Go on under other options."""
        self._options = options
        self._open_after = max(1, round(options.quality_after / self._period_s))
        self._close_after = max(2, round(options.close_after / self._period_s))

    def standing(self, incident_id: str) -> Standing | None:
        """All sensors of an incident that is open or has just closed, and when it was active last."""
        return self._standing.get(incident_id)

    def update(self, snapshot: Snapshot, facts: SensorFacts) -> list[Incident]:
        """One tick: the incidents that changed."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        flags = int(np.bitwise_or.reduce(snapshot.quality)) if len(snapshot) else 0
        if not flags and not self._open:
            self._since.clear()
            self._standing = {}
            return []
        for flag in _WORDS:
            if flags & int(flag) or flag in self._since:
                self._watch(flag, snapshot, facts)
        self._standing = {one.id: Standing(tuple(one.sensors), one.last_active) for one in self._open.values()}
        return [incident for key in list(self._open) for incident in self._tell(key, snapshot)]

    def close_all(self, snapshot: Snapshot) -> list[Incident]:
        """Close what is open, as at a change of run."""
        closed = [self._incident(key, one, snapshot, IncidentState.CLOSED) for key, one in self._open.items()]
        self._open.clear()
        self._since.clear()
        return closed

    def _watch(self, flag: Quality, snapshot: Snapshot, facts: SensorFacts) -> None:
        """Since when each sensor has the flag; those that have had it for long belong to an incident."""
        tick, found = snapshot.tick, (snapshot.quality & np.int32(flag)) != 0
        if not found.any():
            self._since.pop(flag, None)
            return
        since = self._since.get(flag, np.full(len(found), -1))
        since = self._since[flag] = np.where(found, np.where(since < 0, tick, since), -1)
        # One that waits for its turn keeps an open incident of its source open, too.
        for source, flagged in _by_source(np.flatnonzero(found), facts).items():
            one = self._open.get((flag, source))
            if one is not None:
                one.last_active = tick
            lasting = [i for i in flagged if tick - since[i] >= self._open_after]
            if lasting:
                self._note((flag, source), one, np.array(lasting, np.int64), int(since[lasting].min()), snapshot, facts)

    def _note(
        self,
        key: _Key,
        one: _Open | None,
        lasting: NDArray[np.int64],
        first_tick: int,
        snapshot: Snapshot,
        facts: SensorFacts,
    ) -> None:
        if one is None:
            opened_ns = snapshot.time_ns
            since_ns = opened_ns - round((snapshot.tick - first_tick) * self._period_s * 1e9)
            one = _Open(self._new_id(opened_ns), opened_ns, since_ns, first_tick, snapshot.tick, -1, Severity.LOW, {})
            self._open[key] = one
        before = len(one.sensors)
        one.sensors.update(_values(lasting, snapshot))
        if len(one.sensors) == before:
            return
        flag, source = key
        all_of_it = sum(facts.source(i) == source for i in range(len(snapshot)))
        one.whole = source is not None and len(one.sensors) >= max(all_of_it, _LEAST_SOURCE)
        weight = max(facts.weight(int(i)) for i in lasting)
        found = severity.of_quality(sight_lost=flag in _SIGHT_LOST, whole_source=one.whole, weight=weight)
        one.severity = found if one.last_told < 0 else severity.worse(found, one.severity)

    def _tell(self, key: _Key, snapshot: Snapshot) -> list[Incident]:
        one, tick = self._open[key], snapshot.tick
        if tick - one.last_active >= self._close_after:
            del self._open[key]
            return [self._incident(key, one, snapshot, IncidentState.CLOSED)]
        opening = one.last_told < 0
        if not opening and (len(one.sensors) == one.told or tick - one.last_told < _UPDATE_EVERY):
            return []
        one.told, one.last_told = len(one.sensors), tick
        return [self._incident(key, one, snapshot, IncidentState.OPEN if opening else IncidentState.UPDATED)]

    def _align(self, sensors: tuple[str, ...]) -> None:
        row = {name: i for i, name in enumerate(self._sensors)}
        rows = np.array([row.get(name, len(row)) for name in sensors], dtype=np.int64)
        self._since = {flag: np.append(since, -1)[rows] for flag, since in self._since.items()}
        self._sensors = sensors

    def _incident(self, key: _Key, one: _Open, snapshot: Snapshot, state: IncidentState) -> Incident:
        flag, source = key
        names = list(one.sensors)
        since = phrases.time_of(one.since_ns, snapshot.time_ns)
        summary = f"{_who(names, source, whole=one.whole)}: {_WORDS[flag]}, since {since}"
        parts = tuple(
            Contribution(
                name, round(1 / len(names), 4), 0.0, value, None, None, _WORDS[flag], finding=str(flag.name).lower()
            )
            for name, value in list(one.sensors.items())[: self._options.contributors]
        )
        return Incident(
            id=one.id,
            kind=IncidentKind.DATA_QUALITY,
            state=state,
            severity=one.severity,
            opened_ns=one.opened_ns,
            updated_ns=snapshot.time_ns,
            closed_ns=snapshot.time_ns if state is IncidentState.CLOSED else None,
            first_tick=one.first_tick,
            last_tick=one.last_active,
            p_value=1.0,
            score=0.0,
            summary=summary,
            contributions=parts,
        )


def _who(names: list[str], source: str | None, *, whole: bool) -> str:
    if whole:
        return f"all {len(names)} sensors of source {source}"
    listed = phrases.listed(names[:5], len(names))
    counted = f"{len(names)} sensors" if len(names) > 5 else ""
    about = ", ".join(part for part in (counted, f"source {source}" if source is not None else "") if part)
    return f"{listed} ({about})" if about else listed


def _by_source(sensors: NDArray[np.int64], facts: SensorFacts) -> dict[str | None, list[int]]:
    found: dict[str | None, list[int]] = {}
    for i in sensors.tolist():
        found.setdefault(facts.source(i), []).append(i)
    return found


def _values(sensors: NDArray[np.int64], snapshot: Snapshot) -> dict[str, float | None]:
    values = np.where(snapshot.usable[sensors], snapshot.value[sensors], np.nan).tolist()
    names = [snapshot.sensors[i] for i in sensors]
    return {name: None if value != value else value for name, value in zip(names, values, strict=True)}
