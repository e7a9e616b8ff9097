"""``edge-agent ota``: updates over the air, on a gateway and where they are published."""

from __future__ import annotations

from importlib import import_module

import click

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
