"""The hybrid model with parts of it switched off, without companions, in PyTorch: all plants of a set side by side.

As in the daemon's pipeline, except that neighbours are those that its learner finds in the end of the normal part from
the beginning on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.bundle.store import universal_bundle
from edge_agent.graph.learning import EdgeLearner
from edge_agent.graph.options import GraphOptions
from edge_agent.pipeline.rewarm import SETTLING_TICKS
from edge_models.bundling import unpack_weights
from edge_models.evaluation.suites import Case
from edge_models.hybrid import HybridStep
from edge_models.neighbours import choose_neighbours
from edge_models.state import CONTEXT_WIDTH, NEIGHBOURS, State

Floats = NDArray[np.float64]
_FLOOR = 1e-9

PARTS: dict[str, Callable[[], HybridStep]] = {
    "whole": lambda: HybridStep(unpack_weights(universal_bundle())),
    "linear experts, no network": HybridStep,
    "forecast only": lambda: HybridStep(unpack_weights(universal_bundle()), only=0),
    "relation only": lambda: HybridStep(unpack_weights(universal_bundle()), only=1),
    "network only": lambda: HybridStep(unpack_weights(universal_bundle()), only=2),
}
"""How each variant of the universal model is made."""


@torch.no_grad()
def part_levels(chosen: Sequence[Case], step: HybridStep) -> list[tuple[Floats, dict[str, Floats]]]:
    """For each case log scores [T, 1] of its normal part and of its tests, each test from the end of the former."""
    step = step.eval()
    tables = [_neighbours(case) for case in chosen]
    normals = [case.entity.normal for case in chosen]
    longest = max(map(len, normals))
    # Aligned at the end: the state after the last tick is that of all plants.
    early = [np.concatenate((np.full((longest - len(v), v.shape[1]), np.nan), v)) for v in normals]
    widths = [len(table) for table in tables]
    before, state = _levels(step, early, tables, State.start(sum(widths)))
    places = [at for at, case in enumerate(chosen) for _ in case.entity.tests]
    tests = [test.values for case in chosen for test in case.entity.tests]
    after, _ = _levels(step, tests, [tables[at] for at in places], _copied(state, widths, places))
    for level in after:
        level[:SETTLING_TICKS] = np.nan  # the plant went on after its normal part, and seems to have jumped
    found = iter(after)
    return [
        (level[longest - len(normal) :], {test.name: next(found) for test in case.entity.tests})
        for case, normal, level in zip(chosen, normals, before, strict=True)
    ]


def _neighbours(case: Case) -> NDArray[np.int64]:
    entity = case.entity
    column = {name: place for place, name in enumerate(entity.sensors)}
    declared = [(column[a], column[b]) for a, b in entity.edges]
    window, count = entity.normal[-GraphOptions().window :], len(entity.sensors)
    learner = EdgeLearner(0, 1, NEIGHBOURS)
    while not learner.step(window, len(window), count, NEIGHBOURS):
        pass
    strength = np.zeros((count, count))
    for sensor in range(count):
        for rank, other in enumerate(learner.neighbours_of(sensor)):
            strength[sensor, other] = 1.0 / (1.0 + rank)
    return choose_neighbours(strength, NEIGHBOURS, declared)


def _levels(
    step: HybridStep, parts: Sequence[Floats], tables: Sequence[NDArray[np.int64]], state: State
) -> tuple[list[Floats], State]:
    """Log of the mean score of each part [T, 1], NaN where it has no reading; and the state after the longest."""
    widths = [len(table) for table in tables]
    begins = np.cumsum([0, *widths])
    table = torch.from_numpy(
        np.concatenate([np.where(one < 0, -1, one + begin) for one, begin in zip(tables, begins[:-1], strict=True)])
    )
    longest, count = max(map(len, parts)), int(begins[-1])
    values = np.full((longest, count), np.nan, np.float32)
    for part, begin in zip(parts, begins[:-1], strict=True):
        values[: len(part), begin : begin + part.shape[1]] = part
    context, age = torch.zeros(count, CONTEXT_WIDTH), torch.zeros(count)
    scores = np.full((longest, count), np.nan)
    for tick, row in enumerate(torch.from_numpy(values)):
        known = torch.isfinite(row)
        verdict, state = step(torch.nan_to_num(row), age, (~known).to(torch.int32), table, context, state)
        scores[tick] = np.where(known.numpy(), verdict.score.numpy(), np.nan)
    return [
        _level(scores[: len(part), begin : begin + part.shape[1]])
        for part, begin in zip(parts, begins[:-1], strict=True)
    ], state


def _copied(state: State, widths: Sequence[int], places: Sequence[int]) -> State:
    """The rows of the plants at ``places`` one below the other; the neighbours they know of move along."""
    begins = np.cumsum([0, *widths])
    rows = np.concatenate([np.arange(begins[at], begins[at + 1]) for at in places])
    shift = torch.from_numpy(np.arange(len(rows)) - rows).to(state.slot.dtype).unsqueeze(-1)
    copied = State(*(part[rows] for part in state))
    return copied._replace(slot=torch.where(copied.slot > 0, copied.slot + shift, copied.slot))


def _level(scores: Floats) -> Floats:
    there = np.isfinite(scores).any(axis=1)
    level = np.full((len(scores), 1), np.nan)
    level[there, 0] = np.log(np.nanmean(scores[there], axis=1) + _FLOOR)
    return level
