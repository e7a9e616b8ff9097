"""The tick: readings aligned, scored, decided. Synchronous and without I/O, so that replay is the same code.

take -> Intake -> RollingGraph -> Snapshot -> Detector -> Decider -> TickReport
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Calibration
from edge_agent.clock import Clock, Timeline
from edge_agent.companions import CompanionOptions, Companions
from edge_agent.contract import SourceOptions
from edge_agent.decision.decider import Decider, Decision
from edge_agent.decision.facts import Relation
from edge_agent.decision.lifecycle import Lifecycle, Standing
from edge_agent.decision.options import DecisionOptions
from edge_agent.drift import DriftMonitor, DriftOptions
from edge_agent.graph.learning import EdgeLearner
from edge_agent.graph.options import GraphOptions
from edge_agent.graph.rolling import RollingGraph
from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.detector import Detector, DetectorError
from edge_agent.intake.intake import Intake, SourcePort
from edge_agent.intake.options import Criticality, IntakeOptions, SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.patterns.library import Library
from edge_agent.pipeline.options import TickOptions
from edge_agent.pipeline.pattern_watch import PatternWatch
from edge_agent.pipeline.rule_watch import RuleWatch
from edge_agent.pipeline.tick_metrics import TickMetrics
from edge_agent.pipeline.transition import Transition
from edge_agent.rules.options import RuleOptions
from edge_agent.sample import Batch
from edge_agent.verdict import Event, EventKind, Feedback, Incident, IncidentKind, IncidentState, Scores

_log = logging.getLogger(__name__)

_FAILURES_TO_FALL_BACK = 3
_SUSPICIOUS = 0.2  # companions do not learn from ticks less likely than this
_FORGET_LOOKS = 100  # looks for silent sensors in the time after which they are removed

_WEIGHTS = {Criticality.LOW: -1, Criticality.NORMAL: 0, Criticality.HIGH: 1}

STAGES = ("intake", "graph", "score", "decide")


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """The options the pipeline is built from; ``sensor_options`` answers by sensor name, ``edges`` are declared."""

    tick: TickOptions = field(default_factory=TickOptions)
    intake: IntakeOptions = field(default_factory=IntakeOptions)
    graph: GraphOptions = field(default_factory=GraphOptions)
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    drift: DriftOptions = field(default_factory=DriftOptions)
    companions: CompanionOptions = field(default_factory=CompanionOptions)
    rules: Mapping[str, RuleOptions] = field(default_factory=dict)
    patterns: Library = field(default_factory=Library)
    sensor_options: Callable[[str], SensorOptions] = lambda _name: SensorOptions()
    edges: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TickReport:
    """Everything about one tick.

    ``stages_ns``: for each of ``STAGES``, how long it took; ``detector_ns``: processor time of the detector alone.
    ``model_scores``: what the detector said, before companions had a say.
    """

    tick: int
    time_ns: int
    snapshot: Snapshot
    scores: Scores
    decision: Decision
    events: tuple[Event, ...]
    stages_ns: tuple[int, ...]
    degraded: bool
    model_scores: Scores
    detector_ns: int


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A decision that is to replace what the one in force knows. ``learning``: the steps to get there, each short."""

    decider: Decider
    learning: Iterator[None]

    def learned(self) -> Decider:
        """The decision after all steps; takes tens of milliseconds."""
        for _ in self.learning:
            pass
        return self.decider


