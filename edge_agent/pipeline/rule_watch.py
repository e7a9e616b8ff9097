"""The user's rules beside the model: what they find goes into the same incidents."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from edge_agent.decision.lifecycle import Standing
from edge_agent.graph.snapshot import Snapshot
from edge_agent.metrics import Metrics
from edge_agent.rules.incidents import RuleIncidents
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.rules import Rules, States
from edge_agent.verdict import Incident, IncidentKind, Severity

_log = logging.getLogger(__name__)


class Units(Protocol):
    """Answers by index in the current snapshot."""

    def unit(self, sensor: int) -> str | None:
        """Unit of its values."""
        ...


class RuleWatch:
    """Rules, the incidents they make, and what is counted of them.

    ``clear_after_s``: for rules that do not say. ``most``: sensors named in an incident.
    """

    def __init__(
        self,
        rules: Mapping[str, RuleOptions],
        states: States,
        period_s: float,
        clear_after_s: float,
        most: int,
        new_id: Callable[[int], str],
        metrics: Metrics,
    ) -> None:
        self.rules = Rules(rules, period_s, clear_after_s, states)
        self._incidents = RuleIncidents(new_id, most)
        self._metrics = metrics
        self._held: set[str] = set()
        self.started = False
        """True from the first tick on."""
        self.notices: list[str] = []
        """What people should be told of the rules themselves; whoever tells it takes it out."""

    def update(
        self,
        snapshot: Snapshot,
        tick_ns: int,
        units: Units,
        found: Iterable[Incident],
        standing: Callable[[str], Standing | None],
        awaited: Collection[str] = (),
    ) -> list[Incident]:
        """One tick: ``found`` by the other generators, with rules put in, and the rules' own incidents.

        ``awaited``: rules in process incidents from before a restart that may yet be found again.
        """
        self.started = True
        found = list(found)
        if not len(self.rules) and not found and not self._incidents.busy:
            return found
        self.rules.update(snapshot, tick_ns)
        self._count()
        for problem in self.rules.problems():
            _log.warning("%s", problem)
            self.notices.append(problem)
        process = [incident for incident in found if incident.kind is IncidentKind.PROCESS]
        others = [incident for incident in found if incident.kind is not IncidentKind.PROCESS]

        def involved(incident_id: str) -> tuple[str, ...]:
            now = standing(incident_id)
            return () if now is None else now.sensors

        changed = self._incidents.update(self.rules.holding, snapshot, units, process, involved, awaited)
        return [*others, *changed]

    def reload(
        self,
        rules: Mapping[str, RuleOptions],
        states: States,
        clear_after_s: float | None = None,
        most: int | None = None,
    ) -> None:
        """Other rules from the next tick on; only those that changed begin anew. What is None stays as it is."""
        for name in self.rules.options.keys() - rules.keys():
            self._metrics.rule_holds.remove(name)
        self.rules.reload(rules, states, clear_after_s)
        self._incidents.most = self._incidents.most if most is None else most

    def resume(self, incidents: Iterable[Incident]) -> None:
        """Before the first tick: incidents that were open when the agent stopped. Their rules hold still."""
        for incident in incidents:
            for rule in incident.rules:
                self.rules.resume(rule, [part.sensor for part in incident.contributions])

    def standing(self, incident_id: str) -> Standing | None:
        """What there is to say of an open incident of a rule, beyond what is told."""
        found = self._incidents.standing(incident_id)
        return None if found is None else Standing(*found)

    def close_all(self, snapshot: Snapshot) -> list[Incident]:
        """Close what is open, as at a change of run."""
        self.rules.forget()
        return self._incidents.close_all(snapshot)

    @property
    def serious(self) -> bool:
        """True while a rule of more than low severity holds: what is seen then is not how the plant should run."""
        rules = self.rules.options
        return any(name in rules and rules[name].severity is not Severity.LOW for name in self.rules.holding)

    def status(self) -> dict[str, Any]:
        """How the rules are doing, for `edge-agent status` and the API."""
        counts = self.rules.counts()
        return {
            "watched": counts.watched,
            "holding": list(self.rules.holding),
            "pending": counts.pending,
            "unknown": self.rules.unknown(),
        }

    def _count(self) -> None:
        counts, metrics = self.rules.counts(), self._metrics
        for state, value in (
            ("watched", counts.watched),
            ("holding", counts.holding),
            ("pending", counts.pending),
            ("unknown", counts.unknown),
        ):
            metrics.rules.labels(state).set(value)
        holding = set(self.rules.holding)
        for name in holding - self._held:
            metrics.rule_holds.labels(name).inc()
        self._held = holding
