"""``edge-agent rules``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import config_option, json_option, print_json, print_table
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig
    from edge_agent.pipeline.rule_trial import Readings, Trial
    from edge_agent.rules.options import RuleOptions
    from edge_agent.verdict import Incident

_SHOWN = 5


@click.group()
def rules() -> None:
    """Rules of your own: list them, and try them on recorded readings before anybody is disturbed by them."""


@rules.command("list")
@config_option
@json_option
def list_rules(config_path: str, as_json: bool) -> None:
    """The rules of a configuration file, as they would be watched."""
    from edge_agent.config import load_config

    config = load_config(Path(config_path), sources_required=False)
    if as_json:
        shown = {
            name: one.model_dump(mode="json", by_alias=True, exclude_unset=True) for name, one in config.rules.items()
        }
        print_json(shown)
        return
    if not config.rules:
        click.echo(f"{config_path}: has no rules; see the section `rules` of the reference")
        return
    rows = [
        (name, one.severity.value, "yes" if one.enabled else "no", _says(one)) for name, one in config.rules.items()
    ]
    print_table(("RULE", "SEVERITY", "ENABLED", "SAYS"), rows)


@rules.command()
@config_option
@click.option(
    "--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Readings: .csv or .parquet."
)
@click.option("--history", is_flag=True, help="Readings that the daemon has kept (`history.readings.every`).")
@click.option("--rule", "chosen", multiple=True, help="Only this rule, even if it is disabled; may be repeated.")
@click.option("--run-column", help="Column of --data that tells independent runs apart. Default: `run`, if any.")
@click.option("--tick", default="1s", show_default=True, help="Time between two rows without a `timestamp`.")
@click.option("--fail-on-incident", is_flag=True, help="Exit code 1 when a rule would have opened an incident.")
@json_option
@click.pass_context
def test(
    ctx: click.Context,
    config_path: str,
    data: Path | None,
    history: bool,
    chosen: tuple[str, ...],
    run_column: str | None,
    tick: str,
    fail_on_incident: bool,
    as_json: bool,
) -> None:
    """Say when rules would have held in the past: how often, since when, for how long, and what was missing.

    Give either --data or --history. Limits and flags of `sensors` count as in the daemon; nothing is sent anywhere.
    A rule is judged from the first row on; what a rule joins when the model finds something too is told as the rule's
    own. Kept readings have their scale already; those of --data are scaled as the options of their sensors say.

    \b
    Example:
      edge-agent rules test -c agent.yaml --history --rule dry-run

    Exit codes: 0 tried, 1 a rule could not be judged on any row (or, with --fail-on-incident, there was an incident),
    2 wrong arguments, wrong configuration, or data that cannot be used.
    """
    from rich.console import Console
    from rich.progress import Progress

    from edge_agent.cli.offline_model import pipeline_options
    from edge_agent.config import load_config
    from edge_agent.pipeline.rule_trial import try_rules

    if (data is None) is not history:
        raise click.UsageError("give either --data FILE or --history")
    config = load_config(Path(config_path), sources_required=False)
    wanted = _wanted(config, chosen)
    runs, options = (_recorded(data, run_column, tick), pipeline_options(config)) if data is not None else _kept(config)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("trying", total=sum(len(run.time_ns) for run in runs))
        trials = try_rules(wanted, options, runs, lambda rows: shown.advance(task, rows))
    if as_json:
        print_json({"rules": {name: _as_json(trial) for name, trial in trials.items()}})
    else:
        _show(trials)
    blind = any(trial.ticks and not trial.judged for trial in trials.values())
    if blind or (fail_on_incident and any(trial.incidents for trial in trials.values())):
        ctx.exit(int(ExitCode.FAILED))


def _wanted(config: AgentConfig, chosen: tuple[str, ...]) -> dict[str, RuleOptions]:
    from edge_agent.nearest import nearest

    for name in chosen:
        if name not in config.rules:
            hint = nearest(name, list(config.rules)) or f"; known: {', '.join(config.rules) or 'none'}"
            raise ConfigError(f"--rule: {name!r} is not a rule of {config.path}{hint}")
    if chosen:
        return {name: config.rules[name].model_copy(update={"enabled": True}) for name in chosen}
    wanted = {name: one for name, one in config.rules.items() if one.enabled}
    if not wanted:
        raise ConfigError(f"{config.path}: rules: there are none to try, expected at least one that is enabled")
    return wanted


def _recorded(path: Path, run_column: str | None, tick: str) -> list[Readings]:
    from edge_agent.options import parse_duration
    from edge_agent.pipeline.rule_trial import Readings
    from edge_agent.recording import read_recording

    try:
        tick_s = parse_duration(tick)
    except ValueError as error:
        raise ConfigError(f"--tick: {error}") from error
    recording = read_recording(path, run_column, tick_s)
    for warning in recording.warnings:
        click.echo(f"note: {warning}", err=True)
    return [
        Readings(recording.sensors, recording.time_ns[rows], recording.values[rows]) for _, rows in recording.runs()
    ]


def _kept(config: AgentConfig) -> tuple[list[Readings], Any]:
    from dataclasses import replace
    from itertools import pairwise

    import numpy as np

    from edge_agent.cli.offline_model import pipeline_options
    from edge_agent.history.export import read_readings
    from edge_agent.pipeline.rule_trial import Readings

    table = read_readings(config.agent.data_dir / config.history.path, kept_as=config.history.readings)
    options = pipeline_options(config)
    of = options.sensor_options
    # What the daemon keeps is in the sensors' units already.
    options = replace(options, sensor_options=lambda name: of(name).model_copy(update={"scale": 1.0, "offset": 0.0}))
    cuts = [0, *(np.flatnonzero(np.diff(table.run)) + 1).tolist(), len(table)]
    runs = [
        Readings(table.sensors, table.time_ns[first:last], table.values[first:last]) for first, last in pairwise(cuts)
    ]
    return runs, options


def _says(rule: RuleOptions) -> str:
    from edge_agent.options import format_duration

    if rule.when is not None:
        text = " ".join(rule.when.split())
    else:
        kind = next(name for name in ("limit", "rate", "deviation") if getattr(rule, name) is not None)
        given = getattr(rule, kind).model_dump(exclude_unset=True).items()
        text = f"{kind} " + ", ".join(f"{key} {_word(key, value)}" for key, value in given)
    each = f" of {', '.join(rule.sensors)}" if rule.sensors else ""
    lasting = f" for {format_duration(rule.lasting)}" if rule.lasting else ""
    return f"{text}{each}{lasting}"


def _word(key: str, value: Any) -> str:
    from edge_agent.options import format_duration

    return format_duration(value) if key == "per" else f"{value:g}" if isinstance(value, float) else str(value)


def _seconds(incident: Incident) -> float:
    return ((incident.closed_ns or incident.updated_ns) - incident.opened_ns) / 1e9


def _as_json(trial: Trial) -> dict[str, Any]:
    from edge_agent.verdict import rfc3339

    return {
        "times": len(trial.incidents),
        "total_s": sum(map(_seconds, trial.incidents)),
        "ticks": trial.ticks,
        "judged": trial.judged,
        "sensors": trial.sensors,
        "missing": trial.missing,
        "incidents": [
            {
                "opened": rfc3339(one.opened_ns),
                "closed": None if one.closed_ns is None else rfc3339(one.closed_ns),
                "lasted_s": _seconds(one),
                "severity": one.severity.value,
                "summary": one.summary,
                "sensors": [part.sensor for part in one.contributions],
            }
            for one in trial.incidents
        ],
    }


def _show(trials: dict[str, Trial]) -> None:
    from edge_agent.verdict import rfc3339

    rows = []
    for name, trial in trials.items():
        lasted = [_seconds(one) for one in trial.incidents]
        share = f"{100 * trial.judged / trial.ticks:.0f} %" if trial.ticks else "–"
        rows.append((name, len(lasted), _text(sum(lasted)), _text(max(lasted, default=0.0)), share))
    print_table(("RULE", "TIMES", "TOTAL", "LONGEST", "JUDGED"), rows)
    for name, trial in trials.items():
        for one in trial.incidents[:_SHOWN]:
            end = "still" if one.closed_ns is None else _text(_seconds(one))
            click.echo(f"{name}: {rfc3339(one.opened_ns)}  {end}  {one.summary}")
        if len(trial.incidents) > _SHOWN:
            click.echo(f"{name}: and {len(trial.incidents) - _SHOWN} times more (--json shows all)")
        if trial.missing:
            click.echo(f"note: {name}: no reading of {', '.join(trial.missing)}", err=True)
        elif not trial.sensors:
            click.echo(f"note: {name}: no sensor matches", err=True)
        elif not trial.judged:
            click.echo(f"note: {name}: could not be judged on any row", err=True)


def _text(seconds: float) -> str:
    from edge_agent.options import format_duration

    return format_duration(round(seconds, 3)) if seconds else "0s"
