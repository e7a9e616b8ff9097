"""``edge-agent status``, ``reload`` and ``model``: they talk to the running daemon."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent.cli.connection import talks_to_daemon
from edge_agent.cli.output import json_option, print_json, table_lines

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient


@click.command()
@talks_to_daemon
@json_option
def status(client: ApiClient, as_json: bool) -> None:
    """Show what the running daemon is doing: sources, sensors, model, incidents, sinks.

    \b
    Exit codes: 0 it runs, 3 it does not.
    """
    _show(client.status(), as_json)


@click.command()
@talks_to_daemon
@json_option
def reload(client: ApiClient, as_json: bool) -> None:
    """Make the running daemon read its configuration again. Only what changed restarts.

    With a mistake in the file nothing changes, and the mistakes are printed. SIGHUP does the same.
    """
    _show(client.reload(), as_json)


@click.group()
def model() -> None:
    """Show, exchange or roll back the model of the running daemon."""


@model.command()
@talks_to_daemon
@json_option
def show(client: ApiClient, as_json: bool) -> None:
    """Show the model in use and the one before it."""
    _show(client.model(), as_json)


@model.command()
@click.argument("bundle", type=click.Path(exists=True, path_type=Path))
@talks_to_daemon
@json_option
def swap(client: ApiClient, bundle: Path, as_json: bool) -> None:
    """Put BUNDLE (a folder, or a tar) into use between two ticks.

    It is checked and tested on its own golden vectors first; a bundle that fails goes nowhere near the data, and the
    model in use stays. A tar is sent to the daemon; a folder has to be readable by it.
    """
    _show(client.swap_model(bundle) if bundle.is_dir() else client.upload_model(bundle), as_json)


@model.command()
@talks_to_daemon
@json_option
def rollback(client: ApiClient, as_json: bool) -> None:
    """Bring back the model that was in use before this one."""
    _show(client.rollback_model(), as_json)


def _show(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for line in _lines(found, 0):
        click.echo(line)


def _lines(found: Mapping[str, Any], level: int) -> Iterator[str]:
    """Nested values indented below their name; mappings that are alike as a table, those of a list as one line each."""
    width = max((len(str(name)) for name in found), default=0)
    for name, value in found.items():
        indent = "  " * level
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            if _are_alike(value.values()):
                yield from (f"{indent}  {line}" for line in _rows(value))
            else:
                yield from _lines(value, level + 1)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield f"{indent}{name}:"
            yield from (f"{indent}  {_one_line(item)}" for item in value)
        else:
            yield f"{indent}{f'{name}:'.ljust(width + 1)} {_text(value)}"


def _are_alike(values: Iterable[Any]) -> bool:
    keys = {tuple(value) if isinstance(value, Mapping) else () for value in values}
    return len(keys) == 1 and keys != {()}


def _rows(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    headings = next(iter(found.values()))
    rows = [(name, *map(_text, value.values())) for name, value in found.items()]
    return table_lines(("name", *headings), rows)


def _one_line(item: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in item.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ({}, []):
        return "-"
    if isinstance(value, float):
        return f"{value or 0.0:.6g}"  # never -0
    return ", ".join(_text(item) for item in value) if isinstance(value, list) else str(value)
