"""``edge-agent ota``: updates over the air, on a gateway and where they are published."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.cli.connection import talks_to_daemon
from edge_agent.cli.output import config_option, harmless, json_option, print_json, table_lines

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient

_ELSEWHERE = {
    "repo": ("edge_agent.cli.commands.ota_repo:repo", "Publish: the repository, its keys, rings and releases."),
    "serve": ("edge_agent.cli.commands.ota_serve:serve", "Serve a repository in a lab."),
}
"""Commands of whoever publishes, and their one-line help: their libraries are loaded when one runs."""


class OtaGroup(click.Group):
    """Loads the publisher's commands when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = _ELSEWHERE[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=OtaGroup)
def ota() -> None:
    """Updates over the air: what this gateway does with them, and how they are published."""


@ota.command()
@talks_to_daemon
@json_option
def status(client: ApiClient, as_json: bool) -> None:
    """Show where updates stand: what is worked on, how it compares, how the last one ended, what is refused.

    \b
    Exit codes: 0 nothing keeps updates from being installed, 1 something does (it is said what), 3 no agent runs,
    4 updates are off.
    """
    found = client.ota()
    _show(found, as_json)
    if found["problem"] or found["metadata_expired"]:
        click.get_current_context().exit(1)


@ota.command()
@talks_to_daemon
@json_option
def check(client: ApiClient, as_json: bool) -> None:
    """Look for updates now, and say where they stand then.

    Two looks are at least `ota.check_not_within` apart, so it may take that long.

    \b
    Exit codes: 0 the repository was reached and believed, 1 it was not (it is said why), 3 no agent runs, 4 refused.
    """
    found = client.ota_check()
    _show(found, as_json)
    if found["problem"] or found["metadata_expired"]:
        click.get_current_context().exit(1)


@ota.command()
@talks_to_daemon
@json_option
def activate(client: ApiClient, as_json: bool) -> None:
    """Begin to use the release that is staged, without waiting for its moment.

    \b
    Exit codes: 0 it has begun, 3 no agent runs, 4 nothing is staged, or it may not begin.
    """
    _show(client.ota_activate(), as_json)


@ota.command()
@talks_to_daemon
@json_option
def rollback(client: ApiClient, as_json: bool) -> None:
    """Take back the release on trial, or the one that was committed last. It is not tried again here.

    \b
    Exit codes: 0 what was before is in use, 3 no agent runs, 4 there is nothing to take back.
    """
    _show(client.ota_rollback(), as_json)


@ota.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@talks_to_daemon
@json_option
def sideload(client: ApiClient, folder: Path, as_json: bool) -> None:
    """Take the release of the repository in FOLDER (a stick), with the same trust and floors as over the air.

    FOLDER has `metadata/` and `targets/` in it, and must be readable by the daemon.

    \b
    Exit codes: 0 it is worked on, or in use already, 3 no agent runs, 4 it is refused (it is said why).
    """
    inside = folder / "repo" if (folder / "repo" / "metadata").is_dir() else folder
    _show(client.ota_sideload(inside), as_json)


@ota.command()
@config_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most entries to show.")
@json_option
def history(config_path: str, limit: int, as_json: bool) -> None:
    """Show what updates did on this gateway, newest last. Reads the audit log; the daemon need not run."""
    from edge_agent.ota.chain import entries

    found = list(entries(_audit_file(config_path)))[-limit:]
    if as_json:
        print_json({"entries": found})
        return
    rows = [(one.get("time", ""), one.get("action", ""), one.get("by", ""), _details(one)) for one in found]
    for line in table_lines(("time", "action", "by", "details"), rows) if rows else ("No update has done anything.",):
        click.echo(line)


@ota.command("verify-audit")
@config_option
@click.option("--head", help="Hash of the newest entry, from a status report: then a missing end is found too.")
@json_option
def verify_audit(config_path: str, head: str | None, as_json: bool) -> None:
    """Check that the audit log of updates was not tampered with. The daemon need not run.

    \b
    Exit codes: 0 it holds, 1 it does not (it is said where).
    """
    from edge_agent.ota.chain import verify

    found = verify(_audit_file(config_path), head)
    if as_json:
        where = (
            None if found is None else {"file": found.file, "line": found.line, "entry": found.seq, "why": found.why}
        )
        print_json({"holds": found is None, "break": where})
    elif found is None:
        click.echo("The audit log holds." if head else "The audit log holds, as far as can be said without --head.")
    else:
        click.echo(f"{found.file}:{found.line}: entry {found.seq}: {harmless(found.why)}", err=True)
    if found is not None:
        click.get_current_context().exit(1)


def _audit_file(config_path: str) -> Path:
    from edge_agent.config import load_config

    return load_config(Path(config_path), sources_required=False).agent.data_dir / "ota" / "audit.jsonl"


def _details(entry: dict[str, object]) -> str:
    shown = {name: value for name, value in entry.items() if name not in ("time", "action", "by", "seq", "prev")}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value is not None)


def _show(found: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    from edge_agent.cli.ota_words import sentences

    for line in sentences(found):
        click.echo(harmless(line))
