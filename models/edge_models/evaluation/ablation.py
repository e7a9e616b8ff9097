"""What each part of the detector earns: ``python -m edge_models.evaluation.ablation --data DIR``.

The daemon's pipeline runs once over each plant and what every member of the ensemble said is kept. Members alone, the
ensemble without one, and other ways to combine are then computed from these levels: the same ticks were learned from
in all rows, those that the whole ensemble took for normal. The parts of the hybrid model are measured without
companions (:mod:`edge_models.evaluation.hybrid_parts`).

Everything is causal. What a way to combine has to know of usual levels comes from the last quarter of the normal part.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.companions import MEMBERS
from edge_agent.errors import DataFileError, EdgeAgentError
from edge_models.datasets import DATA_VARIABLE, data_folder
from edge_models.evaluation import fault_suite
from edge_models.evaluation.agent import Agent
from edge_models.evaluation.baselines import HELD_OUT
from edge_models.evaluation.harness import judged_as_one
from edge_models.evaluation.hybrid_parts import PARTS, part_levels
from edge_models.evaluation.metrics import vus_pr
from edge_models.evaluation.streams import SMOOTH_TICKS
from edge_models.evaluation.suites import LABELLED, Case, cases
from edge_models.hybrid import HybridStep

Floats = NDArray[np.float64]
Combine = Callable[[Floats], Floats]
"""From levels [T, M], NaN where a member says nothing, to the plant's [T]."""
Make = Callable[[Floats], Combine]
"""From usual levels [T, M] to the way to combine."""
WHOLE = "whole: mean of logs"
REPLAY = "replay"
_TAIL = 0.9  # quantile of usual levels above which their tail is taken to be exponential
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Levels:
    """Log scores [T, M] of one plant, NaN where there is none: of its ``normal`` part and of each test by name."""

    normal: Floats
    tests: dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Row:
    """A variant and its VUS-PR by column of the table."""

    group: str
    name: str
    vus_pr: Mapping[str, float]


def member_levels(case: Case, bundle: Path | None = None) -> Levels:
    """What the members of the ensemble say of ``case``, in the order of ``MEMBERS``. ``bundle`` None: universal."""
    found = Agent("", bundle).detect(case)
    assert found.warmup is not None
    tests, at = {}, 0
    for test in case.entity.tests:
        tests[test.name] = found.member_levels[at : at + len(test.label)]
        at += len(test.label)
    return Levels(found.warmup.member_levels, tests)


def ways() -> Iterator[tuple[str, str, Make]]:
    """Group and name of every way to combine."""
    yield "ensemble", WHOLE, as_is(_mean)
    for place, name in enumerate(MEMBERS):
        yield "one member alone", name, member(place)
    for place, name in enumerate(MEMBERS):
        yield "without", name, _without(place)
    yield "combined otherwise", "mean of log p-values", _by_p_values
    yield "combined otherwise", "mean of standardised logs", _standardised(_mean)
    yield "combined otherwise", "median of logs", as_is(_median)
    yield "combined otherwise", "maximum of logs", as_is(_largest)
    yield "combined otherwise", "maximum of standardised logs", _standardised(_largest)
    yield "combined otherwise", "log of the mean square", as_is(lambda levels: np.log(_mean(np.exp(levels))))


def as_is(combine: Combine) -> Make:
    """``combine``, which has to know nothing of usual levels."""
    return lambda _usual: combine


def member(place: int) -> Make:
    """One member alone."""
    return as_is(lambda levels: levels[:, place])


def judged(case: Case, levels: Levels, make: Make) -> float:
    """VUS-PR of one way to combine, mean over what is judged as one."""
    usual = levels.normal[int(len(levels.normal) * (1.0 - HELD_OUT)) :]
    combine = make(usual)
    normal = smoothed(combine(levels.normal))
    calmest = float(np.nanmin(normal)) if np.isfinite(normal).any() else 0.0
    scores = {name: np.nan_to_num(smoothed(combine(test)), nan=calmest) for name, test in levels.tests.items()}
    return float(np.mean([vus_pr(label, score, case.window) for _, label, score in judged_as_one(case, scores)]))


