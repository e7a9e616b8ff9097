"""A recording through the very pipeline of the daemon, in virtual time: one row, one tick.

Fed the same readings at the same ticks, the daemon gives the same bits (``tests/system``).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import Calibration
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.companions import MEMBERS
from edge_agent.contract import SourceOptions
from edge_agent.decision.blame import blame
from edge_agent.errors import DataFileError
from edge_agent.inference import Detector, StatisticalDetector
from edge_agent.intake.intake import SourcePort
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport
from edge_agent.pipeline.rewarm import unsettled
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.recording import Recording
from edge_agent.sample import Batch
from edge_agent.verdict import Incident

_BEFORE_CALIBRATION = 100  # half of the ticks until model and companions are heard
_EPOCH_NS = 1_577_836_800 * NS_PER_S  # recordings that count from zero are placed in 2020


@dataclass(slots=True)
class Detection:
    """What was found in a recording; arrays have one entry a row.

    ``score``, ``p_value``: NaN while nothing could be said. ``sensor_score``: [rows, sensors], NaN where not valid.
    ``blame``: [rows, sensors], by which the sensors of an incident are ranked.
    ``member_levels``: [rows, members], what each member of the ensemble said, NaN where it had no vote.
    ``incident``: id of the process incident that was open, or None. ``incidents``: each as it stood last.
    ``warmup``: the same for the warm-up, None without one.
    """

    sensors: tuple[str, ...]
    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    alarm: NDArray[np.int8]
    incident: list[str | None]
    sensor_score: NDArray[np.float32]
    blame: NDArray[np.float32]
    member_levels: NDArray[np.float64]
    incidents: dict[str, Incident] = field(default_factory=dict)
    warmup: Detection | None = None

    @classmethod
    def nothing_yet(cls, recording: Recording) -> Detection:
        """Room for the rows of ``recording``."""
        rows, sensors = len(recording.values), recording.sensors
        return cls(
            sensors,
            np.full(rows, np.nan),
            np.full(rows, np.nan),
            np.zeros(rows, np.int8),
            [None] * rows,
            np.full((rows, len(sensors)), np.nan, np.float32),
            np.zeros((rows, len(sensors)), np.float32),
            np.full((rows, len(MEMBERS)), np.nan),
        )


def detect(
    recording: Recording,
    detector: Detector,
    *,
    warmup: Recording | None = None,
    calibration: Calibration | None = None,
    trained_edges: tuple[tuple[str, str, float], ...] = (),
    options: PipelineOptions | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Detection:
    """Score every row of ``recording``. State is reset where its run changes.

    ``warmup`` is normal history that is run through first. Each run then starts from what was learned in it, detector,
    calibration and edges, and nothing else, so that what is found in a run does not depend on the runs before it.
    :raises DataFileError: ``warmup`` shares no sensor with the recording.
    """
    options = _fitted(options or PipelineOptions(), recording, warmup)
    period_ns = round(options.tick.period * NS_PER_S)
    before = 0 if warmup is None else len(warmup)
    start_ns = int(recording.time_ns[0]) - (before + 1) * period_ns
    clock = VirtualClock(start_ns if start_ns > _EPOCH_NS else _EPOCH_NS)
    metrics, new_id = Metrics(), UlidMaker(random.Random(0))

    def player(detector: Detector) -> _Player:
        pipeline = Pipeline(options, detector, StatisticalDetector, clock, metrics, new_id)
        pipeline.graph.set_trained_edges(trained_edges)
        return _Player(pipeline, clock)

    first = player(detector)
    first.pipeline.calibrate(calibration)
    found = Detection.nothing_yet(recording)
    if warmup is None:
        return _collect(recording, found, lambda at: first.anew() if at else first, progress)
    if not set(warmup.sensors) & set(recording.sensors):
        raise DataFileError("the warm-up file shares no sensor with the recording; expected the same columns")
    first.pipeline.trusting = True
    found.warmup = _collect(warmup, Detection.nothing_yet(warmup), lambda _at: first, lambda _rows: None)
    learned = _Learned.by(first.pipeline)
    return _collect(recording, found, lambda _at: learned.give(player(first.pipeline.detector)), progress)


class _Player:
    """Feeds rows to a pipeline, one tick each, on a clock that only it moves."""

    def __init__(self, pipeline: Pipeline, clock: VirtualClock) -> None:
        self.pipeline = pipeline
        self._clock = clock
        self._port: SourcePort = pipeline.port("recording", SourceOptions(type="recording"))
        self._layouts: dict[bytes, tuple[str, ...]] = {}

    def play(self, recording: Recording, rows: slice) -> Iterator[TickReport]:
        """One report a row."""
        period_ns = self.pipeline.timeline.period_ns
        for row in recording.values[rows]:
            self._clock.advance(period_ns)
            now_ns = self._clock.monotonic_ns()
            known = ~np.isnan(row)
            names = self._layout(recording.sensors, known)
            values = row if len(names) == len(row) else row[known]
            self.pipeline.take(self._port, Batch(names, values, now_ns, source_time_ns=self._clock.wall_ns()))
            yield self.pipeline.tick(now_ns)

    def anew(self) -> _Player:
        """Itself, for another run: what is carried over ticks is forgotten, what was learned stays."""
        self.pipeline.new_run()
        return self

    def _layout(self, sensors: tuple[str, ...], known: NDArray[np.bool_]) -> tuple[str, ...]:
        if known.all():
            return sensors
        key = known.tobytes()
        if key not in self._layouts:
            self._layouts[key] = tuple(name for name, there in zip(sensors, known, strict=True) if there)
        return self._layouts[key]


@dataclass(frozen=True, slots=True)
class _Learned:
    """What a warm-up leaves. ``edges`` are by the order of ``sensors``."""

    sensors: tuple[str, ...]
    detector: dict[str, NDArray[Any]]
    decision: dict[str, NDArray[Any]]
    companions: dict[str, NDArray[Any]] | None
    ensemble: bool
    edges: NDArray[np.int64] | None

    @classmethod
    def by(cls, pipeline: Pipeline) -> _Learned:
        learner = pipeline.graph.learner
        edges = None if learner is None else learner.export()
        if pipeline.companions is not None:
            pipeline.companions.consolidate()
        companions = None if pipeline.companions is None else pipeline.companions.export()
        detector, decision = pipeline.detector.export_state(), pipeline.decider.export()
        return cls(pipeline.graph.sensors, detector, decision, companions, pipeline.transition.done, edges)

    def give(self, player: _Player) -> _Player:
        """``player``, new, with all this."""
        pipeline = player.pipeline
        pipeline.detector.reset()
        pipeline.detector.import_state(unsettled(self.detector, pipeline.detector))
        pipeline.decider.restore(self.decision)
        if pipeline.companions is not None and self.companions is not None:
            pipeline.companions.restore(self.companions)
            pipeline.transition.done = self.ensemble
        pipeline.intake.expect(self.sensors)
        if self.edges is not None:
            pipeline.graph.restore_learned(self.edges)
        return player


def _collect(
    recording: Recording, found: Detection, begin: Callable[[int], _Player], progress: Callable[[int], None]
) -> Detection:
    """Play every run of ``recording`` by the player that ``begin`` gives for its first row."""
    at = 0
    for _, run in recording.runs():
        for report in begin(at).play(recording, run):
            _note(found, at, report)
            at += 1
            if at % 256 == 0:
                progress(at)
    progress(at)
    return found


def _note(found: Detection, at: int, report: TickReport) -> None:
    decision, snapshot = report.decision, report.snapshot
    if decision.plant_score is not None:
        found.score[at] = decision.plant_score
    if decision.p_value is not None:
        found.p_value[at] = decision.p_value
    if report.scores.member_levels is not None:
        found.member_levels[at] = report.scores.member_levels
    found.alarm[at] = decision.alarm
    found.incident[at] = decision.incident
    for incident in decision.changed:
        found.incidents[incident.id] = incident
    score, blamed = np.where(report.scores.valid, report.scores.score, np.nan), blame(report.scores)
    if snapshot.sensors == found.sensors:
        found.sensor_score[at], found.blame[at] = score, blamed
        return
    place = {name: i for i, name in enumerate(snapshot.sensors)}
    columns = [j for j, name in enumerate(found.sensors) if name in place]
    rows = [place[found.sensors[j]] for j in columns]
    found.sensor_score[at, columns], found.blame[at, columns] = score[rows], blamed[rows]


def _fitted(options: PipelineOptions, recording: Recording, warmup: Recording | None) -> PipelineOptions:
    """Options for these files: their period, and a calibration that fits into a short warm-up."""
    tick = options.tick.model_copy(update={"period": period_s(recording)})
    decision = options.decision
    if warmup is not None:
        needed = min(decision.calibration_ticks, max(100, len(warmup) // 2 - _BEFORE_CALIBRATION))
        decision = decision.model_copy(update={"calibration_ticks": needed})
    # In a recording a gap is a gap in the file, not a dead device.
    intake = options.intake.model_copy(update={"forget_after": 1e9})
    return replace(options, tick=tick, decision=decision, intake=intake)


def period_s(recording: Recording) -> float:
    """Usual time between two rows of a run, within what a tick may be."""
    steps = [np.diff(recording.time_ns[rows]) for _, rows in recording.runs()]
    positive = np.concatenate(steps) if steps else np.zeros(0)
    positive = positive[positive > 0]
    median = float(np.median(positive)) / NS_PER_S if len(positive) else 1.0
    return min(max(median, 0.01), 3600.0)
