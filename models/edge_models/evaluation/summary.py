"""Results to one row for each detector and set: means, sums, spreads over seeds, confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_models.evaluation.alarms import Outcome
from edge_models.evaluation.baselines import REFERENCE
from edge_models.evaluation.fault_suite import PREFIX
from edge_models.evaluation.harness import Result
from edge_models.evaluation.intervals import bootstrap, poisson_interval
from edge_models.evaluation.root_cause import CauseQuality
from edge_models.evaluation.streams import SMOOTH_TICKS
from edge_models.evaluation.suites import DAY_S

REFERENCE_ROW = f"{REFERENCE}, mean of {SMOOTH_TICKS}"
OVERALL, OVERALL_FAULTS = "mean of sets", "mean of sets with injected faults"
ByStream = dict[tuple[str, str], dict[str, float]]
"""For each set and detector the VUS-PR of each stream, mean over seeds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """VUS-PR minus that of the reference on the same streams, and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Threshold-free measures: means over streams, then over seeds. ``spread``: standard deviation over seeds.

    ``low``, ``high``: 95 % bootstrap interval of VUS-PR over streams.
    ``worst``: the plant with the lowest mean VUS-PR, None over all sets. ``difference``: None without the reference.
    """

    vus_pr: float
    low: float
    high: float
    spread: float
    auc_pr: float
    auroc: float
    difference: Difference | None
    worst: str | None
    worst_vus_pr: float


@dataclass(frozen=True, slots=True)
class Operating:
    """What people would have seen at the budget. Counts are sums over plants, means over seeds.

    ``matched``: events found with no more false alarms than ours. ``median_delay_*``: over events found, None without
    one. ``mean_delay_s`` (ADD): over all events, one that was missed counts its whole length. ``per_day``: false
    alarms, with the exact 95 % Poisson interval. ``alarmed``: share of normal ticks under alarm. ``worst``: the plant
    with most false alarms a day.
    """

    events: int
    found: float
    matched: float | None
    median_delay_ticks: float | None
    median_delay_s: float | None
    mean_delay_s: float
    false_alarms: float
    per_day: float
    per_day_low: float
    per_day_high: float
    budget_per_day: float
    alarmed: float
    worst: str
    worst_per_day: float
    range_f1: float
    affiliation_f1: float
    event_f1: float


@dataclass(frozen=True, slots=True)
class Causes:
    """Root cause, mean over the events of all plants, then over seeds; see :mod:`edge_models.evaluation.root_cause`."""

    events: int
    hit_rate_100: float
    hit_rate_150: float
    ips_100: float
    ips_150: float
    event_100: float
    top_1: float
    top_3: float
    top_5: float


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of injected fault: means over plants, then over seeds. ``top_1``: None without scores of sensors."""

    kind: str
    vus_pr: float
    top_1: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One detector on one set, or the mean over sets (``OVERALL``, ``OVERALL_FAULTS``), which has no operating point.

    ``kinds``: of injected faults, empty on recordings with labels of their own.
    """

    set: str
    detector: str
    plants: int
    streams: int
    seeds: int
    ranking: Ranking
    operating: Operating | None
    causes: Causes | None
    kinds: tuple[FaultKind, ...] = ()


