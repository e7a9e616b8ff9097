"""``edge-agent train --recipe NAME`` for every recipe but the hybrid: history in, bundle out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.verify import Bundle
from edge_models.places import check_new_folder
from edge_models.recipes.build import build, check, default_options
from edge_models.recipes.fitting import Say, Settings
from edge_models.recipes.judging import Judged, judged
from edge_models.recipes.members import Member
from edge_models.recipes.plant import Plant, read_plant
from edge_models.recipes.publish import Label, publish
from edge_models.reporting import TrainingRecord, model_card
from edge_models.reporting.record import Setting
from edge_models.site import SiteOptions

LIMITS = (
    "It does not learn on the gateway: a plant that has changed needs another training.",
    "Sensors that were not trained on score 0.",
)


@dataclass(frozen=True, slots=True)
class RecipeReport:
    """What training did; ``likelihood`` in nats per held-out reading (-1.42: mean and spread alone).

    ``fault_auroc``: mean over the kinds of synthetic faults, put into held-out readings, as a model card lists them.
    """

    out: str
    recipe: str
    rows: int
    used_rows: int
    sensors: int
    constant: tuple[str, ...]
    empty: tuple[str, ...]
    edges: int
    likelihood: float
    fault_auroc: float | None
    score_median: float
    score_p99: float
    elapsed_s: float
    sha256: str
    warnings: tuple[str, ...]


def train_recipe(
    data: str | Path, edges: Path | None, out: Path, recipe: str, options: SiteOptions, progress: Say | None = None
) -> RecipeReport:
    """Train ``recipe`` on the normal history in ``data`` and write a bundle folder to ``out``.

    :raises ConfigError: no such recipe, or ``out`` cannot be written.
    :raises DataFileError: the history cannot be used, or ``out`` is not empty.
    """
    begun = time.monotonic()
    say = progress or (lambda what, share: None)
    recipe = check(recipe)
    check_new_folder(out)
    say("reading", 0.0)
    plant = read_plant(data, edges, options)
    say(f"training {recipe}", 0.1)
    settings = Settings(
        options.seed, options.time_budget_s, say=lambda what, share: say(f"{recipe}: {what}", 0.1 + 0.6 * share)
    )
    chosen = default_options(recipe)
    member = build(recipe, plant, settings, chosen)
    say("judging", 0.7)
    quality = judged(member, plant, options.seed)
    say("writing", 0.85)
    report = write(out, recipe, chosen, member, plant, quality, options, time.monotonic() - begun)
    return replace(report, elapsed_s=time.monotonic() - begun)


def write(
    out: Path,
    recipe: str,
    chosen: Any,
    member: Member,
    plant: Plant,
    quality: Judged,
    options: SiteOptions,
    elapsed_s: float,
) -> RecipeReport:
    """Write the bundle of a trained member, which took ``elapsed_s`` so far, and report on it."""
    described: dict[str, Setting] = {} if chosen is None else asdict(chosen)

    def card(scores: NDArray[np.float32]) -> str:
        return model_card(_record(recipe, plant, quality, options, described, scores, elapsed_s))

    bundle = publish(out, member, plant, Label(options.name, recipe, options.seed, card))
    return report_of(out, recipe, plant, quality, bundle, elapsed_s)


def _record(
    recipe: str,
    plant: Plant,
    quality: Judged,
    options: SiteOptions,
    settings: Mapping[str, Setting],
    scores: NDArray[np.float32],
    elapsed_s: float,
) -> TrainingRecord:
    return TrainingRecord(
        name=options.name,
        recipe=recipe,
        data=plant.summary,
        seed=options.seed,
        settings=settings,
        scores=scores,
        likelihood=quality.likelihood,
        faults=quality.faults,
        limits=LIMITS,
        elapsed_s=elapsed_s,
    )


def report_of(out: Path, recipe: str, plant: Plant, quality: Judged, bundle: Bundle, elapsed_s: float) -> RecipeReport:
    """What is told of a written bundle."""
    scores, summary = bundle.calibration.scores, plant.summary
    return RecipeReport(
        out=str(out),
        recipe=recipe,
        rows=summary.rows,
        used_rows=summary.used_rows,
        sensors=len(plant.sensors),
        constant=summary.constant,
        empty=summary.empty,
        edges=len(bundle.manifest.edges),
        likelihood=quality.likelihood,
        fault_auroc=quality.fault_auroc,
        score_median=float(np.median(scores)),
        score_p99=float(np.quantile(scores, 0.99)),
        elapsed_s=elapsed_s,
        sha256=bundle.sha256,
        warnings=summary.warnings,
    )
