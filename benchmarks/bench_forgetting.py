"""Fine-tuning to a new regime of a plant: what is forgotten of the old one, and what a small reservoir of it saves.

A site model is trained on regime A of the simulated water line, then tuned to regime B (stronger pumps, warmer and
saltier water, more demand): once on B alone, once with rehearsal, segments of A drawn beforehand in equal number from
all of its time (A. Robins, "Catastrophic forgetting, rehearsal and pseudorehearsal", Connection Science 7, 1995).
Constants (levels, expert weights, spreads) and network are both fitted anew each time; the network goes on from where
it was. Judged on readings of A and of B that nothing was fitted on: share of normal ticks above the threshold that one
in 200 of the model's own held-out ticks exceeds, and AUROC of synthetic faults.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from bench_drift import CASES, RAMP_S
from numpy.typing import NDArray
from result import Result
from sklearn.metrics import roc_auc_score

from edge_agent.bundle import universal_bundle
from edge_agent.demo.plant import Plant as Simulated
from edge_agent.demo.tags import NAMES
from edge_models.bundling import unpack_weights
from edge_models.faults import inject
from edge_models.hybrid import HybridStep
from edge_models.network import HybridNetwork
from edge_models.site.fitting import fine_tuned, fitted_constants
from edge_models.site.options import SiteOptions
from edge_models.site.plant import Plant
from edge_models.site.running import ticks
from edge_models.site.sample import Sample, Values
from edge_models.site.spreads import with_spreads
from edge_models.state import MEMORY, State
from edge_models.streaming import plant_score

SEEDS = (1,)
SETTLE, TRAINING, HELD_OUT, TEST, SKIPPED = 900, 1_600, 500, 800, 100
SEGMENT, SEGMENTS = 256, 4
KINDS = ("bias", "drift", "noise", "replay", "stuck", "delay")
CHANGES = ("another season", "stronger raw water pumps", "higher demand")
BUDGET_S = 60.0


@dataclass(frozen=True)
class Regime:
    """Readings [T, N] of one way of running the plant."""

    training: Values
    held_out: Values
    test: Values


@dataclass(frozen=True)
class Model:
    """Network and constants, and the threshold that is exceeded by one in 200 held-out ticks."""

    network: HybridNetwork
    plant: Plant
    context: NDArray[np.float32]
    threshold: float


def regimes(seed: int) -> tuple[Regime, Regime]:
    """A and B of one plant."""
    plant = Simulated(np.random.default_rng(seed))
    changes = [case.process for case in CASES if case.name in CHANGES and case.process is not None]
    found = []
    for changed in (False, True):
        for second in range(round(RAMP_S) + SETTLE if changed else SETTLE):
            for act in changes if changed else ():
                act(plant.process, min(1.0, second / RAMP_S))
            plant.step()
        rows = np.array([plant.step() for _ in range(TRAINING + HELD_OUT + TEST)])
        found.append(Regime(*np.split(rows, [TRAINING, TRAINING + HELD_OUT])))
    return found[0], found[1]


def reservoir(training: Values, generator: np.random.Generator) -> list[Values]:
    """Segments at random places of equal strata of ``training`` [T, N]."""
    borders = np.linspace(0, len(training), SEGMENTS + 1).astype(int)
    starts = [int(generator.integers(a, b - SEGMENT)) for a, b in pairwise(borders)]
    return [training[start : start + SEGMENT] for start in starts]


def tuned(network: HybridNetwork, training: list[Values], held_out: list[Values], seed: int) -> Model:
    """A site model that goes on from ``network``, fitted to ``training``."""
    network = copy.deepcopy(network)
    sample = Sample(training, held_out, whole=True)
    plant = Plant.of(NAMES, training, ())
    context = fitted_constants(network, sample, plant)
    torch.manual_seed(seed)
    options = SiteOptions(time_budget_s=BUDGET_S, seed=seed)
    fine_tuned(network, sample, plant, context, options, time.monotonic(), lambda _what, _share: None)
    step = HybridStep(network).eval()
    context = with_spreads(step, held_out, plant, context)
    normal = np.concatenate([plant_score(one)[SKIPPED:] for one in scored(network, plant, context, held_out)])
    return Model(network, plant, context, float(np.quantile(normal, 0.995)))


@torch.no_grad()
def scored(
    network: HybridNetwork, plant: Plant, context: NDArray[np.float32], parts: list[Values]
) -> list[NDArray[np.float32]]:
    """Scores [T, N] of each part, all run side by side."""
    step, column, sensors = HybridStep(network).eval(), MEMORY.index("score"), len(plant.sensors)
    state = State.start(sensors * len(parts))
    rows = [after.memory[:, column].numpy() for _, after in ticks(step, parts, plant.neighbour, context, state)]
    table = np.stack(rows).reshape(len(rows), len(parts), sensors)
    return [table[: len(part), at] for at, part in enumerate(parts)]


def judged(model: Model, regime: Regime) -> tuple[float, float]:
    """Share of the regime's normal test ticks above the threshold, and mean AUROC over kinds of faults."""
    made = [inject(regime.test, kind, np.random.default_rng(0), normal=regime.training) for kind in KINDS]
    parts = [regime.test, *(one.values for one in made)]
    clean, *faulty = (plant_score(one)[SKIPPED:] for one in scored(model.network, model.plant, model.context, parts))
    auroc = [roc_auc_score(one.label[SKIPPED:], scores) for one, scores in zip(made, faulty, strict=True)]
    return float((clean > model.threshold).mean()), float(np.mean(auroc))


def measured(seed: int) -> dict[str, tuple[float, float, float, float]]:
    """For each way of training: false share and AUROC on A, then on B."""
    a, b = regimes(seed)
    kept = reservoir(a.training, np.random.default_rng(seed))
    first = tuned(unpack_weights(universal_bundle()), [a.training], [a.held_out], seed)
    models = {
        "trained on A": first,
        "then on B alone": tuned(first.network, [b.training], [b.held_out], seed),
        "then on B with rehearsal": tuned(first.network, [*kept[:-1], b.training], [kept[-1], b.held_out], seed),
        "on A and B at once": tuned(
            unpack_weights(universal_bundle()), [a.training, b.training], [a.held_out, b.held_out], seed
        ),
    }
    return {name: (*judged(model, a), *judged(model, b)) for name, model in models.items()}


def run() -> Iterator[Result]:
    """Faults seen in the old regime and in the new one, with rehearsal beside without."""
    torch.set_num_threads(1)
    found = []
    for seed in SEEDS:
        found.append(measured(seed))
        print(seed, found[-1], file=sys.stderr, flush=True)
    names = list(found[0])
    mean = {name: np.mean([one[name] for one in found], axis=0) for name in names}
    print("| | above threshold on A | AUROC on A | above threshold on B | AUROC on B |", file=sys.stderr)
    for name in names:
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in mean[name]) + " |", file=sys.stderr)
    alone, rehearsed = mean["then on B alone"], mean["then on B with rehearsal"]
    for place, regime in ((0, "old"), (2, "new")):
        false, control = float(rehearsed[place]), float(alone[place])
        yield Result(
            f"false_ticks_{regime}_regime", false, "share", control, "without rehearsal", "<= control", false <= control
        )
        auroc, before = float(rehearsed[place + 1]), float(alone[place + 1])
        good = auroc >= before - 0.02
        yield Result(f"faults_{regime}_regime", auroc, "AUROC", before, "without rehearsal", ">= control - .02", good)
