"""What ``edge-agent train`` does, and what it tells: any recipe, quantised where wanted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.bundle.store import read_bundle
from edge_models.places import check_new_folder
from edge_models.recipes.auto import AutoReport, Candidate, train_auto
from edge_models.recipes.build import AUTO, HYBRID, check
from edge_models.recipes.fitting import Say
from edge_models.recipes.plant import held_out_parts
from edge_models.recipes.quantise import Quantisation, write_quantised
from edge_models.recipes.train import RecipeReport, train_recipe
from edge_models.site import SiteOptions, TrainReport, train_site


@dataclass(frozen=True, slots=True)
class AnyReport:
    """``trained``: what the recipe reports. ``leaderboard``: of ``auto`` only, best first."""

    out: str
    recipe: str
    trained: TrainReport | RecipeReport
    leaderboard: tuple[Candidate, ...] = ()
    quantisation: Quantisation | None = None


def train(
    data: str | Path,
    edges: Path | None,
    out: Path,
    recipe: str,
    options: SiteOptions,
    int8: bool = False,
    progress: Say | None = None,
) -> AnyReport:
    """Train ``recipe`` and write a bundle folder to ``out``.

    :raises ConfigError: no such recipe, or int8 costs too much. :raises DataFileError: the history cannot be used.
    """
    recipe = check(recipe)
    check_new_folder(out)
    if not int8:
        return _trained(data, edges, out, recipe, options, progress)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32"
        report = _trained(data, edges, whole, recipe, options, progress)
        bundle, measured = write_quantised(read_bundle(whole), held_out_parts(data, options), out)
    trained = replace(report.trained, out=str(out), sha256=bundle.sha256)
    return replace(report, out=str(out), trained=trained, quantisation=measured)


def _trained(
    data: str | Path, edges: Path | None, out: Path, recipe: str, options: SiteOptions, progress: Say | None
) -> AnyReport:
    if recipe == HYBRID:
        return AnyReport(str(out), recipe, train_site(data, edges, out, options, progress))
    if recipe == AUTO:
        found: AutoReport = train_auto(data, edges, out, options, progress)
        return AnyReport(str(out), found.kept.recipe, found.kept, found.leaderboard)
    return AnyReport(str(out), recipe, train_recipe(data, edges, out, recipe, options, progress))


def as_json(report: AnyReport) -> dict[str, Any]:
    """The report as one object: what the recipe reports, and beside it recipe, leaderboard and quantisation."""
    beside = asdict(report)
    trained = beside.pop("trained")
    return {**trained, **beside}


def lines(report: AnyReport) -> Iterator[str]:
    """The report as it is shown on a terminal."""
    if report.leaderboard:
        yield from _leaderboard(report.leaderboard)
    done = report.trained
    yield f"Wrote {report.out}: {done.sensors} sensors, {done.edges} edges, from {done.used_rows} rows."
    if isinstance(done, TrainReport):
        yield f"Held-out loss {done.held_out_loss:.3f} of knowing nothing; {done.elapsed_s:.0f} s."
    else:
        faults = "-" if done.fault_auroc is None else f"{done.fault_auroc:.3f}"
        yield (
            f"Recipe {done.recipe}: {done.likelihood:.3f} nats a held-out reading (mean alone -1.419),"
            f" AUROC {faults} on synthetic faults; {done.elapsed_s:.0f} s."
        )
    if report.quantisation is not None:
        yield _saved(report.quantisation)
    yield from (f"note: {warning}" for warning in done.warnings)


def _leaderboard(candidates: tuple[Candidate, ...]) -> Iterator[str]:
    yield f"{'recipe':40}{'quality':>9}{'faults':>9}{'nats':>9}{'s':>6}  settings"
    for one in candidates:
        faults = "-" if one.fault_auroc is None else f"{one.fault_auroc:.3f}"
        settings = " ".join(f"{name}={_short(value)}" for name, value in one.settings.items())
        yield f"{one.recipe:40}{one.quality:9.3f}{faults:>9}{one.likelihood:9.3f}{one.elapsed_s:6.0f}  {settings}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _saved(measured: Quantisation) -> str:
    return (
        f"int8: {measured.bytes_after / 1e3:.0f} kB instead of {measured.bytes_before / 1e3:.0f} kB, a tick"
        f" {measured.tick_ms_after:.3f} ms instead of {measured.tick_ms_before:.3f} ms, log score changed by"
        f" {measured.score_error:.4f} (95th percentile)."
    )
