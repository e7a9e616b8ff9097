"""The command ``edge-agent train``. PyTorch is imported when it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.errors import ConfigError
from edge_agent.options import parse_duration

if TYPE_CHECKING:
    from edge_models.site import SiteOptions

_NEEDED = ("torch", "torch_geometric", "onnx", "onnxscript", "pyarrow", "sklearn")
_HINT = "pip install 'edge-graph-agent[train]'"


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in stubs only
    """Seconds from text such as ``30s``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds <= 0:
            self.fail(f"got {value!r}, expected more than 0", param, ctx)
        return seconds


@click.command("train", short_help="Train a site model from a plant's own history.")
@click.option(
    "--data",
    help="History of normal operation: CSV, Parquet, JSON lines, HDF5 or line protocol file, or a database URL.",
)
@click.option(
    "--from-history",
    type=click.Path(exists=True, path_type=Path),
    help="Instead of --data: a gateway's history.db with readings in it, or the data folder that it is in.",
)
@click.option(
    "--champion",
    type=click.Path(exists=True, path_type=Path),
    help="With --from-history: the bundle in use, to compare with (default: the universal model).",
)
@click.option(
    "--margin", type=Duration(), help="With --from-history: time left out before and after an incident (default: 10m)."
)
@click.option(
    "--edges",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV with two columns of sensor names that belong together; they come before learned neighbours.",
)
@click.option(
    "--recipe",
    default="hybrid",
    show_default=True,
    help="hybrid, linear, lstm-ae, transformer, gdn, pyod:NAME, ensemble, ensemble:A+B, or auto: the best of several.",
)
@click.option("--quantize", type=click.Choice(["int8"]), help="Store weights in one byte each, and say what it costs.")
@click.option("--run-column", help="Column that tells independent runs apart (default: `run` where there is one).")
@click.option("--select", help="HDF5 group or dataset, SQL table or SELECT statement.")
@click.option(
    "--units", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV file of sensor and unit."
)
@click.option("--names", help="Template for the sensors of a line protocol export.")
@click.option("--tick", type=Duration(), help="Time between rows, such as 1s (default: from the timestamps).")
@click.option(
    "--time-budget", type=Duration(), default="5m", show_default=True, help="About how long training may take."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--name", default="site", show_default=True, help="Name of the model in manifest and events.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True, help="CPU threads to train with.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Bundle folder to write; new or empty.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def train_command(
    data: str | None,
    from_history: Path | None,
    champion: Path | None,
    margin: float | None,
    edges: Path | None,
    recipe: str,
    quantize: str | None,
    run_column: str | None,
    select: str | None,
    units: Path | None,
    names: str | None,
    tick: float | None,
    time_budget: float,
    seed: int,
    name: str,
    threads: int,
    out: Path,
    as_json: bool,
) -> None:
    """Train a site model: the universal model fine-tuned on a plant's own history, or another recipe.

    The history should be of normal operation. Columns named `timestamp`, `run` and `label` are no sensors. A quarter
    is held out: residual spreads and calibration are measured on it. A day at one row a second is plenty; of a longer
    history windows from all over it are used.

    `--recipe auto` tries several within the time budget and keeps the best by the likelihood of held-out normal
    readings and by synthetic faults put into them; labels are never looked at.

    `--from-history` trains on what a gateway kept (`history.readings`): incidents called true and those not judged are
    left out with a margin, false alarms count several times, the last part is kept to compare with the champion.

    \b
    Example:
      edge-agent train --data week.parquet --edges edges.csv --out press-4.bundle
      edge-agent train --from-history /var/lib/edge-agent --champion press-4.bundle --out press-5.bundle
      edge-agent train --data week.parquet --recipe auto --time-budget 20m --out press-4.bundle
      edge-agent detect today.parquet --bundle press-4.bundle --out scores.parquet

    Exit codes: 0 written, 1 training failed, 2 wrong arguments or a history that cannot be used.
    """
    _require_training()
    if (data is None) == (from_history is None):
        raise click.UsageError("give either --data or --from-history")
    if from_history is None and (champion, margin) != (None, None):
        raise click.UsageError("--champion and --margin go with --from-history")
    import torch

    from edge_models.recipes import command
    from edge_models.site import SiteOptions

    torch.set_num_threads(threads)
    options = SiteOptions(run_column, tick, time_budget, seed, name, select, units, names)
    if from_history is not None:
        _retrain(from_history, champion, margin, edges, out, recipe, options, quantize == "int8", as_json)
        return
    assert data is not None
    with _progress(as_json) as say:
        report = command.train(data, edges, out, recipe, options, quantize == "int8", say)
    if as_json:
        click.echo(json.dumps(command.as_json(report), indent=2))
        return
    for line in command.lines(report):
        click.echo(line)
    click.echo(f"Next: edge-agent detect FILE --bundle {report.out} --out scores.parquet")


def _retrain(
    history: Path,
    champion: Path | None,
    margin: float | None,
    edges: Path | None,
    out: Path,
    recipe: str,
    site: SiteOptions,
    int8: bool,
    as_json: bool,
) -> None:
    from edge_models import retraining, retraining_command

    options = retraining.RetrainOptions(site, recipe, int8)
    if margin is not None:
        options = replace(options, margin_s=margin)
    with _progress(as_json) as say:
        report = retraining.retrain(history, edges, out, champion, options, say)
    if as_json:
        click.echo(retraining_command.as_json(report))
        return
    for line in retraining_command.lines(report):
        click.echo(line)


def _require_training() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"this command needs {', '.join(missing)}, which is not installed: {_HINT}")


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """A bar on standard error, or nothing."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)
