"""From a history to a site bundle.

::

    history ─► report, profile ─► sample ─┬─ learned from ─► experts ─► levels, expert weights ─┐
                                          │               └► fine-tune the network              ├─► constants ─► bundle
                                          └─ held out ──────► spreads of the residuals ─────────┘                 ▲
                                                            └► scores through ONNX Runtime ─► calibration ────────┘

Two passes over the history, whatever its length: one for the report, one for the sample.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent.bundle.manifest import SensorSpec, TrainedEdge
from edge_agent.bundle.store import universal_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.inference.onnx import OnnxDetector
from edge_models.bundling import (
    CALIBRATION_TICKS,
    GOLDEN_TICKS,
    Exported,
    Origin,
    Site,
    golden_inputs,
    unpack_weights,
    write_exported,
)
from edge_models.histories.profile import Profile
from edge_models.histories.report import check_history
from edge_models.hybrid import HybridStep
from edge_models.neighbours import named_edges, read_edges
from edge_models.places import check_new_folder
from edge_models.site.card import Facts, card
from edge_models.site.fitting import fine_tuned, fitted_constants
from edge_models.site.options import Say, SiteOptions, TrainReport
from edge_models.site.plant import Plant
from edge_models.site.reading import opened, warnings_of
from edge_models.site.sample import SKIPPED_TICKS, Sample, collected, planned
from edge_models.site.spreads import with_spreads
from edge_models.state import CONTEXT
from edge_models.streaming import score_rows

Scores = NDArray[np.float32]


def train_site(
    data: str | Path, edges: Path | None, out: Path, options: SiteOptions, progress: Say | None = None
) -> TrainReport:
    """Train on the normal history in ``data`` (see :func:`~edge_models.histories.open_history`), write a bundle folder.

    ``progress`` is told what is being done and the share of all that is done. Memory does not grow with the length of
    the history. Raises :class:`~edge_agent.errors.DataFileError` for a history that cannot be used, with a line for
    each reason, and for an ``out`` that is not empty; :class:`~edge_agent.errors.ConfigError` for one that cannot be
    written.
    """
    begun = time.monotonic()
    say = progress or _silent
    say("reading", 0.0)
    check_new_folder(out)
    history = opened(data, options)
    declared = [] if edges is None else read_edges(edges, history.sensors)
    report, profile = check_history(history)
    report.refuse_errors()
    sample = collected(history, planned(profile.ticks, len(history.sensors), options.seed))
    plant = Plant.of(history.sensors, sample.training, declared)

    say("learning levels and relations", 0.05)
    torch.manual_seed(options.seed)
    network = unpack_weights(universal_bundle())
    context = fitted_constants(network, sample, plant)
    loss = fine_tuned(network, sample, plant, context, options, begun, say)

    say("measuring spreads on held-out readings", 0.75)
    step = HybridStep(network).eval()
    context = with_spreads(step, sample.held_out, plant, context)
    say("calibrating", 0.85)
    trained = _Trained(profile, sample, plant, step, context, loss, warnings_of(report, options))
    bundle, scores = _write(out, trained, options)
    say("done", 1.0)
    return TrainReport(
        out=str(out),
        rows=profile.timing.rows,
        used_rows=sample.ticks,
        sensors=len(history.sensors),
        constant=_names(profile, profile.constant),
        empty=_names(profile, profile.empty),
        edges=len(bundle.manifest.edges),
        held_out_loss=loss,
        score_median=float(np.median(scores)),
        score_p99=float(np.quantile(scores, 0.99)),
        elapsed_s=time.monotonic() - begun,
        sha256=bundle.sha256,
        warnings=trained.warnings,
    )


@dataclass(frozen=True, slots=True)
class _Trained:
    """All that goes into the bundle."""

    profile: Profile
    sample: Sample
    plant: Plant
    step: HybridStep
    context: NDArray[np.float32]
    loss: float
    warnings: tuple[str, ...]


def _silent(_what: str, _share: float) -> None:
    pass


def _names(profile: Profile, chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, this in zip(profile.history.sensors, chosen, strict=True) if this)


def _write(out: Path, trained: _Trained, options: SiteOptions) -> tuple[Bundle, Scores]:
    """Write the bundle twice: first without scores, to have its model score the held-out part as a gateway would."""
    plant, history, held_out = trained.plant, trained.profile.history, trained.sample.held_out
    specs = tuple(
        SensorSpec(name, unit, tuple(float(v) for v in row))
        for name, unit, row in zip(plant.sensors, history.units, trained.context, strict=True)
    )
    edges = tuple(TrainedEdge(*edge) for edge in named_edges(plant.sensors, plant.neighbour, plant.strength))
    longest = max(held_out, key=len)
    repeats = -(-GOLDEN_TICKS // len(longest))
    inputs = golden_inputs(np.concatenate([longest] * repeats), plant.neighbour, trained.context)
    origin = Origin(options.name, datetime.now(UTC).strftime("%Y.%m.%d"), trained.profile.sha256, options.seed)
    tick_s = history.period_s if history.timed or options.tick_s is not None else None
    site = Site(tick_s, specs, edges, np.zeros((0, len(specs)), np.float32))
    exported = Exported.of(trained.step, inputs)
    with tempfile.TemporaryDirectory() as folder:
        draft = write_exported(Path(folder) / "draft", exported, origin, "draft", site)
        scores = [score_rows(OnnxDetector(draft), part, plant.neighbour, plant.sensors) for part in held_out]
    if not trained.sample.whole:
        scores = [part[SKIPPED_TICKS:] for part in _spread_out(scores)]
    everything = np.concatenate(scores)
    calibrated = dataclasses.replace(site, scores=everything)
    return write_exported(out, exported, origin, card(_facts(trained, everything, options)), calibrated), everything


def _spread_out(scores: Sequence[Scores]) -> list[Scores]:
    """As many parts as a bundle keeps, from all over the history: it would keep the last ones only."""
    most = max(1, CALIBRATION_TICKS // max(map(len, scores)))
    chosen = np.unique(np.linspace(0, len(scores) - 1, min(most, len(scores))).astype(np.int64))
    return [scores[place] for place in chosen]


def _facts(trained: _Trained, scores: Scores, options: SiteOptions) -> Facts:
    profile, sample = trained.profile, trained.sample
    return Facts(
        name=options.name,
        source=Path(profile.history.where).name,
        rows=profile.ticks,
        used=sample.ticks,
        whole=sample.whole,
        sensors=len(profile.history.sensors),
        known=int((trained.context[:, CONTEXT.known] > 0.5).sum()),
        seed=options.seed,
        loss=trained.loss,
        ticks=len(scores),
        median=float(np.median(scores)),
        p99=float(np.quantile(scores, 0.99)),
        constant=_names(profile, profile.constant),
        empty=_names(profile, profile.empty),
        warnings=trained.warnings,
    )
