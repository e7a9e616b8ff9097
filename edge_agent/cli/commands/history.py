"""``edge-agent history``: what the daemon has kept, as a table or as JSON lines."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import config_option
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.history.archive import Archive, Between
    from edge_agent.history.tables import Part
    from edge_agent.recording.stream import Format

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@click.group()
def history() -> None:
    """The history that the daemon keeps in its data folder: incidents, status events, scores, readings."""


@history.command()
@click.argument("file", required=False, metavar="[HISTORY]", type=click.Path(path_type=Path))
@config_option
@click.option(
    "--what",
    type=click.Choice(["incidents", "events", "scores", "readings"]),
    default="incidents",
    show_default=True,
    help="What to take out. Scores and readings are kept if `history.scores.every`, `history.readings.every` are set.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "jsonl"]),
    help="How to write it. Default: by the name of the file, else csv.",
)
@click.option("--since", help="Only from this time on, such as 2026-11-20 or 2026-11-20T10:42:07Z; UTC without a zone.")
@click.option("--until", help="Only before this time.")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    default="-",
    show_default=True,
    help="File to write; it appears when it is complete. `-` is standard output.",
)
@click.pass_context
def export(
    ctx: click.Context,
    file: Path | None,
    config_path: str,
    what: str,
    form: str | None,
    since: str | None,
    until: str | None,
    out: Path,
) -> None:
    """Write a part of the history as CSV, Parquet or JSON lines.

    HISTORY is a file, or the data folder it is in. Default: that of the configuration. It may belong to a daemon that
    runs, which is not disturbed, or be a copy (of a running one with its `-wal` file). Incidents are those that were
    open at some time between --since and --until. JSON lines hold each incident as the API gives it; tables hold what
    fits into columns. Readings have one column a sensor, as `detect` and `train` take it.

    \b
    Examples:
      edge-agent history export -c agent.yaml --since 2026-11-01 -o incidents.csv
      edge-agent history export /var/lib/edge-agent --what readings -o readings.parquet

    Exit codes: 0 written, 2 wrong arguments, or a history that is missing, damaged or not one of ours; 1 written, but
    the daemon of the configuration has more in its memory, which the disk does not take.
    """
    from edge_agent.history.archive import ALWAYS, Between, opened
    from edge_agent.history.tables import PARTS, What
    from edge_agent.recording.stream import Format

    target = None if str(out) == "-" else out
    kind = Format(form or _format_of(target))
    between = Between(
        ALWAYS.since_ns if since is None else _wall_ns("--since", since),
        ALWAYS.until_ns if until is None else _wall_ns("--until", until),
    )
    with opened(file or _configured(config_path)) as archive:
        rows = _write(archive, PARTS[What(what)], between, kind, target)
    if target is not None or not rows:
        click.echo(f"{rows} rows of {what}" + ("" if target is None else f" written to {target}"), err=True)
    if file is None and _more_in_memory(Path(config_path)):
        click.echo(
            "not complete: the disk does not take the history of the running agent, whose newest part is in its memory "
            "only; make room on the disk, see `edge-agent doctor`, and export again",
            err=True,
        )
        ctx.exit(int(ExitCode.FAILED))


def _more_in_memory(config_path: Path) -> bool:
    """False, too, when no agent answers."""
    from edge_agent.api.control import HISTORY_NOT_TAKEN
    from edge_agent.cli.connection import client_of
    from edge_agent.errors import ControlError

    try:
        _, reasons = client_of(config_path).health()
    except ControlError:
        return False
    return HISTORY_NOT_TAKEN in reasons


def _format_of(target: Path | None) -> str:
    """:raises ConfigError: the name of the file says something else."""
    suffix = "" if target is None else target.suffix.lower()
    if suffix and suffix not in _SUFFIXES:
        raise ConfigError(f"{target}: got {suffix!r}, expected .csv, .parquet or .jsonl; or say --format")
    return _SUFFIXES.get(suffix, "csv")


def _write(archive: Archive, part: Part, between: Between, kind: Format, target: Path | None) -> int:
    from edge_agent.recording.stream import Format, json_lines_writer, table_writer

    rows = 0
    if kind is Format.JSONL:
        with json_lines_writer(target) as lines:
            for records in part.records(archive, between):
                lines.write(records)
                rows += len(records)
        return rows
    with table_writer(target, kind, part.columns(archive, between)) as table:
        for page in part.pages(archive, between):
            table.write(page)
            rows += len(next(iter(page.values())))
    return rows


def _configured(config_path: str) -> Path:
    from edge_agent.config import load_config

    config = load_config(Path(config_path), sources_required=False)
    return config.agent.data_dir / config.history.path


def _wall_ns(option: str, text: str) -> int:
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        passed = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
        return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1_000
    raise ConfigError(f"{option}: got {text[:50]!r}, expected a time such as 2026-11-20 or 2026-11-20T10:42:07Z")
