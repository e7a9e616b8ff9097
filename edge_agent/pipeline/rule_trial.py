"""Rules on recorded readings: when would they have held? The rules of the daemon in virtual time, without a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S, Timeline, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.graph.rolling import RollingGraph
from edge_agent.graph.snapshot import Snapshot
from edge_agent.intake.intake import Intake
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import PipelineOptions, states_by_name
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.rules.incidents import RuleIncidents
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.rules import Rules
from edge_agent.sample import Batch
from edge_agent.verdict import Incident, IncidentState

_EPOCH_NS = 1_577_836_800 * NS_PER_S  # recordings that count from zero are placed in 2020
_ROWS_AT_ONCE = 256
_MOST_IN_A_GAP = 3_600
"""Ticks without readings that are gone through where rows are missing; a longer gap is passed over after them."""


@dataclass(frozen=True, slots=True)
class Readings:
    """One stretch of readings [T, N] of ``sensors`` without a change of run; NaN where there is none."""

    sensors: tuple[str, ...]
    time_ns: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(slots=True)
class Trial:
    """What one rule would have done. ``incidents``: each as it stood last; one that is not closed held at the end.

    ``sensors``: those it is about; ``missing``: of them, those without any reading. ``ticks``: how many there were, and
    on how many of them it could be ``judged``.
    """

    sensors: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    ticks: int = 0
    judged: int = 0


def try_rules(
    rules: Mapping[str, RuleOptions],
    options: PipelineOptions,
    runs: Iterable[Readings],
    progress: Callable[[int], None] = lambda _rows: None,
) -> dict[str, Trial]:
    """Watch ``rules`` over recorded readings, as a daemon with ``options`` would have, each run from the start.

    ``progress`` is told how many rows more are done.
    """
    trials = {name: Trial() for name in rules}
    heard: set[str] = set()
    for run in runs:
        _Stretch(rules, options, run).play(trials, progress)
        heard |= {name for name, values in zip(run.sensors, run.values.T, strict=True) if not np.isnan(values).all()}
    for trial in trials.values():
        trial.missing = [name for name in trial.sensors if name not in heard]
    return trials


class _Stretch:
    def __init__(self, rules: Mapping[str, RuleOptions], options: PipelineOptions, run: Readings) -> None:
        self._run = run
        self._period_ns = usual_step_ns(run.time_ns)
        start_ns = int(run.time_ns[0]) - self._period_ns
        self._clock = VirtualClock(start_ns if start_ns > _EPOCH_NS else _EPOCH_NS + start_ns)
        self._timeline = Timeline(self._clock, self._period_ns)
        self._graph = RollingGraph(1, self._period_ns, 32)
        self._intake = Intake(self._graph, self._timeline, options.intake, options.sensor_options, Metrics())
        states = states_by_name(options.sensor_options)
        self._rules = Rules(rules, self._period_ns / NS_PER_S, options.decision.close_after, states)
        self._incidents = RuleIncidents(UlidMaker(random.Random(0)), options.decision.contributors)
        self._port = self._intake.port("recording", SourceOptions(type="recording"))
        self._ticks = 0

    def unit(self, sensor: int) -> str | None:
        """Unit of the values of a sensor (an index)."""
        return self._intake.limits.options[sensor].unit

    def play(self, trials: dict[str, Trial], progress: Callable[[int], None]) -> None:
        """Every row, and every tick of the gaps between them."""
        found: dict[str, Incident] = {}
        for at_ns, row in self._moments():
            self._clock.advance_to(at_ns)
            if row is not None:
                self._take(row, at_ns)
                if row % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
                    progress(_ROWS_AT_ONCE)
            snapshot = self._tick(at_ns)
            for incident in self._incidents.update(self._rules.holding, snapshot, self, []):
                found[incident.id] = incident
            unknown = set(self._rules.unknown())
            for name, trial in trials.items():
                trial.ticks += 1
                trial.judged += name not in unknown
        for name, sensors in self._rules.sensors().items():
            trials[name].sensors = list(dict.fromkeys((*trials[name].sensors, *sensors)))
        for incident in found.values():
            if incident.state is not IncidentState.CLOSED:
                incident = replace(incident, updated_ns=self._clock.wall_ns())
            trials[incident.rules[0]].incidents.append(incident)

    def _moments(self) -> Iterator[tuple[int, int | None]]:
        """Pipeline time and row of every tick; times that go back or repeat are taken to be one step later."""
        at_ns = self._period_ns
        yield at_ns, 0
        steps = np.diff(self._run.time_ns).tolist()
        for row, step_ns in enumerate(steps, start=1):
            target_ns = at_ns + (step_ns if step_ns > 0 else self._period_ns)
            for _ in range(_MOST_IN_A_GAP):
                if target_ns - at_ns <= 1.5 * self._period_ns:
                    break
                at_ns += self._period_ns
                yield at_ns, None
            at_ns = target_ns
            yield at_ns, row

    def _take(self, row: int, at_ns: int) -> None:
        values = self._run.values[row]
        known = ~np.isnan(values)
        sensors = self._run.sensors
        names = sensors if known.all() else tuple(np.array(sensors, dtype=object)[known])
        if names:
            self._intake.take(self._port, Batch(names, values[known], at_ns, source_time_ns=self._clock.wall_ns()))

    def _tick(self, at_ns: int) -> Snapshot:
        self._intake.collect(at_ns)
        snapshot = self._graph.snapshot(self._ticks, at_ns, self._clock.wall_ns())
        self._ticks += 1
        self._rules.update(snapshot, at_ns)
        return snapshot


def usual_step_ns(time_ns: NDArray[np.int64]) -> int:
    """Usual time between two rows, within what a tick may be; a second where there is only one row."""
    steps = np.diff(time_ns)
    steps = steps[steps > 0]
    usual = int(np.median(steps)) if len(steps) else NS_PER_S
    return min(max(usual, NS_PER_S // 100), 3_600 * NS_PER_S)
