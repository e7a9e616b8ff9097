"""``edge-agent data check``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.output import json_option, print_json
from edge_agent.errors import ConfigError
from edge_agent.options import parse_duration

if TYPE_CHECKING:
    from edge_models.histories.findings import Report
    from edge_models.histories.profile import Profile


@click.group("data", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look at histories before something is trained on them."""


@command.command("check")
@click.argument("history", metavar="HISTORY")
@click.argument("test", metavar="[TEST]", required=False)
@click.option("--run-column", help="Column that tells independent runs apart (default: `run` where there is one).")
@click.option("--tick", help="Time between rows, such as 1s (default: from the timestamps).")
@click.option("--select", help="Group or dataset of an HDF5 file; table or SELECT statement of a database.")
@click.option("--units", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="CSV of sensor and unit.")
@click.option("--names", help="Names for the sensors of a line protocol export, such as {machine}.{field}.")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    history: str,
    test: str | None,
    run_column: str | None,
    tick: str | None,
    select: str | None,
    units: Path | None,
    names: str | None,
    as_json: bool,
) -> None:
    """Report what is wrong with HISTORY, and with judging on TEST what was trained on HISTORY.

    Both are files (CSV, JSON lines, Parquet, HDF5, InfluxDB line protocol; text may be gzipped) or database URLs. They
    are read once, block by block, whatever their length.

    \b
    Example:
      edge-agent data check week.parquet today.csv

    Exit codes: 0 nothing that would stop training (there may be warnings), 1 errors were found, 2 wrong arguments, or a
    file that cannot be read.
    """
    from edge_models.histories.history import open_history
    from edge_models.histories.report import check_history

    given: dict[str, Any] = {
        "run_column": run_column,
        "tick_s": None if tick is None else _seconds(tick),
        "select": select,
        "units": units,
        "names": names,
    }
    train = open_history(history, **given)
    report, profile = check_history(train, None if test is None else open_history(test, **given))
    if as_json:
        print_json(_facts(profile) | report.to_dict())
    else:
        _say(report, profile)
    if report.errors:
        ctx.exit(1)


def _seconds(tick: str) -> float:
    try:
        seconds = parse_duration(tick)
    except ValueError as error:
        raise ConfigError(f"--tick: {error}") from error
    if seconds <= 0:
        raise ConfigError(f"--tick: got {tick!r}, expected more than 0")
    return seconds


def _facts(profile: Profile) -> dict[str, Any]:
    return {
        "history": profile.history.where,
        "rows": profile.timing.rows,
        "ticks": profile.ticks,
        "sensors": len(profile.history.sensors),
        "period_s": profile.history.period_s,
        "segments": profile.segments,
        "sha256": profile.sha256,
    }


def _say(report: Report, profile: Profile) -> None:
    history = profile.history
    period = "unknown" if history.period_s is None else f"{history.period_s:g} s"
    click.echo(
        f"{history.where}: {profile.timing.rows} rows of {len(history.sensors)} sensors, period {period},"
        f" {profile.segments} segments"
    )
    for finding in report.findings:
        colour = "red" if finding in report.errors else "yellow"
        click.echo(f"{click.style(finding.severity.value, fg=colour)}: {finding.text}")
    click.echo(f"{len(report.errors)} errors, {len(report.warnings)} warnings")
