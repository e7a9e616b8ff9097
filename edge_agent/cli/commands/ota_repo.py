"""``edge-agent ota repo``: publish models and configurations for a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.output import json_option, print_json, print_table
from edge_agent.cli.passphrase import asker
from edge_agent.cli.publishing import FILE, FOLDER, on_repository, secret_options, told, told_gateways

if TYPE_CHECKING:
    from edge_agent.ota.publisher import Repository
    from edge_agent.ota.ring import Activate

_spread_option = click.option(
    "--spread", help="Gateways change over within this time, at random. Default: 20s; more to publish to a large ring."
)
_into_option = click.option("--into", type=FOLDER, help="Where a new private key goes, such as a stick. Default: keys/")
_uri_option = click.option("--uri", help="Where its private half is: hsm:ID?label=TOKEN, or another signer URI.")


@click.group()
def repo() -> None:
    """Publish models and configurations: keys, releases, rings.

    \b
    Passphrases are asked for, or come from EDGE_AGENT_OTA_PASSPHRASE, --passphrase-file or --passphrase-fd;
    the PIN of a token from EDGE_AGENT_OTA_PIN. Everything that is done is in audit.jsonl.
    """


@repo.command()
@click.argument("folder", type=FOLDER)
@click.option("--family", "families", multiple=True, default=("default",), show_default=True, help="Family of models.")
@click.option("--fleet", default="default", show_default=True, help="Name of the fleet.")
@click.option(
    "--ring", "rings", multiple=True, default=("canary", "early", "stable"), show_default=True, help="In order."
)
@click.option("--root-keys", type=click.IntRange(1, 9), default=3, show_default=True, help="How many root keys.")
@click.option("--root-threshold", type=click.IntRange(1, 9), default=2, show_default=True, help="How many must sign.")
@click.option("--offline", type=FOLDER, help="Where the private keys of root and targets go, such as a stick.")
@click.option("--ask-each", is_flag=True, help="Ask for a passphrase of its own for each key.")
@secret_options[0]
@secret_options[1]
@json_option
def init(
    folder: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    as_json: bool,
    ask_each: bool,
    **plan: Any,
) -> None:
    """Make a new repository in FOLDER, with its keys.

    \b
    Example:
      edge-agent ota repo init fleet --offline /media/stick
    """
    from edge_agent.ota.publisher import Repository

    made = Repository.init(folder, asker(passphrase_file, passphrase_fd, each=ask_each), **plan)
    if as_json:
        print_json({"folder": str(folder), "root": str(made.root_file), "serve": str(made.served)})
        return
    click.echo(f"{folder}: repository made.")
    click.echo(f"  For gateways, once (option ota.root):  {made.root_file}")
    click.echo(f"  For the web server:                    {made.served}")
    secret = [folder / "keys", *([plan["offline"]] if plan["offline"] else [])]
    click.echo(f"  Never to be lost, never to be served:  {' and '.join(map(str, secret))}")


@repo.command("add-key")
@click.argument("name")
@click.option(
    "--role", required=True, help="What it may sign: root, targets, config, rings, models-FAMILY, rings-RING …"
)
@click.option("--threshold", type=click.IntRange(1), help="How many keys of the role must sign from now on.")
@_into_option
@_uri_option
@click.option(
    "--public", type=FILE, help="Its public half (PEM, or the .json of another keys/), if it is not made here."
)
@on_repository
def add_key(repository: Repository, as_json: bool, name: str, role: str, **options: Any) -> None:
    """Let the key NAME sign for a role; it is made unless it is known, or said where it is.

    \b
    Examples:
      edge-agent ota repo add-key models-pump-1 --role models-pump     a new family of models
      edge-agent ota repo add-key stable-2 --role rings-stable --threshold 2
      edge-agent ota repo add-key root-4 --role root --uri 'hsm:2?label=fleet'
    """
    told(repository.add_key(name, role, **options), as_json)


@repo.command()
@click.argument("role")
@click.argument("old")
@click.argument("new")
@_into_option
@_uri_option
@on_repository
def rotate(repository: Repository, as_json: bool, role: str, old: str, new: str, **options: Any) -> None:
    """Replace the key OLD of ROLE by NEW, which is made unless it is known. Gateways follow by themselves.

    \b
    Example:
      edge-agent ota repo rotate timestamp online-1 online-2 --keys /media/stick
    """
    told(repository.rotate(role, old, new, **options), as_json)


@repo.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--ring", "rings", multiple=True, help="Ring that gets it. Default: the first one.")
@click.option("--family", default="default", show_default=True, help="Family of models it belongs to.")
@click.option("--release", help="Name of the release. Default: that of the bundle with its version.")
@click.option("--name", help="Name of a configuration. Default: that of its file.")
@click.option(
    "--activate", default="stage", show_default=True, help="stage, now, or a moment such as 2027-01-31T06:00:00Z."
)
@_spread_option
@click.option("--shadow", help="How long it runs beside the old model first. Default: 10m; 0s: not at all.")
@click.option("--shadow-ticks", type=click.IntRange(0), help="And for how many ticks. Default: 200.")
@click.option("--trial", help="How long it must do well before it stays. Default: 10m.")
@click.option("--trial-ticks", type=click.IntRange(0), help="And for how many ticks. Default: 500.")
@click.option("--p99-ms", type=float, help="Longest time of a tick on the gateway, instead of what the bundle says.")
@click.option("--rss-mb", type=float, help="Most memory on the gateway, instead of what the bundle says.")
@click.option("--hardware", multiple=True, help="Kind of gateway it is for. Default: all.")
@click.option("--min-agent", help="Oldest version of the agent it is for.")
@click.option("--image", help="Container image NAME@sha256:…, for whatever updates containers.")
@click.option("--deny", "denied", multiple=True, help="Bundle (sha256) that is never to run again.")
@on_repository
def publish(repository: Repository, as_json: bool, path: Path, **given: Any) -> None:
    """Publish PATH to a ring: a bundle (folder or tar), or sections of the configuration (.yaml).

    Gateways fetch and probe it; they begin to use it when its activation says so (see `activate`).

    \b
    Examples:
      edge-agent ota repo publish pump-1.4/ --ring canary --activate now
      edge-agent ota repo publish thresholds.yaml --ring canary
    """
    from rich.console import Console

    from edge_agent.cli.release_options import troubles_of_config, wanted

    asked = wanted(given)
    with Console(stderr=True).status(f"Checking {path.name}"):
        config = path.suffix in (".yaml", ".yml")
        change = repository.publish_config(path, asked) if config else repository.publish(path, asked)
    told_gateways(repository, change, as_json)
    for trouble in troubles_of_config(path.read_bytes(), str(path)) if config else ():
        click.secho(f"warning: gateways may refuse it: {trouble}", err=True, fg="yellow")


@repo.command()
@click.argument("release")
@click.argument("from_ring")
@click.argument("to_ring")
@click.option("--activate", help="stage, now, or a moment. Default: as in FROM_RING.")
@_spread_option
@on_repository
def promote(repository: Repository, as_json: bool, activate: str | None, spread: str | None, **given: str) -> None:
    """Give TO_RING the RELEASE that FROM_RING has."""
    told_gateways(repository, repository.promote(**given, activate=_activate(activate, spread)), as_json)


@repo.command()
@click.argument("ring")
@click.option("--why", default="", help="For the audit log.")
@on_repository
def halt(repository: Repository, as_json: bool, ring: str, why: str) -> None:
    """Stop the release of RING: nobody begins with it, whoever has it on trial goes back."""
    told_gateways(repository, repository.halt(ring, why), as_json)


@repo.command()
@click.argument("ring")
@click.argument("to_release")
@click.option("--deny/--no-deny", default=True, show_default=True, help="The model of now is never to run again.")
@click.option("--activate", default="now", show_default=True, help="stage, now, or a moment.")
@_spread_option
@click.option("--why", default="", help="For the audit log.")
@on_repository
def rollback(repository: Repository, as_json: bool, activate: str, spread: str | None, **given: Any) -> None:
    """Take RING back to TO_RELEASE, an older release or `factory`."""
    told_gateways(repository, repository.rollback(**given, activate=_activate(activate, spread)), as_json)


@repo.command()
@click.argument("ring")
@click.argument("when")
@_spread_option
@on_repository
def activate(repository: Repository, as_json: bool, ring: str, when: str, spread: str | None) -> None:
    """Say when gateways of RING change over to what they have fetched: `now`, `stage` (not yet), or a moment."""
    chosen = _activate(when, spread)
    assert chosen is not None, "WHEN is a required argument"
    told_gateways(repository, repository.activate(ring, chosen), as_json)


@repo.command()
@click.argument("roles", nargs=-1)
@on_repository
def refresh(repository: Repository, as_json: bool, roles: tuple[str, ...]) -> None:
    """Sign anew what would expire: the timestamp, what is in the second half of its life, and ROLES.

    To be run every six hours, by a timer.
    """
    told(repository.refresh(roles), as_json)


@repo.command()
@click.option("--discard", is_flag=True, help="Forget it instead.")
@on_repository
def sign(repository: Repository, as_json: bool, discard: bool) -> None:
    """Sign the change that waits for more signatures, with the keys that are here."""
    if discard:
        told(repository.discard(), as_json)
    else:
        told_gateways(repository, repository.sign(), as_json)


@repo.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--ring", required=True, help="Ring of the gateways.")
@click.option("--days", type=click.FloatRange(0, 366, min_open=True), default=30.0, show_default=True, help="It holds.")
@on_repository
def sideload(repository: Repository, as_json: bool, out: Path, ring: str, days: float) -> None:
    """Write a small complete repository for one ring to OUT, a new folder or .tar, to be carried to gateways."""
    told(repository.sideload(out, ring, days), as_json)


@repo.command()
@click.option("--keep", type=click.IntRange(0), default=3, show_default=True, help="Releases to keep besides.")
@on_repository
def prune(repository: Repository, as_json: bool, keep: int) -> None:
    """Remove models and configurations that no ring and none of the newest releases needs."""
    told(repository.prune(keep), as_json)


@repo.command()
@on_repository
def status(repository: Repository, as_json: bool) -> None:
    """What is published, what waits for signatures, what expires soon. Needs no key."""
    found = repository.status()
    if as_json:
        print_json(found)
        return
    rings = {name: ring or {} for name, ring in found["rings"].items()}
    columns = ("release", "counter", "activate", "halt", "model", "config")
    print_table(
        ("RING", *(column.upper() for column in columns)),
        [(name, *(_cell(ring.get(column)) for column in columns)) for name, ring in rings.items()],
    )
    click.echo()
    rows = [
        (
            role,
            one["version"],
            f"{one['threshold']} of {', '.join(one['keys'])}",
            f"{one['seconds_left'] / 86_400:.1f} d",
        )
        for role, one in found["roles"].items()
    ]
    print_table(("ROLE", "VERSION", "SIGNED BY", "EXPIRES IN"), rows)
    click.echo(f"\nAudit log: {found['audit_entries']} entries, whole.")
    for warning in found["warnings"]:
        click.secho(f"warning: {warning}", err=True, fg="yellow")


@repo.command()
@click.option(
    "--reports", "sources", multiple=True, required=True,
    help="Status reports: a file of JSON lines, a folder of them, `uplinks` (of repo.yaml) or `uplink:NAME`.",
)  # fmt: skip
@click.option("--every", help="Look again after this time, such as 60s, until Ctrl-C. Default: once.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@on_repository
def auto(repository: Repository, as_json: bool, sources: tuple[str, ...], every: str | None, dry_run: bool) -> None:
    """Promote, widen, pause or halt releases as the gateways' reports say, one ring after the other.

    \b
    Examples:
      edge-agent ota repo auto --reports uplinks --every 60s
      edge-agent ota repo auto --reports reports.jsonl --dry-run

    Exit codes: 0 done, 1 it could not be done; with --every, what fails is told and tried again.
    """
    from edge_agent.cli.rollouts import keep_looking, look_once

    if every is None:
        look_once(repository, sources, as_json, dry_run)
    else:
        keep_looking(repository, sources, as_json, dry_run, every)


def _cell(value: Any) -> Any:
    return (
        {None: "-", True: "yes", False: "no"}.get(value, value)
        if not isinstance(value, int) or isinstance(value, bool)
        else value
    )


def _activate(text: str | None, spread: str | None) -> Activate | None:
    from edge_agent.cli.release_options import activation

    return None if text is None else activation(text, spread)
