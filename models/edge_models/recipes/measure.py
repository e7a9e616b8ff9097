"""How well each recipe finds labelled anomalies, and what a tick of it costs: the tables of docs/recipes.md.

``python -m edge_models.recipes.measure --data DIR`` trains every recipe on a plant's normal part, warms the bundle up
on the last fifty ticks of it, and runs it through ONNX Runtime tick by tick. Labels only judge.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge_agent.bundle.store import read_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.inference import OnnxDetector, self_test
from edge_agent.recording import write_table
from edge_models.datasets import VUS_WINDOW, Values, data_folder
from edge_models.evaluation.harness import judged_as_one
from edge_models.evaluation.metrics import quality
from edge_models.evaluation.suites import Case, cases
from edge_models.recipes.build import AUTO, names
from edge_models.recipes.command import train
from edge_models.recipes.publish import trained_neighbours
from edge_models.site import SiteOptions
from edge_models.streaming import plant_score, score_rows

PLANTS = ("tep/tep", "asd/omi-1")
_WARMUP_TICKS = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """One recipe on one plant. ``tick_ms``: median over the golden ticks."""

    auroc: float
    auc_pr: float
    vus_pr: float
    sensors: int
    train_s: float
    tick_ms: float
    model_bytes: int


def measure(case: Case, recipe: str, seed: int, time_budget_s: float) -> Measured:
    """Train ``recipe`` on the plant's normal part and judge its scores of the tests."""
    entity = case.entity
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "normal.csv"
        write_table(history, {name: entity.normal[:, place] for place, name in enumerate(entity.sensors)})
        begun = time.monotonic()
        out = Path(folder) / "bundle"
        train(history, None, out, recipe, SiteOptions(time_budget_s=time_budget_s, seed=seed))
        train_s = time.monotonic() - begun
        bundle = read_bundle(out)
    found = [
        quality(label, score, VUS_WINDOW.get(case.set, 20))
        for _, label, score in judged_as_one(case, _plant_scores(bundle, case))
    ]
    judged = [one for one in found if one is not None]
    return Measured(
        auroc=float(np.mean([one.auroc for one in judged])),
        auc_pr=float(np.mean([one.auc_pr for one in judged])),
        vus_pr=float(np.mean([one.vus_pr for one in judged])),
        sensors=len(entity.sensors),
        train_s=train_s,
        tick_ms=self_test(bundle).p50_ms,
        model_bytes=len(bundle.model),
    )


def _plant_scores(bundle: Bundle, case: Case) -> dict[str, Values]:
    """Log mean over sensors, five-tick causal mean, of every test; each goes on from the same state."""
    entity, table = case.entity, trained_neighbours(bundle)
    detector = OnnxDetector(bundle)
    score_rows(detector, entity.normal[-_WARMUP_TICKS:], table, entity.sensors)
    state = detector.export_state()
    found = {}
    for test in entity.tests:
        detector.import_state(state)
        found[test.name] = plant_score(score_rows(detector, test.values, table, entity.sensors))
    return found


def rows(folder: Path, plants: Sequence[str], recipes: Sequence[str], seed: int, time_budget_s: float) -> Iterator[str]:
    """Lines of Markdown, plant by plant; a plant is ``set/name``."""
    yield "| plant (sensors) | recipe | VUS-PR | AUC-PR | AUROC | train s | tick ms | model kB |"
    yield "|---|---|---|---|---|---|---|---|"
    for plant in plants:
        name = plant.partition("/")[0]
        case = next(case for case in cases(folder, name) if f"{name}/{case.entity.name}" == plant)
        for recipe in recipes:
            one = measure(case, recipe, seed, time_budget_s)
            yield (
                f"| {plant} ({one.sensors}) | `{recipe}` | {one.vus_pr:.3f} | {one.auc_pr:.3f} | {one.auroc:.3f} |"
                f" {one.train_s:.0f} | {one.tick_ms:.3f} | {one.model_bytes / 1e3:.0f} |"
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Recipes on labelled recordings.")
    parser.add_argument("--data", type=Path, help="folder of recordings; EDGE_AGENT_DATA where not given")
    parser.add_argument("--plants", nargs="+", default=PLANTS)
    parser.add_argument("--recipes", nargs="+", default=[name for name in names() if name != AUTO])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-budget-s", type=float, default=300.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for line in rows(data_folder(given.data), given.plants, given.recipes, given.seed, given.time_budget_s):
        print(line, flush=True)


if __name__ == "__main__":
    main()
