"""Ids of incidents and orders as people type them: whole, or as much of them as is unique."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from edge_agent.errors import ControlError

if TYPE_CHECKING:
    from edge_agent.api.client import ApiClient

_WHOLE = 26
"""Characters of a ULID. Its beginning is the time: ids of one minute begin alike, and differ in their end."""
_LEAST = 6
_LOOKED_AT = 1000
_SHOWN = 5
_HINTS = {
    "/api/v1/incidents lists all": "`edge-agent incidents list` shows the latest",
    "/api/v1/orders lists all": "`edge-agent incidents orders` shows all",
}


def short_id(argument: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Of a command that talks to the daemon: its ``argument``, ``incident_id`` or ``order_id``, becomes the whole id.

    What the daemon says of an id that it does not know, is said in terms of commands.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_whole_id(client: ApiClient, **given: Any) -> Any:
            given[argument] = _whole(client, argument, given[argument])
            try:
                return command(client, **given)
            except ControlError as error:
                raise _in_commands(error) from error

        return with_whole_id

    return decorated


def match_id(given: str, known: Iterable[str]) -> list[str]:
    """Those of ``known`` that ``given`` stands for: itself, else those that begin or end with it, in any case."""
    known, wanted = list(known), given.upper()
    if given in known or len(wanted) < _LEAST:
        return [given]
    return [one for one in known if one.upper().startswith(wanted) or one.upper().endswith(wanted)]


def _whole(client: ApiClient, argument: str, given: str) -> str:
    """:raises click.UsageError: several have it."""
    if not _LEAST <= len(given) < _WHOLE:
        return given
    known = client.orders() if argument == "order_id" else client.incidents(_LOOKED_AT)
    found = match_id(given, (one["id"] for one in known))
    if len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise click.UsageError(f"{len(found)} ids begin or end with {given!r}, expected one: {shown}")
    return found[0] if found else given


def _in_commands(error: ControlError) -> ControlError:
    text = str(error)
    for path, command in _HINTS.items():
        text = text.replace(path, command)
    return ControlError(text, status=error.status)
