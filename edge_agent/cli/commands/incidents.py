"""``edge-agent incidents``: what the running daemon has found, and what its operators do about it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.connection import talks_to_daemon
from edge_agent.cli.ids import short_id
from edge_agent.cli.output import json_option, print_json, print_table
from edge_agent.counted import counted, listed

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient

note_option = click.option("--note", default="", help="Why, in a few words; kept with it.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return ""


def by_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who acts."""
    return click.option("--by", default=_user, help="Who you are, for the audit log. Default: your login name.")(
        command
    )


@click.group()
def incidents() -> None:
    """Incidents of the running daemon: look, acknowledge, suppress, and say which were false alarms."""


@incidents.command("list")
@click.option("--state", type=click.Choice(["open", "closed"]), help="Only incidents in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Most incidents to show.")
@click.option("--since", help="Only incidents that changed since then, such as 2026-11-20T10:42:07Z.")
@talks_to_daemon
@json_option
def list_incidents(client: ApiClient, state: str | None, limit: int, since: str | None, as_json: bool) -> None:
    """Show the latest incidents, newest first."""
    found = client.incidents(limit, state, since)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no incidents")
        return
    rows = [
        (one["id"], one["opened"][:19], one["severity"], _state(one), _remarks(one), one["summary"]) for one in found
    ]
    print_table(("id", "opened (UTC)", "severity", "state", "remarks", "summary"), rows)


@incidents.command()
@click.argument("incident_id", metavar="ID")
@talks_to_daemon
@json_option
@short_id("incident_id")
def show(client: ApiClient, incident_id: str, as_json: bool) -> None:
    """Show all that is known about incident ID.

    A beginning or end of the id will do, if it has six characters at least and no other incident shares it.
    """
    found = client.incident(incident_id)
    if as_json:
        print_json(found)
        return
    click.echo(found["summary"])
    plain = (
        "id",
        "kind",
        "state",
        "severity",
        "opened",
        "updated",
        "closed",
        "p_value",
        "areas",
        "rules",
        "first_mover",
    )
    shown = {**found, "state": _state(found), "p_value": found["p_value"] if found["kind"] == "process" else None}
    for name in plain:
        if shown.get(name):
            value = shown[name]
            click.echo(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, list) else value}")
    if remarks := _remarks(found):
        click.echo(f"remarks: {remarks}")
    for part in found.get("sensors", ()):
        click.echo(f"  {part['share']:4.0%}  {part['sensor']}: {part['reason']}")
    for match in found.get("patterns", ()):
        click.echo(
            f"looks like {match['title']} ({', '.join(match['techniques']) or 'fault'}, {match['confidence']:.0%})"
        )


@incidents.command()
@click.argument("incident_id", metavar="ID")
@note_option
@by_option
@talks_to_daemon
@json_option
@short_id("incident_id")
def acknowledge(client: ApiClient, incident_id: str, note: str, by: str, as_json: bool) -> None:
    """Say that you have seen the open incident ID, so that it is not escalated.

    A beginning or end of the id will do, if it has six characters at least and no other incident shares it.

    \b
    Exit codes: 0 kept, 3 daemon not running, 4 daemon refused (no such incident, closed, no permission).
    """
    found = client.acknowledge_incident(incident_id, note, by)
    if as_json:
        print_json(found)
        return
    said = found["acknowledged"]
    click.echo(f"{found['id']}: acknowledged {said['time']} by {said['by']}")


@incidents.command()
@click.argument("incident_id", metavar="ID")
@click.argument("verdict", type=click.Choice(["true_alarm", "false_alarm"]))
@note_option
@by_option
@talks_to_daemon
@json_option
@short_id("incident_id")
def feedback(client: ApiClient, incident_id: str, verdict: str, note: str, by: str, as_json: bool) -> None:
    """Say that incident ID was a true or a false alarm.

    A beginning or end of the id will do, if it has six characters at least and no other incident shares it.
    `edge-agent train --from-history` leaves the readings of true and of unjudged incidents out, and learns from those
    of false alarms with more weight. Said again it changes nothing; another verdict replaces the first.

    \b
    Example:
      edge-agent incidents feedback 01KAH5Y7P2Q8R3S4T5V6W7X8Y9 false_alarm --note "pump test"

    Exit codes: 0 kept, 3 daemon not running, 4 daemon refused (no such incident, no permission).
    """
    said = client.judge_incident(incident_id, verdict, note, by)
    if as_json:
        print_json(said)
        return
    click.echo(f"{said['incident']}: {said['verdict'].replace('_', ' ')}, said {said['time']} by {said['by']}")


