"""``edge-agent sinks``: who is told, and whether it arrives."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.connection import talks_to_daemon
from edge_agent.cli.exit_codes import ExitCode
from edge_agent.cli.output import config_option, json_option, print_json, print_table
from edge_agent.counted import counted
from edge_agent.errors import ConfigError
from edge_agent.verdict import Severity

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient


@click.group()
def sinks() -> None:
    """Where incidents go: what each sink waits for, and whether a test incident arrives."""


@sinks.command("list")
@talks_to_daemon
@json_option
def list_sinks(client: ApiClient, as_json: bool) -> None:
    """List the sinks of the running daemon: state, events not yet acknowledged, open incidents told, what is due.

    \b
    Exit codes: 0 done, 3 daemon not running.
    """
    found: dict[str, dict[str, Any]] = client.status()["sinks"]
    if as_json:
        print_json(found)
        return
    headings = ("SINK", "TYPE", "BACKLOG", "INCIDENTS", "ESCALATION", "DIGEST", "STATE")
    print_table(headings, [_row(name, sink) for name, sink in found.items()])


def _row(name: str, sink: dict[str, Any]) -> tuple[Any, ...]:
    digest = f"{sink['digest']} ({counted(sink['in_digest'], 'incident')})" if sink["digest"] else "-"
    return name, sink["type"], sink["backlog"], sink["incidents"], sink["escalation"] or "-", digest, sink["state"]


@sinks.command()
@click.argument("name")
@config_option
@click.option(
    "--severity",
    type=click.Choice([severity.value for severity in Severity]),
    default=Severity.CRITICAL.value,
    show_default=True,
    help="Severity of the test incident.",
)
@click.option("--area", help="Area it is in. Default: one that the sink asks for.")
@click.option("--sensor", help="Sensor it names. Default: one that the sink asks for.")
@click.option("--timeout", type=click.FloatRange(0.1, 300), default=30.0, show_default=True, help="Seconds for all.")
@json_option
@click.pass_context
def test(
    ctx: click.Context,
    name: str,
    config_path: str,
    severity: str,
    area: str | None,
    sensor: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Send a test incident to the sink NAME, opened and closed, and say what became of it.

    It is made of the configuration, with or without a running daemon, and marked as a test (`"test": true`, and a
    summary that begins with TEST). What the routing would do with such an incident is said; it is delivered in any
    case, once and without retries, and only to this sink.

    \b
    Example:
      edge-agent sinks test mail -c agent.yaml --severity high

    Exit codes: 0 the far side has taken it, 1 it has not, 2 no such sink or mistakes in the configuration.
    """
    from edge_agent.cli.reach import reach_sink, visiting
    from edge_agent.cli.trial_incident import trial_of
    from edge_agent.config import load_config
    from edge_agent.nearest import nearest

    config = load_config(Path(config_path))
    if name not in config.sinks:
        known = f"one of {', '.join(config.sinks)}" if config.sinks else "a sink, but there is none"
        raise ConfigError(f"{config_path}: sinks: got {name!r}, expected {known}{nearest(name, list(config.sinks))}")
    options = config.sinks[name]
    trial = trial_of(config.sinks, name, config.agent.name, Severity(severity), area, sensor)
    began = time.monotonic()
    problem = asyncio.run(reach_sink(options, visiting(name, kind="sink"), timeout, trial.events))
    took_s = round(time.monotonic() - began, 3)
    routing = trial.routing(name, options)
    if as_json:
        report = {"sink": name, "incident": trial.incident_id, "delivered": problem is None, "problem": problem}
        print_json({**report, "seconds": took_s, "routing": routing})
    else:
        click.echo(f"routing: {routing}")
        done = f"delivered in {took_s:g} s: test incident {trial.incident_id}, opened and closed"
        click.echo(f"{name}: {done if problem is None else f'not delivered: {problem}'}", err=problem is not None)
    if problem is not None:
        ctx.exit(int(ExitCode.FAILED))