def smoothed(level: Floats, ticks: int = SMOOTH_TICKS) -> Floats:
    """Mean of each level and up to ``ticks - 1`` before it, of those that are known; NaN where none is."""
    padded = np.concatenate((np.full(ticks - 1, np.nan), level))
    return _mean(np.lib.stride_tricks.sliding_window_view(padded, ticks))


def ensemble_rows(columns: Mapping[str, Sequence[Case]], cache: Path | None, told: Callable[[str], None]) -> list[Row]:
    """All ways of :func:`ways`, by column."""
    made = list(ways())
    found: dict[str, Floats] = {}
    for column, chosen in columns.items():
        values = []
        for case in chosen:
            told(f"{case.set} {case.entity.name}: members")
            levels = kept(cache, f"members {case.set} {case.entity.name}", partial(member_levels, case))
            values.append(np.array([judged(case, levels, make) for _, _, make in made]))
        found[column] = _mean_of_sets(chosen, values)
    return [
        Row(group, name, {column: float(values[at]) for column, values in found.items()})
        for at, (group, name, _) in enumerate(made)
    ]


def hybrid_rows(columns: Mapping[str, Sequence[Case]], told: Callable[[str], None]) -> list[Row]:
    """The parts of the universal hybrid model, without companions, by column."""
    found: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for column, chosen in columns.items():
        for part, make in PARTS.items():
            told(f"{column}: hybrid, {part}")
            values = [
                np.array([judged(case, Levels(normal, tests), member(0))])
                for name in dict.fromkeys(case.set for case in chosen)
                for case, (normal, tests) in _part_levels([case for case in chosen if case.set == name], make())
            ]
            found[part][column] = float(_mean_of_sets(chosen, values)[0])
    return [Row("hybrid without companions", part, by_column) for part, by_column in found.items()]


def kept(cache: Path | None, name: str, make: Callable[[], Levels]) -> Levels:
    """``make()``, or what it gave when it was last kept under ``name`` in the folder ``cache``."""
    if cache is None:
        return make()
    path = cache / f"{re.sub(r'[^a-zA-Z0-9.-]', '-', name)}.npz"
    if path.exists():
        with np.load(path) as arrays:
            tests = {key.removeprefix("test/"): arrays[key] for key in arrays if key.startswith("test/")}
            return Levels(arrays["normal"], tests)
    levels = make()
    cache.mkdir(parents=True, exist_ok=True)
    arrays = {f"test/{test}": values for test, values in levels.tests.items()}
    np.savez(path, normal=levels.normal, **arrays)
    return levels


