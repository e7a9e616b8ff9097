"""What the commands of ``edge-agent ota repo`` share: the repository they work on, and how they say what was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.output import json_option, print_json
from edge_agent.cli.passphrase import asker

if TYPE_CHECKING:
    from edge_agent.ota.publisher import Change, Repository

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
secret_options = (
    click.option("--passphrase-file", type=FILE, help="File with the passphrase of the keys, one line."),
    click.option("--passphrase-fd", type=click.IntRange(0), help="File descriptor to read the passphrase from."),
)
dir_option = click.option(
    "-d", "--dir", "folder", type=FOLDER, default=".", show_default=True, envvar="EDGE_AGENT_OTA_REPO",
    help="The publisher's folder.",
)  # fmt: skip


def on_repository(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds what every action needs, and passes the repository as first argument."""

    @dir_option
    @click.option("--keys", type=FOLDER, multiple=True, help="Another folder with private keys. Several may be given.")
    @secret_options[0]
    @secret_options[1]
    @json_option
    @wraps(command)
    def with_repository(
        folder: Path, keys: tuple[Path, ...], passphrase_file: Path | None, passphrase_fd: int | None, **given: Any
    ) -> Any:
        from edge_agent.ota.publisher import Repository

        return command(Repository.open(folder, asker(passphrase_file, passphrase_fd), keys=keys), **given)

    return with_repository


def told(change: Change, as_json: bool, note: Mapping[str, Any] | None = None) -> None:
    """Say what was done, and which signatures are missing; ``note`` goes into the JSON as well."""
    if as_json:
        print_json(
            {
                "action": change.action,
                "published": change.published,
                "missing": dict(change.missing),
                "versions": dict(change.versions),
                **change.details,
                **(note or {}),
            }
        )
        return
    details = ", ".join(f"{key} {_text(value)}" for key, value in change.details.items() if value not in ("", [], {}))
    click.echo(f"{change.action}: {details}" if change.published else f"{change.action}: prepared, not published")
    for role, count in change.missing.items():
        click.echo(
            f"  {role}: {count} more signature{'s' * (count > 1)} needed: `edge-agent ota repo sign` by who has a key"
        )


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} ({one})" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def told_gateways(repository: Repository, change: Change, as_json: bool) -> None:
    """Tell gateways of new ring files, and say what was done."""
    told(change, as_json, {"nudge_problems": tell_gateways(repository, change)})


def tell_gateways(repository: Repository, change: Change) -> list[str]:
    """Tell gateways of new ring files; those that were not reached are a warning, which is returned as well."""
    from edge_agent.cli.fleet import nudge_gateways

    problems = nudge_gateways(repository, change) if change.published else []
    for problem in problems:
        click.secho(f"warning: gateways were not told, they will see it when they look next: {problem}", err=True)
    return problems
