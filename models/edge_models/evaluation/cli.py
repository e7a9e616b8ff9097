"""The command ``edge-agent evaluate``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.errors import ConfigError
from edge_models.cli import Duration
from edge_models.places import check_file, check_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_models.evaluation.streams import Subject
    from edge_models.evaluation.suites import Case

_NEEDED = ("torch", "torch_geometric", "onnx", "onnxscript", "pyarrow", "sklearn", "dtaianomaly", "river", "matplotlib")
_HINT = "pip install 'edge-graph-agent[evaluate]'"


@click.command("evaluate", short_help="Measure a model on labelled recordings.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="EDGE_AGENT_DATA",
    required=True,
    help="Folder of recordings (asd/, smd/, tep/, skab/, batadal/, lbnl_ahu/, wsn_suthaharan/, swat/, wadi/).",
)
@click.option(
    "--bundle",
    type=click.Path(exists=True, path_type=Path),
    help="Bundle to measure (default: the universal model of this installation).",
)
@click.option(
    "--set",
    "sets",
    multiple=True,
    help="Only this set, or `labelled` or `faults` for several; may be given several times (default: labelled).",
)
@click.option(
    "--fault-seed", type=click.IntRange(0), default=0, show_default=True, help="Where injected faults are put."
)
@click.option("--recipe", "recipes", multiple=True, help="Also train this recipe on each plant's normal part.")
@click.option("--time-budget", type=Duration(), default="1m", show_default=True, help="For training on each plant.")
@click.option("--warmup", type=click.IntRange(1), help="Normal ticks before each test (default: the normal part).")
@click.option("--detector", "detectors", multiple=True, help="Only these baselines, by name.")
@click.option("--fast", is_flag=True, help="Leave out slow baselines.")
@click.option(
    "--seeds", type=click.IntRange(1, 20), default=1, show_default=True, help="For detectors with randomness."
)
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes to measure with.")
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Folder for scores, to be quick again.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write rows to this file.")
@click.option("--plots", type=click.Path(file_okay=False, path_type=Path), help="Folder for pictures.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def evaluate_command(
    data: Path,
    bundle: Path | None,
    sets: tuple[str, ...],
    fault_seed: int,
    recipes: tuple[str, ...],
    time_budget: float,
    warmup: int | None,
    detectors: tuple[str, ...],
    fast: bool,
    seeds: int,
    jobs: int,
    cache: Path | None,
    json_file: Path | None,
    plots: Path | None,
    markdown: bool,
) -> None:
    """Measure a model on labelled recordings, beside simple baselines.

    Scores come from the very path that the daemon runs, each test after the plant's normal part. Thresholds are set
    without labels, for one false alarm a week (a day where tests are shorter than two weeks). docs/evaluation.md
    says what each column means.

    \b
    Example:
      edge-agent evaluate --data recordings --set asd --set tep --cache .scores

    Exit codes: 0 measured, 1 the model failed, 2 wrong arguments or recordings that cannot be used.
    """
    _require()
    import torch
    from rich.console import Console

    from edge_models.evaluation import report
    from edge_models.evaluation.harness import measure
    from edge_models.evaluation.summary import summarise

    torch.set_num_threads(1)
    for folder in (cache, plots):
        if folder is not None:
            check_folder(folder)
    if json_file is not None:
        check_file(json_file)
    others = _baselines(detectors, fast)
    chosen = _cases(data, sets, fault_seed)
    if bundle is not None:
        _tell_strangers(bundle, chosen)
    ours = _ours(bundle, warmup, recipes, time_budget)
    with _progress() as progress:
        results = measure(
            chosen, ours, others, seeds=seeds, cache=cache, plots=plots, processes=jobs, progress=progress
        )
    rows = summarise(results)
    if plots is not None:
        from edge_models.evaluation.plots import draw_rows

        draw_rows(rows, [subject.name for subject in ours], plots)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    if markdown:
        click.echo(report.markdown(rows))
    else:
        report.show(rows, Console(width=None if sys.stdout.isatty() else 240))


def _ours(bundle: Path | None, warmup: int | None, recipes: tuple[str, ...], time_budget: float) -> list[Subject]:
    from edge_agent.bundle.store import read_bundle, universal_bundle
    from edge_models.evaluation.agent import Agent, TrainedAgent
    from edge_models.recipes.build import check

    shown = universal_bundle() if bundle is None else read_bundle(bundle)
    trained = [TrainedAgent(check(recipe), time_budget) for recipe in recipes]
    return [Agent(shown.manifest.name, bundle, warmup), *trained]


def _tell_strangers(bundle: Path, chosen: list[Case]) -> None:
    """A note on standard error where the bundle is of other plants than those that it is measured on."""
    from edge_agent.cli.offline_model import load_model

    model = load_model(bundle)
    strangers = [case for case in chosen if model.sensors and not set(model.sensors) & set(case.entity.sensors)]
    if strangers:
        names = ", ".join(f"{case.set} {case.entity.name}" for case in strangers[:3])
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        click.echo(
            f"note: the model {model.detector.name!r} knows none of the sensors of {names}{more}; only companions judge"
            " them, expected plants that it was trained on",
            err=True,
        )


def _baselines(names: tuple[str, ...], fast: bool) -> list[Subject]:
    from edge_models.evaluation.baselines import BASELINES

    known = [baseline.name for baseline in BASELINES]
    for name in names:
        if name not in known:
            raise click.BadParameter(f"got {name!r}, expected one of {', '.join(known)}", param_hint="--detector")
    return [b for b in BASELINES if (b.name in names if names else not (fast and b.slow))]


def _cases(data: Path, sets: tuple[str, ...], fault_seed: int) -> list[Case]:
    from edge_models.evaluation import fault_suite
    from edge_models.evaluation.suites import LABELLED, WITH_LABELS, cases

    together = {"labelled": LABELLED, "faults": fault_suite.SETS}
    known = (*together, *WITH_LABELS, *fault_suite.SETS)
    for name in sets:
        if name not in known:
            raise click.BadParameter(f"got {name!r}, expected one of {', '.join(known)}", param_hint="--set")
    wanted = [one for name in sets or ("labelled",) for one in together.get(name, (name,))]
    found: list[Case] = []
    for name in dict.fromkeys(wanted):
        found += fault_suite.fault_cases(data, name, fault_seed) if name in fault_suite.SETS else cases(data, name)
    return found


def _require() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"this command needs {', '.join(missing)}, which is not installed: {_HINT}")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being measured, on standard error."""
    from rich.console import Console

    with Console(stderr=True).status("measuring") as status:
        yield status.update