def chosen_cases(folder: Path, names: Sequence[str], fault_seed: int = 0) -> dict[str, list[Case]]:
    """Plants by column, in the order of their sets: each labelled set by its name, replay faults of all sets together.

    :raises DataFileError: recordings are not in ``folder``, or all are too short for a replay.
    """
    found: dict[str, list[Case]] = {}
    for name in names:
        if name.startswith(fault_suite.PREFIX):
            injected = [_replay_only(case) for case in fault_suite.fault_cases(folder, name, fault_seed)]
            found[REPLAY] = [*found.get(REPLAY, ()), *(case for case in injected if case.entity.tests)]
        else:
            found[name] = cases(folder, name)
    if not found.get(REPLAY, True):
        raise DataFileError(f"{', '.join(names)}: recordings too short for a replay; choose others beside them")
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The rows as one table, by group."""
    sets = list(rows[0].vus_pr)
    lines = [f"| | {' | '.join(sets)} | mean |", "|" + "---|" * (len(sets) + 2)]
    for group in dict.fromkeys(row.group for row in rows):
        lines.append(f"| **{group}** |" + " |" * (len(sets) + 1))
        for row in (row for row in rows if row.group == group):
            values = [row.vus_pr[name] for name in sets]
            lines.append(f"| {row.name} | " + " | ".join(f"{value:.3f}" for value in (*values, np.mean(values))) + " |")
    return "\n".join(lines) + "\n"


def _part_levels(chosen: Sequence[Case], step: HybridStep) -> Iterator[tuple[Case, tuple[Floats, dict[str, Floats]]]]:
    return zip(chosen, part_levels(chosen, step), strict=True)


def _mean_of_sets(chosen: Sequence[Case], values: Sequence[Floats]) -> Floats:
    """Mean over sets of the mean over their plants, so that a set with many plants counts no more."""
    names = dict.fromkeys(case.set for case in chosen)
    plants = [[value for case, value in zip(chosen, values, strict=True) if case.set == name] for name in names]
    return np.asarray(np.mean([np.mean(of, axis=0) for of in plants], axis=0), np.float64)


def _replay_only(case: Case) -> Case:
    tests = tuple(test for test in case.entity.tests if test.name == REPLAY)
    return replace(case, entity=replace(case.entity, tests=tests), causes={})


def _known(reduce: Callable[..., Floats], levels: Floats) -> Floats:
    """``reduce`` over members in ticks in which somebody says something, NaN in others."""
    there = np.isfinite(levels).any(axis=1)
    found = np.full(len(levels), np.nan)
    found[there] = reduce(levels[there], axis=1)
    return found


def _mean(levels: Floats) -> Floats:
    return _known(np.nanmean, levels)


def _largest(levels: Floats) -> Floats:
    return _known(np.nanmax, levels)


def _median(levels: Floats) -> Floats:
    return _known(np.nanmedian, levels)


def _without(place: int) -> Make:
    return as_is(lambda levels: _mean(np.delete(levels, place, axis=1)))


def _standardised(combine: Combine) -> Make:
    def make(usual: Floats) -> Combine:
        heard = np.isfinite(usual).any(axis=0)
        mean, spread = np.zeros(usual.shape[1]), np.ones(usual.shape[1])
        mean[heard] = np.nanmean(usual[:, heard], axis=0)
        spread[heard] = np.nanstd(usual[:, heard], axis=0) + _LEAST
        return lambda levels: combine((levels - mean) / spread)

    return make


def _by_p_values(usual: Floats) -> Combine:
    tails = [_minus_log_p(column[np.isfinite(column)]) for column in usual.T]
    return lambda levels: _mean(np.stack([tail(column) for tail, column in zip(tails, levels.T, strict=True)], axis=1))


def _minus_log_p(usual: Floats) -> Combine:
    """Minus log of the share of usual levels above one: ranks in the body, an exponential tail beyond."""
    if not len(usual):
        return lambda levels: np.full(len(levels), np.nan)
    ordered = np.sort(usual)
    border = float(np.quantile(ordered, _TAIL))
    beyond = ordered[ordered > border]
    excess = float((beyond - border).mean()) if len(beyond) else _LEAST

    def surprise(levels: Floats) -> Floats:
        above = len(ordered) - np.searchsorted(ordered, levels, side="left")
        body = -np.log((above + 1.0) / (len(ordered) + 1.0))
        tail = -np.log(1.0 - _TAIL) + (levels - border) / (excess + _LEAST)
        return np.where(levels > border, tail, np.where(np.isfinite(levels), body, np.nan))

    return surprise


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m edge_models.evaluation.ablation", description=__doc__)
    every = (*LABELLED, *fault_suite.SETS)
    parser.add_argument("--data", type=Path, help=f"folder of recordings (default: ${DATA_VARIABLE})")
    parser.add_argument("--set", action="append", choices=every, help="only this set; may be given several times")
    parser.add_argument("--cache", type=Path, help="folder to keep levels in; empty it when code or model changed")
    parser.add_argument("--part", choices=("ensemble", "hybrid"), help="only this half of the table")
    options = parser.parse_args()
    torch.set_num_threads(1)

    def told(what: str) -> None:
        print(what, file=sys.stderr, flush=True)

    try:
        columns = chosen_cases(data_folder(options.data), options.set or every)
        rows = [] if options.part == "hybrid" else ensemble_rows(columns, options.cache, told)
        rows += [] if options.part == "ensemble" else hybrid_rows(columns, told)
    except EdgeAgentError as error:
        told(str(error))
        raise SystemExit(2) from error
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
