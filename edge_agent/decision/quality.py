"""Data-quality incidents: readings that are missing or wrong. They never count as anomalies of the process. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
        self._since: dict[Quality, dict[str, int]] = {flag: {} for flag in _WORDS}
        self._open: dict[Quality, _Open] = {}

    @property
    def open_count(self) -> int:
        """Incidents open now."""
        return len(self._open)

    def update(self, snapshot: Snapshot) -> list[Incident]:
        """One tick: the incidents that changed."""
        flagged = np.flatnonzero(snapshot.quality)
        if not len(flagged) and not self._open and not any(self._since.values()):
            return []
        found: dict[Quality, dict[str, float | None]] = {flag: {} for flag in _WORDS}
        for i in flagged:
            quality = int(snapshot.quality[i])
            value = float(snapshot.value[i]) if snapshot.usable[i] else None
            for flag in _WORDS:
                if quality & flag:
                    found[flag][snapshot.sensors[i]] = value
        return [incident for flag in _WORDS for incident in self._watch(flag, found[flag], snapshot)]

    def close_all(self, snapshot: Snapshot) -> list[Incident]:
        """Close what is open, as at a change of run."""
        closed = [self._incident(flag, one, snapshot, IncidentState.CLOSED) for flag, one in self._open.items()]
        self._open.clear()
        for since in self._since.values():
            since.clear()
        return closed

    def _watch(self, flag: Quality, found: dict[str, float | None], snapshot: Snapshot) -> list[Incident]:
        since, tick = self._since[flag], snapshot.tick
        for name in [name for name in since if name not in found]:
            del since[name]
        for name in found:
            since.setdefault(name, tick)
        lasting = {name: found[name] for name, first in since.items() if tick - first >= self._open_after}
        one = self._open.get(flag)
        if one is None:
            if not lasting:
                return []
            one = _Open(self._new_id(snapshot.time_ns), snapshot.time_ns, min(since.values()), tick, lasting)
            self._open[flag] = one
            return [self._incident(flag, one, snapshot, IncidentState.OPEN)]
        if found:
            one.last_active = tick
        new = [name for name in lasting if name not in one.sensors]
        one.sensors.update(lasting)
        if tick - one.last_active >= self._close_after:
            del self._open[flag]
            return [self._incident(flag, one, snapshot, IncidentState.CLOSED)]
        return [self._incident(flag, one, snapshot, IncidentState.UPDATED)] if new else []

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
