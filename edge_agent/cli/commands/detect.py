"""``edge-agent detect``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.output import check_table, json_option, print_json
from edge_agent.counted import counted

if TYPE_CHECKING:
    from edge_agent.pipeline.offline import Detection
    from edge_agent.recording import Recording


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Scores: .csv or .parquet.")
@click.option("--bundle", type=click.Path(exists=True, path_type=Path), help="Default: the universal model.")
@click.option("--warmup", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Normal history.")
@click.option("--run-column", help="Column that tells independent runs apart. Default: `run`, if there is one.")
@click.option("--tick", default="1s", show_default=True, help="Time between two rows, where there is no `timestamp`.")
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="For limits, edges and budget.")
@json_option
def detect(
    file: Path,
    out: Path,
    bundle: Path | None,
    warmup: Path | None,
    run_column: str | None,
    tick: str,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Score FILE (CSV or Parquet: one row a tick, one column a sensor) and write the scores to --out.

    The daemon fed the same readings gives the same scores. Columns called `label`, `timestamp` and `run` are never
    sensors. What the model carries is reset where the run changes; --warmup is run through first without being scored.

    \b
    --out has one row for each row of FILE, in order:
      timestamp, run (if FILE has runs), score (higher is more anomalous), p_value,
      alarm (0 or 1), incident (id or empty), score.SENSOR for each sensor
    """
    check_table(out)
    from rich.console import Console
    from rich.progress import Progress

    from edge_agent.cli.offline_model import load_model, pipeline_options
    from edge_agent.config import load_config
    from edge_agent.pipeline import offline
    from edge_agent.recording import read_recording, write_table

    tick_s = _seconds(tick)
    recording = read_recording(file, run_column, tick_s)
    history = read_recording(warmup, None, tick_s) if warmup is not None else None
    for warning in recording.warnings:
        click.echo(f"note: {warning}", err=True)
    model = load_model(bundle)
    if (strangers := model.strangers(recording.sensors)) is not None:
        click.echo(f"note: {strangers}", err=True)
    config = load_config(config_path, sources_required=False) if config_path is not None else None
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("scoring", total=len(recording))
        found = offline.detect(
            recording,
            model.detector,
            warmup=history,
            calibration=model.calibration,
            trained_edges=model.edges,
            options=pipeline_options(config),
            progress=lambda rows: shown.update(task, completed=rows),
        )
    write_table(out, _columns(recording, found))
    _report(out, len(recording), found, as_json)


def _seconds(tick: str) -> float:
    from edge_agent.errors import ConfigError
    from edge_agent.options import parse_duration

    try:
        return parse_duration(tick)
    except ValueError as error:
        raise ConfigError(f"--tick: {error}") from error


def _columns(recording: Recording, found: Detection) -> dict[str, Any]:
    import numpy as np

    columns: dict[str, Any] = {
        "timestamp": recording.timestamp if recording.timestamp is not None else recording.time_ns / 1e9
    }
    if recording.run is not None:
        columns["run"] = recording.run
    columns |= {"score": found.score, "p_value": found.p_value, "alarm": found.alarm}
    columns["incident"] = np.array(found.incident, dtype=object)
    for number, sensor in enumerate(found.sensors):
        columns[f"score.{sensor}"] = found.sensor_score[:, number]
    return columns


def _report(out: Path, rows: int, found: Detection, as_json: bool) -> None:
    incidents = [incident.to_dict() for incident in found.incidents.values()]
    alarms, judged = int(found.alarm.sum()), int((found.p_value == found.p_value).sum())  # NaN: not judged
    if as_json:
        print_json({"rows": rows, "judged": judged, "alarms": alarms, "out": str(out), "incidents": incidents})
        return
    for incident in incidents:
        closed = incident["closed"] or "still open"
        click.echo(f"{incident['opened']} to {closed}  {incident['severity']}  {incident['summary']}")
    click.echo(
        f"{counted(rows, 'row')}, {alarms} with an alarm, {counted(len(incidents), 'incident')}; scores in {out}"
    )
    if judged < rows:
        advice = "their p_value is empty; normal history by --warmup, or more of it, shortens that"
        click.echo(f"{rows - judged} rows were taken as warm-up and not judged: {advice}", err=True)
