"""Runs detectors on cases and judges what they said: one result for each detector, seed and plant.

::

    cases ─► subjects ─► Streams ─► variants ─► rank, alarm, judge ─► Result
               (cached)   (raw, five-tick mean; ours also by its own p-value and alarms)

Our own detector is judged first, because all others are also measured at the false alarms that it came to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from edge_models.datasets import Labels
from edge_models.evaluation.alarms import (
    Layer,
    Outcome,
    Span,
    Threshold,
    as_ticks,
    judge,
    most_found,
    threshold_for,
)
from edge_models.evaluation.baselines import HELD_OUT, Scale
from edge_models.evaluation.cache import Cache
from edge_models.evaluation.metrics import AlarmQuality, Quality, alarm_quality, events, quality
from edge_models.evaluation.root_cause import CauseQuality, cause_quality
from edge_models.evaluation.streams import SMOOTH_TICKS, Stream, Streams, Subject, smoothed
from edge_models.evaluation.suites import DAY_S, Case

Floats = NDArray[np.float64]
Progress = Callable[[str], None]
Scalar = TypeVar("Scalar", bound=np.generic)
_SMALLEST_P = 1e-300


@dataclass(frozen=True, slots=True)
class Result:
    """One detector on one plant.

    ``ranking`` and ``alarms``: by stream judged as one, see :func:`judged_as_one`. ``outcomes``: by test. ``matched``:
    events found by the best threshold with no more false alarms than our own detector had on this plant, None without
    one. ``causes``: by test, where causes are known and the detector scores single sensors.
    """

    set: str
    plant: str
    detector: str
    seed: int
    tick_s: float
    budget_per_day: float
    ranking: dict[str, Quality]
    alarms: dict[str, AlarmQuality]
    outcomes: dict[str, Outcome]
    matched: int | None
    causes: dict[str, CauseQuality]

    @property
    def false_alarms(self) -> int:
        return sum(outcome.false_alarms for outcome in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Scorer:
    """Any function ``(normal [M, N], test [T, N]) -> plant score [T]`` as a detector, for a quick look.

    Readings are standardised by the normal part. Thresholds come from the last quarter of it, scored after the first
    three. The function must be causal; that is not checked.
    """

    name: str
    function: Callable[[Floats, Floats], Floats]
    random: bool = False

    @property
    def key(self) -> str:
        raise ValueError(f"{self.name}: a function has no content to key cached scores by; measure it without a cache")

    def run(self, case: Case, seed: int) -> Streams:
        scale = Scale.of(case.entity.normal)
        normal = scale(case.entity.normal)
        border = int(len(normal) * (1.0 - HELD_OUT))
        tests = {test.name: Stream(self.function(normal, scale(test.values))) for test in case.entity.tests}
        return Streams(self.function(normal[:border], normal[border:]), tests)


@dataclass(frozen=True, slots=True)
class Job:
    """One detector on one plant with one seed.

    ``false_alarms``: what :attr:`Result.matched` is measured at; None leaves it out, unless the job ``leads``: then its
    own decision sets it. ``plots``: folder for pictures of the scores.
    """

    subject: Subject
    case: Case
    seed: int
    cache: Path | None = None
    false_alarms: int | None = None
    leads: bool = False
    plots: Path | None = None

    def run(self) -> list[Result]:
        """A result for each way to read the detector's scores."""
        streams = Cache(self.cache).streams(self.subject, self.case, self.seed)
        if self.plots is not None:
            from edge_models.evaluation.plots import draw_streams  # matplotlib is slow to load

            draw_streams(self.case, streams, self.plots)
        read = list(variants(self.subject.name, streams))
        results = [self._judged(name, variant) for name, variant in read]
        allowed = results[-1].false_alarms if self.leads else self.false_alarms
        if allowed is None:
            return results
        return [
            replace(result, matched=self._most_found(variant, allowed))
            for result, (_, variant) in zip(results, read, strict=True)
        ]

    def _judged(self, name: str, streams: Streams) -> Result:
        case, entity = self.case, self.case.entity
        layer = Layer.of(case.tick_s)
        threshold = threshold_for(streams.calm, case.false_alarms_per_s * case.tick_s)
        alarms = {test: _alarms(stream, layer, threshold) for test, stream in streams.tests.items()}
        on = {test.name: as_ticks(alarms[test.name], len(test.label)) for test in entity.tests}
        plant = {test: stream.plant for test, stream in streams.tests.items()}
        return Result(
            set=case.set,
            plant=entity.name,
            detector=name,
            seed=self.seed,
            tick_s=case.tick_s,
            budget_per_day=case.false_alarms_per_s * DAY_S,
            ranking={
                stream: found
                for stream, label, score in judged_as_one(case, plant)
                if (found := quality(label, score, case.window)) is not None
            },
            alarms={
                stream: alarm_quality(label, alarm) for stream, label, alarm in judged_as_one(case, on) if label.any()
            },
            outcomes={test.name: judge(alarms[test.name], test.label) for test in entity.tests},
            matched=None,
            causes={
                test: cause_quality(sensor, causes)
                for test, causes in case.causes.items()
                if causes and (sensor := streams.tests[test].sensor) is not None
            },
        )

    def _most_found(self, streams: Streams, allowed: int) -> int:
        tests = self.case.entity.tests
        scores = [streams.tests[test.name].plant for test in tests]
        return most_found(scores, [test.label for test in tests], Layer.of(self.case.tick_s), allowed)