@incidents.command()
@click.option("--sensors", multiple=True, metavar="PATTERN", help="Sensors concerned, shell-style; may be repeated.")
@click.option("--areas", multiple=True, metavar="PATTERN", help="Areas concerned, shell-style; may be repeated.")
@click.option("--for", "lasts", required=True, metavar="TIME", help="How long, such as 2h; at most 31d.")
@note_option
@by_option
@talks_to_daemon
@json_option
def suppress(
    client: ApiClient,
    sensors: tuple[str, ...],
    areas: tuple[str, ...],
    lasts: str,
    note: str,
    by: str,
    as_json: bool,
) -> None:
    """Have incidents of some sensors disturb nobody for a while.

    They are still found and kept, as suppressed; only sinks with `suppressed: true` are told. An incident that
    involves any other sensor is not suppressed.
    For work that comes again and again there are maintenance windows: option `decision.maintenance`.

    \b
    Example:
      edge-agent incidents suppress --sensors "pump.*" --for 2h --note "pump test"

    Exit codes: 0 in force, 3 daemon not running, 4 daemon refused.
    """
    if not sensors and not areas:
        raise click.UsageError("say which sensors or areas: --sensors PATTERN or --areas PATTERN")
    order = client.suppress(sensors, areas, lasts, note, by)
    if as_json:
        print_json(order)
        return
    click.echo(f"{order['id']}: in force until {order['until']}, concerns {counted(order['matches'], 'sensor')}")
    if not order["matches"]:
        click.echo("note: no sensor that is known now matches; is the pattern right?", err=True)


@incidents.command()
@talks_to_daemon
@json_option
def orders(client: ApiClient, as_json: bool) -> None:
    """Show the suppression orders in force."""
    found = client.orders()
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no orders")
        return
    rows = [(one["id"], one["until"][:19], _concerns(one), one["by"], one["note"]) for one in found]
    print_table(("id", "until (UTC)", "concerns", "by", "note"), rows)


@incidents.command()
@click.argument("order_id", metavar="ORDER")
@by_option
@talks_to_daemon
@json_option
@short_id("order_id")
def lift(client: ApiClient, order_id: str, by: str, as_json: bool) -> None:
    """End a suppression order before its time.

    ORDER is its id, as `edge-agent incidents orders` shows it, or a unique beginning or end of it.
    """
    order = client.lift_order(order_id, by)
    if as_json:
        print_json(order)
        return
    click.echo(f"{order['id']}: lifted")


@incidents.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Most entries to show.")
@talks_to_daemon
@json_option
def audit(client: ApiClient, limit: int, as_json: bool) -> None:
    """Show who did what, newest first: also with models and the configuration, and who was refused."""
    found = client.audit(limit)
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo("no actions yet")
        return
    rows = [(one["time"][:19], one["action"], one["by"], _about(one)) for one in found]
    print_table(("time (UTC)", "action", "by", "about"), rows)


def _remarks(incident: Mapping[str, Any]) -> str:
    said = incident.get("acknowledged")
    verdict = incident.get("feedback")
    found = [
        f"acknowledged by {said['by']}" if said else "",
        f"suppressed: {incident['suppressed']}" if incident.get("suppressed") else "",
        "flapping" if incident.get("flapping") else "",
        f"reopened {counted(incident['reopened'], 'time')}" if incident.get("reopened") else "",
        verdict["verdict"].replace("_", " ") if verdict else "",
    ]
    return ", ".join(part for part in found if part)


def _state(incident: Mapping[str, Any]) -> str:
    """``open`` or ``closed``, as option --state has it; an open one that has changed is still open."""
    return "closed" if incident["state"] == "closed" else "open"


def _concerns(order: Mapping[str, Any]) -> str:
    return ", ".join([*order["sensors"], *(f"area {area}" for area in order["areas"])])


def _about(entry: Mapping[str, Any]) -> str:
    return listed({key: value for key, value in entry.items() if key not in ("time", "by", "action")})
