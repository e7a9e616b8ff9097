"""Rules that hold, as incidents: one for each rule, or part of a process incident that is open beside it. Pure.

A rule opens an incident of its own unless a process incident is open on one of its sensors or on a neighbour of one in
the graph: then it joins that one, which names the rule, counts as at least as urgent, and lists the rule's sensors. A
process incident that opens later only names the rule. When it closes and the rule goes on, the rule opens its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np

from edge_agent.graph.snapshot import Snapshot
from edge_agent.rules.rules import Holding, Judged
from edge_agent.rules.signals import Aggregate
from edge_agent.rules.words import filled, limit_of, listed, number, reason
from edge_agent.verdict import Contribution, Incident, IncidentKind, IncidentState, Severity, rfc3339

_SEVERITIES = tuple(Severity)
_MOST_OF_A_PATTERN = 20  # sensors named for `max("tank.*")`
_UPDATE_EVERY_NS = 30 * 10**9  # wall time between two updates of one incident because sensors were added


class Units(Protocol):
    """What has to be known about sensors, by index in the current snapshot."""

    def unit(self, sensor: int) -> str | None:
        """Unit of its values."""
        ...


@dataclass(slots=True)
class _Open:
    id: str
    opened_ns: int
    told_ns: int
    first_tick: int
    last_tick: int
    holding: Holding
    parts: dict[str, Contribution]
    told_sensors: int = 0
    summary: str = ""


@dataclass(slots=True)
class _Process:
    """A process incident as it was told last. ``joined``: rules that are part of it, with what was said of each."""

    incident: Incident
    joined: dict[str, Holding] = field(default_factory=dict)
    severity: Severity = Severity.LOW


class RuleIncidents:
    """``most``: sensors named in an incident. ``new_id`` makes a unique id from the wall time in ns."""

    def __init__(self, new_id: Callable[[int], str], most: int) -> None:
        self._new_id = new_id
        self.most = most
        self._open: dict[str, _Open] = {}
        self._process: dict[str, _Process] = {}

    @property
    def open_count(self) -> int:
        """Incidents of rules that are open now."""
        return len(self._open)

    def standing(self, incident_id: str) -> tuple[tuple[str, ...], int] | None:
        """All sensors of an open incident of a rule, and the last tick on which the rule held."""
        one = next((one for one in self._open.values() if one.id == incident_id), None)
        return None if one is None else (tuple(one.parts), one.last_tick)

    @property
    def busy(self) -> bool:
        """True while an incident is open that rules have opened, or could join."""
        return bool(self._open or self._process)

    def update(
        self,
        holding: Mapping[str, Holding],
        snapshot: Snapshot,
        units: Units,
        process: Iterable[Incident],
        involved: Callable[[str], Collection[str]] = lambda _id: (),
        awaited: Collection[str] = (),
    ) -> list[Incident]:
        """One tick: what is told of it, ``process`` being what is told of process incidents, with rules put in.

        ``involved``: all sensors of an open process incident, by its id; those that it names are known anyway.
        ``awaited``: rules that do not open an incident for now.
        """
        told = {incident.id: incident for incident in process}
        if not holding and not self._open and not self._process and not told:
            return []
        told = {incident.id: self._followed(incident) for incident in told.values()}
        seen = _Seen(snapshot, units)
        changed = [self._closed(name, snapshot) for name in list(self._open) if name not in holding]
        touched: set[str] = set()
        for name, one in holding.items():
            if name in self._open:
                changed += self._go_on(self._open[name], one, seen)
                continue
            if not one.seen:
                continue
            near = self._near(name, one, seen, involved)
            if near is None and name in awaited:
                continue
            if near is None:
                changed.append(self._begin(name, one, seen))
            elif name not in near.joined:
                near.joined[name] = one
                near.severity = max(near.severity, one.options.severity, key=_SEVERITIES.index)
                touched.add(near.incident.id)
        for process_one in self._process.values():
            for name in [name for name in process_one.joined if name not in holding]:
                del process_one.joined[name]
        return [*self._process_told(told, touched, holding, seen), *changed]

    def close_all(self, snapshot: Snapshot) -> list[Incident]:
        """Close what is open, as at a change of run."""
        self._process.clear()
        return [self._closed(name, snapshot) for name in list(self._open)]

    # -- incidents of rules ------------------------------------------------------------------------------------

    def _begin(self, name: str, holding: Holding, seen: _Seen) -> Incident:
        snapshot = seen.snapshot
        one = _Open(
            self._new_id(snapshot.time_ns),
            snapshot.time_ns,
            snapshot.time_ns,
            holding.since_tick,
            snapshot.tick,
            holding,
            seen.parts(holding),
        )
        self._open[name] = one
        return self._incident(one, snapshot, seen, IncidentState.OPEN)

    def _go_on(self, one: _Open, holding: Holding, seen: _Seen) -> list[Incident]:
        snapshot = seen.snapshot
        other = holding.options is not one.holding.options and holding.options != one.holding.options
        one.holding, one.last_tick = holding, snapshot.tick
        grown = len(holding.judged) > one.told_sensors
        # The wall clock may have been set back in between.
        if not other and not (grown and abs(snapshot.time_ns - one.told_ns) >= _UPDATE_EVERY_NS):
            return []
        one.parts |= seen.parts(holding)
        return [self._incident(one, snapshot, seen, IncidentState.UPDATED)]

    def _closed(self, name: str, snapshot: Snapshot) -> Incident:
        return self._incident(self._open.pop(name), snapshot, None, IncidentState.CLOSED)

    def _incident(self, one: _Open, snapshot: Snapshot, seen: _Seen | None, state: IncidentState) -> Incident:
        one.told_ns, one.told_sensors = snapshot.time_ns, max(one.told_sensors, len(one.holding.judged))
        parts = list(one.parts.values())
        summary = one.summary if seen is None else seen.said(one.holding, parts)
        one.summary = summary
        share = round(1 / max(1, len(parts)), 4)
        options = one.holding.options
        return Incident(
            id=one.id,
            kind=IncidentKind.RULE,
            state=state,
            severity=options.severity,
            opened_ns=one.opened_ns,
            updated_ns=snapshot.time_ns,
            closed_ns=snapshot.time_ns if state is IncidentState.CLOSED else None,
            first_tick=one.first_tick,
            last_tick=one.last_tick,
            p_value=1.0,
            score=0.0,
            summary=summary if options.message else f"{summary}, since {rfc3339(one.opened_ns)[11:19]} UTC",
            contributions=tuple(replace(part, share=share) for part in parts[: self.most]),
            rules=(one.holding.rule,),
        )

    # -- process incidents -------------------------------------------------------------------------------------

    def _followed(self, incident: Incident) -> Incident:
        """``incident``; at its end as urgent as rules have made it."""
        known = self._process.get(incident.id)
        if incident.state is IncidentState.CLOSED:
            self._process.pop(incident.id, None)
            least = Severity.LOW if known is None else known.severity
            return replace(incident, severity=max(incident.severity, least, key=_SEVERITIES.index))
        if known is None:
            self._process[incident.id] = _Process(incident)
        else:
            known.incident = incident
        return incident

    def _near(
        self, name: str, holding: Holding, seen: _Seen, involved: Callable[[str], Collection[str]]
    ) -> _Process | None:
        """The open process incident that ``holding`` is part of already, or that has a sensor of it or beside it."""
        around: set[str] | None = None
        for one in self._process.values():
            if name in one.joined:
                return one
        for one in self._process.values():
            around = seen.around(holding) if around is None else around
            named = (part.sensor for part in one.incident.contributions)
            if not around.isdisjoint((*named, *involved(one.incident.id))):
                return one
        return None

    def _process_told(
        self, told: Mapping[str, Incident], touched: set[str], holding: Mapping[str, Holding], seen: _Seen
    ) -> list[Incident]:
        out = []
        for incident_id, incident in told.items():
            one = self._process.get(incident_id)
            out.append(incident if one is None else self._with_rules(incident, one, holding, seen))
        for incident_id in touched - told.keys():
            one = self._process[incident_id]
            now = replace(one.incident, state=IncidentState.UPDATED, updated_ns=seen.snapshot.time_ns)
            out.append(self._with_rules(now, one, holding, seen))
        return out

    def _with_rules(self, incident: Incident, one: _Process, holding: Mapping[str, Holding], seen: _Seen) -> Incident:
        beside = [name for name in self._open if name in holding and self._beside(incident, holding[name], seen)]
        rules = (*one.joined, *beside)
        severity = max(incident.severity, one.severity, key=_SEVERITIES.index)
        if not rules:
            return replace(incident, severity=severity)
        parts = {part.sensor: part for part in incident.contributions}
        for joined in one.joined.values():
            for sensor, part in seen.parts(joined).items():
                parts.setdefault(sensor, part)
        said = "; ".join(seen.said(joined, list(seen.parts(joined).values())) for joined in one.joined.values())
        return replace(
            incident,
            rules=rules,
            severity=severity,
            contributions=tuple(parts.values()),
            summary=f"{incident.summary}; {said}" if said else incident.summary,
        )

    def _beside(self, incident: Incident, holding: Holding, seen: _Seen) -> bool:
        return not seen.around(holding).isdisjoint(part.sensor for part in incident.contributions)


class _Seen:
    """What one tick shows of the sensors that rules name."""

    def __init__(self, snapshot: Snapshot, units: Units) -> None:
        self.snapshot = snapshot
        self._units = units
        self._index: dict[str, int] | None = None

    def _at(self, sensor: str) -> int | None:
        if self._index is None:
            self._index = {name: i for i, name in enumerate(self.snapshot.sensors)}
        return self._index.get(sensor)

    def around(self, holding: Holding) -> set[str]:
        """The sensors of a rule and their neighbours, in either direction."""
        names = {name for one in holding.judged.values() for name in self._sensors(one)}
        index = [i for i in map(self._at, names) if i is not None]
        neighbour, sensors = self.snapshot.neighbour, self.snapshot.sensors
        names |= {sensors[j] for j in neighbour[index].ravel().tolist() if j >= 0} if index else set()
        pointing = np.isin(neighbour, index).any(axis=1) if index else np.zeros(0, np.bool_)
        return names | {sensors[i] for i in np.flatnonzero(pointing)}

    def _sensors(self, judged: Judged) -> tuple[str, ...]:
        """Those that the rule names, and of those that match a pattern the ones that weigh most."""
        return tuple(
            dict.fromkeys((*judged.sensors, *(name for one in judged.aggregates for name in self._heavy(one))))
        )

    def _heavy(self, aggregate: Aggregate) -> list[str]:
        snapshot = self.snapshot
        matching = [i for i, name in enumerate(snapshot.sensors) if fnmatchcase(name, aggregate.pattern)]
        known = [i for i in matching if snapshot.usable[i]]
        value = snapshot.value[known]
        weight = {"min": -value, "max": value}.get(aggregate.function, np.abs(value))
        return [snapshot.sensors[known[i]] for i in np.argsort(-weight, kind="stable")[:_MOST_OF_A_PATTERN]]

    def value(self, sensor: str, *, flagged: bool) -> tuple[float | None, str | None]:
        """The value that a rule sees, and its unit."""
        i = self._at(sensor)
        if i is None:
            return None, None
        known = self.snapshot.usable[i] or (flagged and self.snapshot.age[i] < 1e8)
        return (float(self.snapshot.value[i]) if known else None), self._units.unit(i)

    def parts(self, holding: Holding) -> dict[str, Contribution]:
        """Each sensor of the rule that holds, with what it reads and what it is held against."""
        found: dict[str, Contribution] = {}
        for judged in holding.judged.values():
            for sensor in self._sensors(judged):
                found[sensor] = self._part(sensor, judged, holding)
        return found

    def _part(self, sensor: str, judged: Judged, holding: Holding) -> Contribution:
        options = holding.options
        value, unit = self.value(sensor, flagged=options.flagged)
        compared = judged.compared.get(sensor)
        limit = compared[1] if compared is not None else limit_of(options, value)
        why = reason(options, value, unit, compared)
        return Contribution(sensor, 0.0, 0.0, value, limit, unit, f"{why}, rule {holding.rule}")

    def said(self, holding: Holding, parts: list[Contribution]) -> str:
        """What the rule tells people, in one sentence."""
        first = parts[0] if parts else Contribution("", 0.0, 0.0, None, None, None, f"rule {holding.rule} holds")
        if holding.options.message is None:
            others = [part.sensor for part in parts[1:]]
            more = f"; also {listed(others)}" if others else ""
            return f"{first.sensor} {first.reason}{more}".strip()
        words = {
            "sensor": listed(list(dict.fromkeys(one.sensor or first.sensor for one in holding.judged.values()))),
            "value": number(first.seen, first.unit),
            "limit": "?" if first.expected is None else number(first.expected, first.unit),
            "rule": holding.rule,
        }

        def answer(name: str) -> str | None:
            return words[name] if name in words else number(*self.value(name, flagged=holding.options.flagged))

        return filled(holding.options.message, answer)