def summarise(results: Sequence[Result]) -> list[Row]:
    """A row for each set and detector in order of appearance, then the means over sets where there are several."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.set, result.detector), []).append(result)
    sets = list(dict.fromkeys(name for name, _ in groups))
    by_stream: ByStream = {key: _vus_by_stream(chosen) for key, chosen in groups.items()}
    rows = [_row(groups[name, detector], by_stream) for name in sets for group, detector in groups if group == name]
    for title, own in ((OVERALL, False), (OVERALL_FAULTS, True)):
        alike = [name for name in sets if name.startswith(PREFIX) is own]
        for detector in dict.fromkeys(detector for _, detector in groups) if len(alike) > 1 else ():
            chosen = [row for row in rows if row.detector == detector and row.set in alike]
            if len(chosen) == len(alike):
                rows.append(_overall(title, chosen, by_stream))
    return rows


def _row(results: Sequence[Result], by_stream: ByStream) -> Row:
    first, seeds = results[0], _seeds(results)
    return Row(
        set=first.set,
        detector=first.detector,
        plants=len({result.plant for result in results}),
        streams=sum(len(result.ranking) for result in results) // seeds,
        seeds=seeds,
        ranking=_ranking(results, by_stream),
        operating=_operating(results),
        causes=_causes([quality for result in results for quality in result.causes.values()], seeds),
        kinds=_kinds(results) if first.set.startswith(PREFIX) else (),
    )


def _overall(title: str, rows: Sequence[Row], by_stream: ByStream) -> Row:
    def mean(of: Callable[[Ranking], float]) -> float:
        return float(np.mean([of(row.ranking) for row in rows]))

    sets, detector = [row.set for row in rows], rows[0].detector
    vus_pr, low, high = bootstrap([np.array(list(by_stream[name, detector].values())) for name in sets])
    ranking = Ranking(
        vus_pr=vus_pr,
        low=low,
        high=high,
        spread=mean(lambda r: r.spread),
        auc_pr=mean(lambda r: r.auc_pr),
        auroc=mean(lambda r: r.auroc),
        difference=_difference(sets, detector, by_stream),
        worst=None,
        worst_vus_pr=min(row.ranking.worst_vus_pr for row in rows),
    )
    plants, streams = sum(row.plants for row in rows), sum(row.streams for row in rows)
    every = [kind for row in rows for kind in row.kinds]
    kinds = tuple(
        _mean_kind([one for one in every if one.kind == kind]) for kind in dict.fromkeys(k.kind for k in every)
    )
    return Row(title, detector, plants, streams, rows[0].seeds, ranking, None, None, kinds)


def _kinds(results: Sequence[Result]) -> tuple[FaultKind, ...]:
    every = [
        FaultKind(kind, quality.vus_pr, result.causes[kind].top_1 if kind in result.causes else None)
        for result in results
        for kind, quality in result.ranking.items()
    ]
    return tuple(
        _mean_kind([one for one in every if one.kind == kind]) for kind in dict.fromkeys(k.kind for k in every)
    )


def _mean_kind(found: Sequence[FaultKind]) -> FaultKind:
    named = [one.top_1 for one in found if one.top_1 is not None]
    top_1 = float(np.mean(named)) if named else None
    return FaultKind(found[0].kind, float(np.mean([one.vus_pr for one in found])), top_1)


def _ranking(results: Sequence[Result], by_stream: ByStream) -> Ranking:
    every = [quality for result in results for quality in result.ranking.values()]
    seeds = {result.seed for result in results}
    by_seed = [_mean_vus(r for r in results if r.seed == seed) for seed in seeds]
    by_plant = {plant: _mean_vus(r for r in results if r.plant == plant) for plant in {r.plant for r in results}}
    worst = min(by_plant, key=lambda plant: by_plant[plant])
    name, detector = results[0].set, results[0].detector
    _, low, high = bootstrap([np.array(list(by_stream[name, detector].values()))])
    return Ranking(
        vus_pr=float(np.mean(by_seed)),
        low=low,
        high=high,
        spread=float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else 0.0,
        auc_pr=float(np.mean([quality.auc_pr for quality in every])),
        auroc=float(np.mean([quality.auroc for quality in every])),
        difference=_difference([name], detector, by_stream),
        worst=worst,
        worst_vus_pr=by_plant[worst],
    )


def _operating(results: Sequence[Result]) -> Operating:
    seeds = _seeds(results)
    outcomes = [(result, outcome) for result in results for outcome in result.outcomes.values()]
    days = sum(_days(result) for result in results)
    false_alarms = sum(result.false_alarms for result in results)
    low, high = poisson_interval(false_alarms, days)
    plants = {
        plant: sum(r.false_alarms for r in own) / sum(map(_days, own))
        for plant in sorted({r.plant for r in results})
        if (own := [r for r in results if r.plant == plant])
    }
    worst = max(plants, key=lambda plant: plants[plant])
    delays = [(d, d * r.tick_s) for r, outcome in outcomes for d in outcome.delays if d is not None]
    median = np.median(delays, axis=0) if delays else None
    alarms = [quality for result in results for quality in result.alarms.values()]
    return Operating(
        events=sum(len(outcome.delays) for _, outcome in outcomes) // seeds,
        found=sum(outcome.found for _, outcome in outcomes) / seeds,
        matched=_matched(results, seeds),
        median_delay_ticks=None if median is None else float(median[0]),
        median_delay_s=None if median is None else float(median[1]),
        mean_delay_s=float(np.mean([delay for r, outcome in outcomes for delay in _charged(outcome, r.tick_s)])),
        false_alarms=false_alarms / seeds,
        per_day=false_alarms / days,
        per_day_low=low,
        per_day_high=high,
        budget_per_day=float(np.mean([result.budget_per_day for result in results])),
        alarmed=sum(o.alarmed_normal_ticks for _, o in outcomes) / sum(o.normal_ticks for _, o in outcomes),
        worst=worst,
        worst_per_day=plants[worst],
        range_f1=float(np.mean([quality.range_f1 for quality in alarms])),
        affiliation_f1=float(np.mean([quality.affiliation_f1 for quality in alarms])),
        event_f1=float(np.mean([quality.event_f1 for quality in alarms])),
    )


def _causes(found: Sequence[CauseQuality], seeds: int) -> Causes | None:
    if not found:
        return None
    events, ticks = [quality.events for quality in found], [quality.ticks for quality in found]

    def means(weights: list[int], *names: str) -> list[float]:
        return [float(np.average([getattr(quality, name) for quality in found], weights=weights)) for name in names]

    return Causes(
        sum(events) // seeds,
        *means(ticks, "hit_rate_100", "hit_rate_150", "ips_100", "ips_150"),
        *means(events, "event_100", "top_1", "top_3", "top_5"),
    )


def _difference(sets: Sequence[str], detector: str, by_stream: ByStream) -> Difference | None:
    """Streams are paired by name; None where the reference (or the detector on one of the sets) was not measured."""
    groups = []
    for name in sets:
        own, reference = by_stream.get((name, detector)), by_stream.get((name, REFERENCE_ROW))
        if own is None or reference is None or detector == REFERENCE_ROW:
            return None
        groups.append(np.array([own[stream] - reference[stream] for stream in reference]))
    return Difference(*bootstrap(groups))


def _vus_by_stream(results: Sequence[Result]) -> dict[str, float]:
    """Mean over seeds."""
    found: dict[str, list[float]] = {}
    for result in results:
        for stream, quality in result.ranking.items():
            found.setdefault(f"{result.plant}/{stream}", []).append(quality.vus_pr)
    return {stream: float(np.mean(values)) for stream, values in found.items()}


def _mean_vus(results: Iterable[Result]) -> float:
    return float(np.mean([quality.vus_pr for result in results for quality in result.ranking.values()]))


def _matched(results: Sequence[Result], seeds: int) -> float | None:
    counts = [result.matched for result in results if result.matched is not None]
    return sum(counts) / seeds if len(counts) == len(results) else None


def _charged(outcome: Outcome, tick_s: float) -> Iterator[float]:
    for delay, length in zip(outcome.delays, outcome.lengths, strict=True):
        yield tick_s * (length if delay is None else delay)


def _days(result: Result) -> float:
    return sum(outcome.normal_ticks for outcome in result.outcomes.values()) * result.tick_s / DAY_S


def _seeds(results: Sequence[Result]) -> int:
    return len({result.seed for result in results})
