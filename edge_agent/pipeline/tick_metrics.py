"""What each tick says of itself in metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.companions import MEMBERS, Companions
from edge_agent.decision.decider import Decider
from edge_agent.decision.lifecycle import Lifecycle
from edge_agent.metrics import Metrics
from edge_agent.verdict import IncidentKind

if TYPE_CHECKING:
    from edge_agent.pipeline.engine import TickReport

_ACCOUNT_EVERY = 60  # ticks between two looks at the account of false alarms
_NAN = float("nan")


class TickMetrics:
    """Keeps what it writes to at hand: it is called at each tick. ``stages``: names of the parts of a tick."""

    def __init__(self, metrics: Metrics, stages: Sequence[str]) -> None:
        self._metrics = metrics
        self._stage_seconds = [metrics.tick_seconds.labels(stage) for stage in (*stages, "all")]
        self._member_weights = {name: metrics.member_weight.labels(name) for name in MEMBERS}
        self._open = {kind: metrics.incidents_open.labels(kind.value) for kind in IncidentKind}
        self._gauges = {
            name: getattr(metrics, name).labels()
            for name in ("plant_score", "p_value", "warming_up", "degraded", "sensors", "sensors_missing")
        }
        self._topology = 0

    def ticked(self, report: TickReport, lifecycle: Lifecycle, decider: Decider, companions: Companions | None) -> None:
        """Note one tick."""
        decision, snapshot, gauges = report.decision, report.snapshot, self._gauges
        self._metrics.ticks.labels().inc()
        for histogram, spent_ns in zip(self._stage_seconds, (*report.stages_ns, sum(report.stages_ns)), strict=True):
            histogram.observe(spent_ns / 1e9)
        gauges["plant_score"].set(_NAN if decision.plant_score is None else decision.plant_score)
        gauges["p_value"].set(_NAN if decision.p_value is None else decision.p_value)
        gauges["warming_up"].set(float(decision.warming_up))
        gauges["degraded"].set(float(report.degraded))
        gauges["sensors"].set(len(snapshot))
        gauges["sensors_missing"].set(len(snapshot) - int(np.count_nonzero(snapshot.usable)))
        for kind, gauge in self._open.items():
            gauge.set(lifecycle.open_count(kind))
        if report.tick % _ACCOUNT_EVERY == 0 or decision.changed:
            self._account(decider)
        if companions is not None:
            for name, weight in companions.weights().items():
                self._member_weights[name].set(weight)
        if snapshot.topology != self._topology:
            self._metrics.topology_changes.labels().inc(snapshot.topology - self._topology)
            self._topology = snapshot.topology

    def _account(self, decider: Decider) -> None:
        account, metrics = decider.budget.status(), self._metrics
        metrics.budget_allowed.labels().set(account["allowed_per_day"] or 0.0)
        for bound, name in (("rate", "achieved"), ("low", "achieved_low"), ("high", "achieved_high")):
            rate = account[f"{name}_per_day"]
            metrics.budget_achieved.labels(bound).set(_NAN if rate is None else rate)
        metrics.budget_alarms.labels().set(account["alarms"] or 0.0)
        metrics.budget_margin.labels().set(account["margin"] or 0.0)
        metrics.budget_stretch.labels().set(decider.stretch)
