"""``edge-agent adapters``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.output import json_option, print_json, print_table
from edge_agent.errors import ConfigError
from edge_agent.nearest import nearest

if TYPE_CHECKING:
    from edge_agent.contract import Adapter


@click.group()
def adapters() -> None:
    """Installed adapters and their options."""


@adapters.command("list")
@json_option
def list_adapters(as_json: bool) -> None:
    """List the adapters that are installed, and what is missing to use them."""
    from edge_agent import registry

    rows = []
    for group in registry.ADAPTER_GROUPS:
        good, broken = registry.adapters(group)
        rows += [_row(group.noun, adapter) for adapter in good]
        rows += [{"kind": group.noun, "name": item.name, "state": "broken", "summary": item.problem} for item in broken]
    if as_json:
        print_json(rows)
        return
    headings = ("kind", "name", "state", "summary")
    print_table([heading.upper() for heading in headings], [[row[heading] for heading in headings] for row in rows])


@adapters.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show every option of the adapter NAME, in every part that it can play (source, sink, uplink)."""
    from edge_agent import registry
    from edge_agent.config.options_text import options_text

    known = sorted({known for group in registry.ADAPTER_GROUPS for known in registry.names(group)})
    if name not in known:
        raise ConfigError(f"got {name!r}, {_expected(known)}{nearest(name, known)}")
    groups = [group for group in registry.ADAPTER_GROUPS if name in registry.names(group)]
    found = [(group.noun, registry.adapter(group, name)) for group in groups]
    if as_json:
        print_json(
            [_row(kind, a) | {"options": [_option(text) for text in options_text(a.options)]} for kind, a in found]
        )
        return
    for kind, adapter in found:
        click.secho(f"{name} {kind}: {adapter.summary}", bold=True)
        for text in options_text(adapter.options):
            default = "required" if text.default is None else f"default {text.default}" if text.default else "optional"
            click.echo(f"\n  {click.style(text.name, bold=True)}: {text.takes} ({default})")
            click.echo(click.wrap_text(text.description, 100, "      ", "      "))
        click.echo()


def _row(kind: str, adapter: Adapter) -> dict[str, Any]:
    from edge_agent.registry import DISTRIBUTION, missing_packages

    missing = missing_packages(adapter.extra) if adapter.extra else ()
    state = f"needs pip install '{DISTRIBUTION}[{adapter.extra}]'" if missing else "ready"
    return {"kind": kind, "name": adapter.name, "state": state, "summary": adapter.summary}


def _option(text: Any) -> dict[str, Any]:
    return {"name": text.name, "takes": text.takes, "default": text.default, "description": text.description}


def _expected(known: list[str]) -> str:
    return f"expected one of the adapters {', '.join(known)}" if known else "but no adapter is installed"