def measure(
    cases: Sequence[Case],
    ours: Sequence[Subject],
    others: Sequence[Subject],
    *,
    seeds: int = 1,
    cache: Path | None = None,
    plots: Path | None = None,
    processes: int = 1,
    progress: Progress = lambda _said: None,
) -> list[Result]:
    """Judge ``ours`` and ``others`` on all cases. Detectors without randomness run once, others with each seed.

    Results come in the order of the subjects, for each in the order of the cases. With several ``processes`` a
    subject must be picklable.
    """
    leading = [replace(job, leads=True, plots=plots) for job in _jobs(ours[:1], cases, 1, cache)]
    results = _run(leading, processes, progress)
    allowed = {(result.set, result.plant): result.false_alarms for result in results}  # the last reading: by decision
    following = [
        replace(job, false_alarms=allowed.get((job.case.set, job.case.entity.name)))
        for job in _jobs((*ours, *others), cases, seeds, cache)
        if not (job.seed == 0 and any(job.subject is subject for subject in ours[:1]))
    ]
    return [*results, *_run(following, processes, progress)]


def variants(name: str, streams: Streams) -> Iterator[tuple[str, Streams]]:
    """The ways to read scores: as they are, and as five-tick means; ours, averaged already, by its own decision too."""
    tests = streams.tests
    if any(stream.p_value is None for stream in tests.values()):
        yield name, streams
        yield f"{name}, mean of {SMOOTH_TICKS}", smoothed(streams)
        return
    yield name, replace(streams, tests={test: replace(stream, alarm=None) for test, stream in tests.items()})
    yield f"{name}, own decision", replace(streams, tests={test: _decided(stream) for test, stream in tests.items()})


def judged_as_one(case: Case, by_test: dict[str, NDArray[Scalar]]) -> Iterator[tuple[str, Labels, NDArray[Scalar]]]:
    """Name, labels and values of each stretch judged by itself.

    All tests of a pooled plant together; else each test with an event, after the faultless ones, because a test must
    hold both classes and a single fault often leaves few normal ticks.
    """
    tests = case.entity.tests
    if case.entity.pooled:
        groups = [(case.entity.name, tests)]
    else:
        calm = tuple(test for test in tests if not test.label.any())
        groups = [(test.name, (*calm, test)) for test in tests if test.label.any()]
    for name, parts in groups:
        yield name, np.concatenate([t.label for t in parts]), np.concatenate([by_test[t.name] for t in parts])


def _jobs(subjects: Iterable[Subject], cases: Sequence[Case], seeds: int, cache: Path | None) -> list[Job]:
    return [
        Job(subject, case, seed, cache)
        for subject in subjects
        for case in cases
        for seed in range(seeds if subject.random else 1)
    ]


def _run(jobs: Sequence[Job], processes: int, progress: Progress) -> list[Result]:
    """Results in the order of the jobs."""
    if processes == 1:
        return [result for job in jobs for result in _told(job, job.run(), progress)]
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(job.run): job for job in jobs}
        for future in as_completed(running):
            _told(running[future], future.result(), progress)
        return [result for future in running for result in future.result()]


def _told(job: Job, results: list[Result], progress: Progress) -> list[Result]:
    progress(f"{job.case.set} {job.case.entity.name}: {job.subject.name}")
    return results


def _alarms(stream: Stream, layer: Layer, threshold: Threshold) -> list[Span]:
    return layer.alarms(stream.plant, threshold) if stream.alarm is None else events(stream.alarm)


def _decided(stream: Stream) -> Stream:
    assert stream.p_value is not None
    p_value = np.where(np.isfinite(stream.p_value), stream.p_value, 1.0)
    return replace(stream, plant=-np.log10(np.maximum(p_value, _SMALLEST_P)))
