"""Process incidents: when one opens, what joins it, when it closes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edge_agent.decision import explain, severity
from edge_agent.decision.budget import Budget
from edge_agent.decision.explain import Evidence, Moment
from edge_agent.decision.facts import SensorFacts
from edge_agent.decision.lifecycle import Standing
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.suspects import Suspects
from edge_agent.decision.trail import Trail
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Incident, IncidentKind, IncidentState, Scores, Severity

_CALM_P = 1e-2  # hysteresis: an incident is kept open by ticks that are merely unusual
_UPDATE_EVERY = 30  # ticks between two updates of one incident, unless its severity rises


@dataclass(slots=True)
class _Open:
    id: str
    opened_ns: int
    opened_tick: int
    first_tick: int
    last_active: int
    last_told: int
    p_value: float
    score: float
    degraded: bool
    evidence: dict[str, Evidence] = field(default_factory=dict)
    severity: Severity = Severity.LOW
    news: bool = False
    wide: bool = False
    absorbed: bool = False
    members: Mapping[str, float] = field(default_factory=dict)


class ProcessIncidents:
    """Opens, extends and closes incidents from the plant's p-value and the sensors that stand out.

    ``budget`` says how unlikely scores have to be for an alarm, and is told of each.

    ``new_id`` makes a unique id from the wall time in ns.
    """

    def __init__(self, options: DecisionOptions, period_s: float, new_id: Callable[[int], str], budget: Budget) -> None:
        self._budget = budget
        self._new_id = new_id
        self._period_s = period_s
        self._trail = Trail()
        ticks_to_detect = options.detect_within / period_s
        # One unusual tick may be a glitch; two of three are asked for when there is time for it.
        self._confirm = (2, 3) if ticks_to_detect >= 6 else (1, 1)
        self._hot: deque[bool] = deque(maxlen=self._confirm[1])
        self.reconfigure(options)
        self._open: dict[str, _Open] = {}
        self._standing: dict[str, Standing] = {}

    def reconfigure(self, options: DecisionOptions) -> None:
        """Go on under other options; `detect_within` stays as it is."""
        self._options = options
        self._close_after = max(2, round(options.close_after / self._period_s))

    @property
    def open_count(self) -> int:
        """Incidents open now."""
        return len(self._open)

    def update(
        self,
        snapshot: Snapshot,
        scores: Scores,
        suspects: Suspects,
        p_value: float | None,
        event_rate: float | None,
        plant_score: float,
        facts: SensorFacts,
        degraded: bool,
        fresh_p: float | None = None,
    ) -> tuple[bool, list[Incident]]:
        """One tick: whether it is an alarm, and the incidents that changed.

        ``fresh_p``: p-value of the last five ticks alone. What lasts decides whether an incident opens, and not how
        long it stays open: that would be until what has been is forgotten.
        """
        self._trail.update(snapshot, scores)
        hot = event_rate is not None and event_rate < self._budget.allowed()
        self._hot.append(hot)
        alarm = sum(self._hot) >= self._confirm[0]
        changed: list[Incident] = []
        open_before = len(self._open)
        restless = fresh_p is not None and fresh_p < _CALM_P
        if p_value is not None and (alarm or (self._open and p_value < _CALM_P)):
            groups = suspects.groups(snapshot)
            if alarm and not groups:
                groups = self._diffuse(snapshot.tick, suspects, restless=restless)
            for group in groups:
                wide = suspects.wide(len(group))
                found = self._all_in_one() if wide and self._open else self._joined(snapshot, group)
                if found is None and alarm and self._affordable(snapshot, group, event_rate):
                    found = self._begin(snapshot, group, degraded)
                if found is not None:
                    found.wide |= wide
                    self._extend(found, snapshot, scores, suspects, group, facts, p_value, plant_score)
                    if restless or not suspects.over(found.evidence):
                        found.last_active = snapshot.tick
        if len(self._open) > open_before:
            self._budget.raised()  # what opens together is one alarm
        self._standing = {one.id: Standing(tuple(one.evidence), one.last_active) for one in self._open.values()}
        for one in list(self._open.values()):
            changed += self._tell(one, snapshot, facts)
        return alarm or bool(self._open), changed

    def standing(self, incident_id: str) -> Standing | None:
        """All sensors of an incident that is open or has just closed, and when it was active last."""
        return self._standing.get(incident_id)

    def evidence(self, incident_id: str, most: int) -> list[Evidence]:
        """What is held against the worst sensors of an open incident, the worst first; empty where none is open."""
        one = self._open.get(incident_id)
        return [] if one is None else explain.ranked(list(one.evidence.values()), most)

    def involved(self) -> set[str]:
        """Sensors of all open incidents."""
        return {name for one in self._open.values() for name in one.evidence}

    def latest_id(self) -> str | None:
        """Id of the incident that was active last, if one is open."""
        return max(self._open.values(), key=lambda one: one.last_active).id if self._open else None

    def close_all(self, snapshot: Snapshot, facts: SensorFacts) -> list[Incident]:
        """Close what is open, as at a change of run."""
        closed = [self._incident(one, snapshot, facts, IncidentState.CLOSED) for one in self._open.values()]
        self._open.clear()
        self._hot.clear()
        self._trail = Trail()
        return closed

    def _diffuse(self, tick: int, suspects: Suspects, *, restless: bool) -> list[list[int]]:
        """An alarm of many sensors of which none stands out keeps what is open, or is laid at the door of the worst."""
        for one in self._open.values():
            if restless or not suspects.over(one.evidence):
                one.last_active = tick
        return [] if self._open else [[suspects.worst()]]

    def _joined(self, snapshot: Snapshot, group: list[int]) -> _Open | None:
        """The open incident that shares a sensor or an edge with ``group``."""
        if not self._open:
            return None
        wide = next((one for one in self._open.values() if one.wide), None)
        if wide is not None:
            return wide
        near = set(group) | {int(j) for i in group for j in snapshot.neighbour[i] if j >= 0}
        names = {snapshot.sensors[i] for i in near}
        for one in self._open.values():
            if not names.isdisjoint(one.evidence):
                return one
        return None

    def _all_in_one(self) -> _Open:
        """The oldest open incident, with the sensors of the others: a large part of the plant has one cause."""
        oldest, *others = self._open.values()
        for one in others:
            for name, evidence in one.evidence.items():
                oldest.evidence.setdefault(name, evidence)
            oldest.news = True
            one.absorbed = True
        return oldest

    def _affordable(self, snapshot: Snapshot, group: list[int], event_rate: float | None) -> bool:
        """False where people have called alarms of these very sensors false, and this one is no less likely."""
        names = [snapshot.sensors[i] for i in group]
        return event_rate is not None and event_rate < self._budget.allowed(names)

    def _begin(self, snapshot: Snapshot, group: list[int], degraded: bool) -> _Open:
        first = min(snapshot.tick, int(self._trail.onset[group].min()))
        one = _Open(
            id=self._new_id(snapshot.time_ns),
            opened_ns=snapshot.time_ns,
            opened_tick=snapshot.tick,
            first_tick=first,
            last_active=snapshot.tick,
            last_told=-1,
            p_value=1.0,
            score=0.0,
            degraded=degraded,
        )
        self._open[one.id] = one
        return one

    def _extend(
        self,
        one: _Open,
        snapshot: Snapshot,
        scores: Scores,
        suspects: Suspects,
        group: list[int],
        facts: SensorFacts,
        p_value: float,
        plant_score: float,
    ) -> None:
        one.p_value = min(one.p_value, p_value)
        if plant_score > one.score or not one.members:
            one.members = scores.members
        one.score = max(one.score, plant_score)
        moment = Moment(snapshot, scores, suspects.mean, facts, self._trail, self._period_s)
        one.news |= explain.gather(one.evidence, moment, group)
        weight = max((facts.weight(i) for i in group), default=0)
        now = severity.of_process(
            one.p_value,
            self._budget.rate,
            lasted_s=(snapshot.tick - one.first_tick) * self._period_s,
            detect_within_s=self._options.detect_within,
            sensors=len(one.evidence),
            weight=weight,
        )
        worst = severity.worse(now, one.severity)
        one.news |= worst is not one.severity
        one.severity = worst

    def _tell(self, one: _Open, snapshot: Snapshot, facts: SensorFacts) -> list[Incident]:
        tick = snapshot.tick
        if one.absorbed or tick - one.last_active >= self._close_after:
            del self._open[one.id]
            if not self._open:
                self._hot.clear()  # what made the last ticks hot is over, too
            return [self._incident(one, snapshot, facts, IncidentState.CLOSED)]
        if one.last_told < 0:
            one.last_told, one.news = tick, False
            return [self._incident(one, snapshot, facts, IncidentState.OPEN)]
        if one.news and tick - one.last_told >= _UPDATE_EVERY:
            one.last_told, one.news = tick, False
            return [self._incident(one, snapshot, facts, IncidentState.UPDATED)]
        return []

    def _incident(self, one: _Open, snapshot: Snapshot, facts: SensorFacts, state: IncidentState) -> Incident:
        evidence = list(one.evidence.values())
        steps = explain.propagation(evidence, self._period_s)
        first_ns = one.opened_ns - round((one.opened_tick - steps[0].tick) * self._period_s * 1e9)
        return Incident(
            id=one.id,
            kind=IncidentKind.PROCESS,
            state=state,
            severity=one.severity,
            opened_ns=one.opened_ns,
            updated_ns=snapshot.time_ns,
            closed_ns=snapshot.time_ns if state is IncidentState.CLOSED else None,
            first_tick=one.first_tick,
            last_tick=one.last_active,
            p_value=one.p_value,
            score=round(one.score, 4),
            summary=explain.summary(evidence, steps, first_ns, snapshot.time_ns),
            contributions=explain.contributions(evidence, self._options.contributors),
            first_mover=steps[0].sensor,
            propagation=steps,
            broken_edges=explain.broken_edges(evidence),
            **explain.series(snapshot, evidence, facts, self._trail, self._period_s).fields(),
            degraded=one.degraded,
            members=one.members,
        )