class Pipeline:
    """Owns the graph, the intake, the detector and the decision of one plant."""

    def __init__(
        self,
        options: PipelineOptions,
        detector: Detector,
        fallback: Callable[[], Detector],
        clock: Clock,
        metrics: Metrics,
        new_id: Callable[[int], str],
    ) -> None:
        self.options = options
        self.new_id = new_id
        self.metrics = metrics
        self.detector = detector
        self.timeline = Timeline(clock, round(options.tick.period * 1e9))
        learner = EdgeLearner(options.graph.learn_after, options.graph.relearn_every) if options.graph.learn else None
        self.graph = RollingGraph(detector.neighbours, self.timeline.period_ns, options.graph.window, learner)
        self.graph.declare_edges(options.edges)
        self.intake = Intake(self.graph, self.timeline, options.intake, options.sensor_options, metrics)
        self.companions = Companions(options.companions) if options.companions.enabled else None
        self.decider = self.new_decider()
        self.lifecycle = Lifecycle(options.decision, options.tick.period, self.area, options.intake.stale_after)
        self.rules = RuleWatch(
            options.rules,
            states_by_name(options.sensor_options),
            options.tick.period,
            options.decision.close_after,
            options.decision.contributors,
            new_id,
            metrics,
        )
        self.patterns = PatternWatch(options.patterns, options.tick.period, self.decider.process.evidence)
        self.transition = Transition(self.new_decider)
        self.drift = DriftMonitor(options.drift, options.tick.period) if options.drift.enabled else None
        self.trusting = False
        """True while what comes is known to be normal, as a history that is run through first: all of it is learned."""
        self.ticks = 0
        self.last_report: TickReport | None = None
        self._fallback = fallback
        self._failures = 0
        self._ruled_ticks = 0
        self._warm = False
        self._notices: list[tuple[str, str, dict[str, Any]]] = []
        self._look_every_ns = round(options.intake.forget_after * 1e9) // _FORGET_LOOKS
        self._next_look_ns = self.timeline.now_ns() + self._look_every_ns
        self._tick_metrics = TickMetrics(metrics, STAGES)

    def new_decider(self) -> Decider:
        """A decision under the options in force that knows nothing yet."""
        return Decider(self.options.decision, self.options.tick.period, self.new_id)

    # -- readings in -------------------------------------------------------------------------------------------

    def port(self, name: str, options: SourceOptions) -> SourcePort:
        """The entrance for one source."""
        return self.intake.port(name, options)

    def take(self, port: SourcePort, batch: Batch) -> None:
        """Note one frame; it takes part in the tick its time falls into."""
        self.intake.take(port, batch)

    # -- the tick ----------------------------------------------------------------------------------------------

    def tick(self, tick_ns: int) -> TickReport:
        """Score the plant as it was at pipeline time ``tick_ns``."""
        times = [time.perf_counter_ns()]
        self.check_clock()
        if tick_ns >= self._next_look_ns:
            self._forget(tick_ns)
        self.intake.collect(tick_ns)
        times.append(time.perf_counter_ns())
        snapshot = self.graph.snapshot(self.ticks, tick_ns, self.timeline.to_wall_ns(tick_ns))
        times.append(time.perf_counter_ns())
        before_ns = time.thread_time_ns()
        scores = ensemble = model_scores = self._score(snapshot)
        detector_ns = time.thread_time_ns() - before_ns
        if self.companions is not None:
            ensemble = self.companions.score(snapshot, scores, self.monitored)
            scores = ensemble if self.transition.done else scores
        times.append(time.perf_counter_ns())
        decision = self._decide(tick_ns, snapshot, scores)
        if self.companions is not None:
            self._teach(self.companions, snapshot, ensemble, decision)
        if self.drift is not None and decision.maintenance:
            self.drift.maintained()
        elif self.drift is not None:
            self._watch_drift(self.drift, snapshot, scores, decision.incident)
        events = self._events(snapshot, decision)
        times.append(time.perf_counter_ns())
        stages = tuple(after - before for before, after in pairwise(times))
        report = TickReport(
            snapshot.tick,
            snapshot.time_ns,
            snapshot,
            scores,
            decision,
            events,
            stages,
            self.detector.degraded,
            model_scores,
            detector_ns,
        )
        self.ticks += 1
        self.last_report = report
        self._tick_metrics.ticked(report, self.lifecycle, self.decider, self.companions)
        return report

    def new_run(self) -> tuple[Event, ...]:
        """The stream starts anew (another recording): carried state is forgotten, calibration and edges stay."""
        self.detector.reset()
        if self.companions is not None:
            self.companions.forget_recent()
        if self.drift is not None:
            self.drift.new_run()
        changed: tuple[Incident, ...] = ()
        if self.last_report is not None:
            snapshot = self.last_report.snapshot
            closed = (*self.decider.new_run(snapshot, self), *self.rules.close_all(snapshot))
            closed = tuple(self.patterns.new_run(closed))
            changed = tuple(self.lifecycle.new_run(closed, self.timeline.now_ns(), snapshot.time_ns))
        self.intake.reset()
        return tuple(self._incident_event(incident) for incident in changed)

    def replace_detector(self, detector: Detector, knowledge: Decider | None) -> None:
        """Exchange the detector between two ticks; ``knowledge`` has learned what
        :meth:`knowledge_of` its bundle gave. Without it the decision warms up again.
        """
        self.detector = detector
        self._failures = 0
        self.graph.set_neighbours(detector.neighbours)
        self.decider.recalibrate()
        if self.companions is not None:
            self.companions.forget_model()
        self.transition.start_again()
        if self.drift is not None:
            self.drift.model_replaced()
        self._warm = False
        if knowledge is not None:
            self.decider.judge_as(knowledge)

    def calibrate(self, calibration: Calibration | None) -> None:
        """Take over the scores on held-out normal data that a bundle brought, if any."""
        knowledge = self.knowledge_of(calibration)
        if knowledge is not None:
            self.decider.judge_as(knowledge.learned())

    def knowledge_of(self, calibration: Calibration | None) -> Knowledge | None:
        """What the decision may learn from the scores that a bundle brought; None: there are none."""
        if calibration is None or not calibration.scores.size:
            return None
        decider = self.new_decider()
        return Knowledge(decider, decider.calibrating(calibration.sensor_names, calibration.scores))

    def notice(self, what: str, message: str, details: dict[str, Any] | None = None) -> None:
        """Put a status event into the next tick's report; ``details`` come beside its message."""
        self._notices.append((what, message, details or {}))

    def tell(self, incidents: Iterable[Incident]) -> tuple[Event, ...]:
        """Events of incidents that changed between two ticks, as by an operator."""
        return tuple(self._incident_event(incident) for incident in incidents)

    def feedback(
        self, incident_id: str, sensors: tuple[str, ...], members: Mapping[str, float], verdict: Feedback
    ) -> None:
        """A person says what an incident of ``sensors`` was. ``members``: how far each member was above the usual."""
        false_alarm = verdict is Feedback.FALSE_ALARM
        if self.drift is not None and false_alarm:
            self.drift.exonerate(incident_id)
        self.decider.budget.judged(sensors, false_alarm=false_alarm)
        if self.companions is not None:
            self.companions.judged(incident_id, members, false_alarm=false_alarm)

    def check_clock(self) -> None:
        """Follow the wall clock. Each tick does it; with long ticks it is worth doing more often.

        Until it is done, readings stamped with the new time of a clock that was set back look older than they are.
        """
        jump_ns = self.timeline.correct()
        if jump_ns:
            self.metrics.clock_jumps.labels().inc()
            self.notice("clock_jump", f"the gateway's wall clock jumped by {jump_ns / 1e9:+.1f}s; ticks go on")

    # -- what the decision may ask (SensorFacts) ---------------------------------------------------------------

    @property
    def monitored(self) -> NDArray[np.bool_]:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        return self.intake.limits.monitored

    def unit(self, sensor: int) -> str | None:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        return self.intake.limits.options[sensor].unit

    def weight(self, sensor: int) -> int:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        return _WEIGHTS[self.intake.limits.options[sensor].criticality]

    def readings(self, sensors: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        return self.graph.window(sensors, ticks)

    def relations(self, sensor: int, most: int) -> list[Relation]:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        if self.companions is None or not self.transition.done:
            return []
        return [Relation(*found) for found in self.companions.relations(sensor, most)]

    def source(self, sensor: int) -> str | None:
        """See :class:`~edge_agent.decision.facts.SensorFacts`."""
        return self.intake.owner(self.graph.sensors[sensor])

    # -- what patterns may ask (Surroundings) ------------------------------------------------------------------

    def area_of(self, sensor: int) -> str | None:
        """See :class:`~edge_agent.pipeline.sights.Surroundings`."""
        return self.intake.limits.options[sensor].area or self.source(sensor)

    def limits(self, sensor: int) -> tuple[float | None, float | None]:
        """See :class:`~edge_agent.pipeline.sights.Surroundings`."""
        options = self.intake.limits.options[sensor]
        return options.min, options.max

    # -- what the life of incidents may ask --------------------------------------------------------------------

    def area(self, name: str) -> str | None:
        """Part of the plant that the sensor ``name`` belongs to; None where nothing is said of it."""
        index = self.graph.index.get(name)
        return None if index is None else self.intake.limits.options[index].area

    # -- inside ------------------------------------------------------------------------------------------------

    def _forget(self, tick_ns: int) -> None:
        self._next_look_ns = tick_ns + self._look_every_ns
        gone = self.intake.forget_silent(tick_ns)
        if gone:
            self.notice("sensors_removed", f"not heard of for long and removed: {', '.join(gone[:20])}")

    def _score(self, snapshot: Snapshot) -> Scores:
        try:
            scores = self.detector.score(snapshot)
        except DetectorError as error:
            self._failures += 1
            self.metrics.detector_failures.labels().inc()
            _log.error("tick %d not scored: %s", snapshot.tick, error)
            if self._failures >= _FAILURES_TO_FALL_BACK and not self.detector.degraded:
                self._fall_back(str(error))
            return nothing_scored(snapshot)
        self._failures = 0
        return scores

    def _teach(self, companions: Companions, snapshot: Snapshot, ensemble: Scores, decision: Decision) -> None:
        if companions.heard and not self.transition.done:
            self.transition.step(self.decider, snapshot, ensemble, self, decision, trusted=self.trusting)
        if self.trusting:
            companions.settle(snapshot, alarm=False, suspicious=False, delay=0, trusted=True)
            return
        heard = companions.heard
        # Honest p-values follow the plant; what may be learned is judged by the plant as it was.
        unlikely = decision.calibrated_p is not None and decision.calibrated_p < _SUSPICIOUS
        suspicious = decision.maintenance or self._ruled_out or (heard and unlikely)
        delay = self.decider.delay if heard else 0
        # However long maintenance takes, it is not how the plant runs from now on.
        alarm = decision.alarm and not decision.maintenance
        companions.settle(snapshot, alarm=alarm, suspicious=suspicious, delay=delay, incident=decision.incident)

    def _decide(self, tick_ns: int, snapshot: Snapshot, scores: Scores) -> Decision:
        """What the decision says, as people know it. Maintenance teaches nothing, as little as an alarm does; nor does
        what comes while an incident from before a restart may still go on, or while a rule of the user's objects. Of a
        history that is run through nobody is told."""
        self.patterns.remember(snapshot)
        if self.trusting:
            return self.decider.decide(snapshot, scores, self, degraded=self.detector.degraded, trusted=True)
        maintenance = self.lifecycle.under_maintenance(snapshot.time_ns, self._watched)
        resuming = self.decider.calibration.ready and self.lifecycle.resuming
        self._ruled_ticks = self._ruled_ticks + 1 if self.rules.serious else 0
        held = maintenance or resuming or self._ruled_out
        decision = self.decider.decide(snapshot, scores, self, degraded=self.detector.degraded, alarmed=held)
        found = self._with_rules(tick_ns, snapshot, decision.changed)
        found = self.patterns.update(snapshot, scores, self, found, self._standing)
        told = self.lifecycle.update(tick_ns, snapshot.time_ns, found, self._standing, judging=not decision.warming_up)
        incident = self.lifecycle.id_of(decision.incident)
        return replace(decision, changed=tuple(told), incident=incident, maintenance=maintenance)

    @property
    def _ruled_out(self) -> bool:
        """A rule said at the last tick that this is not how the plant should run. A rule that always holds must not
        keep the warm-up from ending, so it is believed for as many ticks as a warm-up takes."""
        return 0 < self._ruled_ticks <= self.options.decision.calibration_ticks

    def _watched(self) -> Iterator[str]:
        return (name for name, watched in zip(self.graph.sensors, self.monitored, strict=True) if watched)

    def _with_rules(self, tick_ns: int, snapshot: Snapshot, found: tuple[Incident, ...]) -> list[Incident]:
        if not self.rules.started:
            self.rules.resume(self.lifecycle.open_incidents())
        known = self.lifecycle.open_incidents() if self.lifecycle.resuming else []
        awaited = {rule for one in known if one.kind is IncidentKind.PROCESS for rule in one.rules}
        changed = self.rules.update(snapshot, tick_ns, self, found, self.decider.standing, awaited)
        while self.rules.notices:
            self.notice("rule", self.rules.notices.pop(0))
        return changed

    def _standing(self, incident_id: str) -> Standing | None:
        return self.decider.standing(incident_id) or self.rules.standing(incident_id)

    def _fall_back(self, reason: str) -> None:
        message = (
            f"the model failed {self._failures} ticks in a row ({reason}); "
            "the statistical detector has taken over, incidents are flagged as degraded"
        )
        _log.error("%s", message)
        self.notice("degraded", message)
        self.replace_detector(self._fallback(), None)

    def _watch_drift(self, drift: DriftMonitor, snapshot: Snapshot, scores: Scores, incident: str | None) -> None:
        for finding in drift.observe(snapshot, scores, incident):
            self.metrics.drift_signals.labels(finding.kind.value).inc()
            self.notice(finding.kind.value, finding.message, finding.details())
        if drift.block_ended:
            for statistic, count in drift.counts().items():
                self.metrics.drift_sensors.labels(statistic).set(count)
            self.metrics.drift_evidence.labels().set(drift.evidence)
            self.metrics.drift_model_stale.labels().set(float(drift.stale))

    def _events(self, snapshot: Snapshot, decision: Decision) -> tuple[Event, ...]:
        if not self._warm and not decision.warming_up:
            self._warm = True
            self.notice("calibrated", "enough normal data was seen; incidents are now raised")
        events = [self._incident_event(incident) for incident in decision.changed]
        for what, message, details in self._notices:
            body = {"what": what, "message": message, **details}
            events.append(Event(self.new_id(snapshot.time_ns), EventKind.STATUS, snapshot.time_ns, body))
        self._notices.clear()
        return tuple(events)

    def _incident_event(self, incident: Incident) -> Event:
        if incident.state is IncidentState.OPEN and not incident.reopened:
            self.metrics.incidents.labels(incident.kind.value, incident.severity.value).inc()
        return Event(self.new_id(incident.updated_ns), EventKind.INCIDENT, incident.updated_ns, incident.to_dict())


def nothing_scored(snapshot: Snapshot) -> Scores:
    """Scores of a tick on which the detector failed: no sensor is valid."""
    n = len(snapshot)
    zeros = np.zeros(n, np.float32)
    attention = np.zeros(snapshot.neighbour.shape, np.float32)
    return Scores(zeros, zeros, zeros, np.zeros(n, np.bool_), snapshot.neighbour, attention)


def states_by_name(options_for: Callable[[str], SensorOptions]) -> Callable[[str], Mapping[str, float]]:
    """Names of a sensor's values by its name, empty for the usual ones."""
    return lambda name: options_for(name).states


def sensor_options_by_pattern(patterns: Iterable[tuple[str, SensorOptions]]) -> Callable[[str], SensorOptions]:
    """Options of a sensor: its exact name first, else the first shell-style pattern of the file that matches."""
    ordered = list(patterns)
    exact = dict(ordered)
    default = SensorOptions()

    def options_for(name: str) -> SensorOptions:
        if name in exact:
            return exact[name]
        return next((options for pattern, options in ordered if fnmatchcase(name, pattern)), default)

    return options_for
