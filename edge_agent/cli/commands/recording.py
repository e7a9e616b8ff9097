"""``edge-agent record`` and ``edge-agent replay``"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import check_table, config_option, json_option, print_json
from edge_agent.counted import counted
from edge_agent.errors import ConfigError, DataFileError

if TYPE_CHECKING:
    from edge_agent.verdict import Event


@click.command()
@config_option
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Log to write.")
@click.option("--duration", default=None, help="Stop after this long, such as 10m. Default: until Ctrl-C.")
@click.option("--max-size", default="50MB", show_default=True, help="Size at which a new file begins.")
@click.option("--keep", type=click.IntRange(0, 1000), default=4, show_default=True, help="Full files to keep.")
@json_option
def record(config_path: str, out: Path, duration: str | None, max_size: str, keep: int, as_json: bool) -> None:
    """Write what the sources read to a log, for `edge-agent replay`, which can make a table for training of it.

    Nothing is scored. Stop the daemon first where a source can be read by one client only (a serial line, a broker
    session): the readings would otherwise be missing there.
    """
    from edge_agent.cli.recorder import record_sources
    from edge_agent.config import load_config
    from edge_agent.options import parse_duration, parse_size

    try:
        duration_s = parse_duration(duration) if duration is not None else None
        max_bytes = parse_size(max_size)
    except ValueError as error:
        raise ConfigError(f"--duration or --max-size: {error}") from error
    counts = asyncio.run(record_sources(load_config(Path(config_path)), out, duration_s, max_bytes, keep))
    if as_json:
        print_json({"out": str(out), "readings": counts})
        return
    for source, count in counts.items():
        click.echo(f"{source}: {count} readings")
    click.echo(f"written to {out}")


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="For sensors, graph and budget.")
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="Default: that of the configuration.")
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the readings as a table (.csv or .parquet) for `train` and `detect`: one row a tick.",
)
@click.option("--fail-on-incident", is_flag=True, help="Exit code 1 when there was an incident.")
@json_option
@click.pass_context
def replay(
    ctx: click.Context,
    log: Path,
    config_path: Path | None,
    bundle: Path | None,
    table: Path | None,
    fail_on_incident: bool,
    as_json: bool,
) -> None:
    """Send LOG (written by `edge-agent record`) through the pipeline again, in virtual time.

    What took a day takes seconds: try another model, budget or sensor limits on what really happened. Incidents are
    printed as they open and close; with --json one event a line, as a sink would get it.
    """
    from edge_agent.cli.offline_model import load_model, pipeline_options
    from edge_agent.cli.replaying import Replay
    from edge_agent.cli.tick_table import TickTable
    from edge_agent.config import load_config
    from edge_agent.recording import ReadingLogReader, write_table

    if table is not None:
        check_table(table)
    config = load_config(config_path, sources_required=False) if config_path is not None else None
    path = bundle or (config.model.path() if config is not None else None)
    readings = ReadingLogReader(log)
    player = Replay(load_model(path), pipeline_options(config), config)
    ticks = judged = 0
    incidents: dict[str, dict[str, Any]] = {}
    seen = TickTable()
    for report in player.play(readings):
        ticks += 1
        judged += report.decision.p_value is not None
        if table is not None:
            seen.add(report.snapshot)
        for event in report.events:
            if "state" in event.body:
                incidents[event.body["id"]] = event.body
            _show(event, as_json)
    if not ticks:
        raise DataFileError(f"{log}: holds no readings")
    if readings.damaged:
        click.echo(f"note: {readings.damaged} damaged lines were left out", err=True)
    if table is not None:
        write_table(table, seen.columns())
    still_open = [body for body in incidents.values() if body["state"] != "closed"]
    if not as_json:
        for body in still_open:
            click.echo(f"{body['updated']}  still open at the end  {body['severity']:8}  {body['summary']}")
    click.echo(
        f"{counted(ticks, 'tick')}, {counted(len(incidents), 'incident')}, {len(still_open)} still open", err=as_json
    )
    if judged < ticks:
        click.echo(f"{ticks - judged} ticks were warm-up and not judged", err=True)
    if fail_on_incident and incidents:
        ctx.exit(int(ExitCode.FAILED))


def _show(event: Event, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps(event.body, ensure_ascii=False, default=str))
    elif event.body.get("state") in ("open", "closed"):
        body = event.body
        click.echo(f"{body['updated']}  {body['state']:6}  {body['severity']:8}  {body['summary']}")
