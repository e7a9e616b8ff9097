"""``edge-agent incidents``: what the running daemon has found, and what its operator says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edge_agent.cli.connection import talks_to_daemon
from edge_agent.cli.output import json_option, print_json

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient


@click.group()
def incidents() -> None:
    """Judge the incidents of the running daemon: false alarms teach the next model, true ones are kept from it."""


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.argument("verdict", type=click.Choice(["true", "false"]))
@click.option("--note", default="", help="Why, in a few words; kept with it.")
@talks_to_daemon
@json_option
def feedback(client: ApiClient, incident_id: str, verdict: str, note: str, as_json: bool) -> None:
    """Say that incident ID was a true or a false alarm.

    `edge-agent train --from-history` leaves the readings of true and of unjudged incidents out, and learns from those
    of false alarms with more weight. Said again it changes nothing; another verdict replaces the first.

    \b
    Example:
      edge-agent incidents feedback 01KAH5Y7P2Q8R3S4T5V6W7X8Y9 false --note "pump test"

    Exit codes: 0 kept, 3 daemon not running, 4 daemon refused (no such incident, no permission).
    """
    said = client.judge_incident(incident_id, f"{verdict}_alarm", note)
    if as_json:
        print_json(said)
        return
    click.echo(f"{said['incident']}: {said['verdict'].replace('_', ' ')}, said {said['time']} by {said['by']}")
