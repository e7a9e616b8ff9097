"""The publisher's ends of the uplinks in ``repo.yaml``: gateways are told of news, and their reports are read."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import yaml

from edge_agent.config.loader import parse_config
from edge_agent.contract import Fleet, Hint
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.ota.publisher.settings import SETTINGS
from edge_agent.registry import missing_library, uplink_adapter

if TYPE_CHECKING:
    from edge_agent.ota.publisher import Change, Repository

PATIENCE_S = 120.0
URGENT_S = 20.0


def nudge_gateways(repository: Repository, change: Change) -> list[str]:
    """Tell the gateways of every ring that got a new file; why some could not be told.

    What was published is published: gateways that are not told see it when they look next.
    """
    if not change.counters:
        return []
    try:
        ends = fleet_ends(repository)
    except ConfigError as error:
        return list(error.problems)
    settings = repository.settings
    urgent = change.action in ("halt", "rollback")
    within_s = min(settings.look_within, URGENT_S) if urgent else settings.look_within

    async def tell(end: Fleet) -> None:
        for ring, counter in change.counters.items():
            await end.nudge(settings.fleet, ring, Hint(counter=counter, spread_s=within_s))

    return [problem for problem in (_trouble_with(tell, end) for end in ends) if problem is not None]


def fetch_reports(repository: Repository, uplink: str | None = None) -> list[bytes]:
    """Latest reports of the gateways, from the uplink of that name, or from all.

    :raises ConfigError: there is none. :raises AdapterError: it cannot be reached.
    """
    ends = fleet_ends(repository, uplink)
    fleet = repository.settings.fleet

    async def all_of_them() -> list[bytes]:
        async with asyncio.timeout(PATIENCE_S):
            return [report for end in ends for report in await end.reports(fleet)]

    try:
        return asyncio.run(all_of_them())
    except TimeoutError as error:
        raise EdgeAgentError(f"reports: none of {len(ends)} uplinks gave them within {PATIENCE_S:g} s") from error


def fleet_ends(repository: Repository, only: str | None = None) -> list[Fleet]:
    """Publisher's ends of the uplinks that have one. :raises ConfigError: options are wrong, or there is none."""
    settings = repository.settings
    if only is not None and only not in settings.uplinks:
        known = ", ".join(settings.uplinks) or "one, but there is none"
        raise ConfigError(f"{SETTINGS}: uplinks: got {only!r}, expected {known}")
    chosen = {name: dict(options) for name, options in settings.uplinks.items() if only in (None, name)}
    # The options are those of a gateway, which has a repository besides.
    text = yaml.safe_dump({"uplinks": chosen, "ota": {"repository": "file:///", "root": "/", "gateway": "publisher"}})
    try:
        config = parse_config(text, repository.folder / SETTINGS, sources_required=False)
    except ConfigError as error:  # its lines are those of our text, not of the file
        raise ConfigError(*(re.sub(r"^(.*?):[0-9]+: ", r"\1: ", problem) for problem in error.problems)) from error
    ends = []
    for name, options in config.uplinks.items():
        found = uplink_adapter(options.type)
        if found.fleet is None:
            raise ConfigError(f"{SETTINGS}: uplinks.{name}: {options.type} has no publisher's end; take mqtt for it")
        try:
            ends.append(found.fleet(options))
        except ImportError as error:
            raise ConfigError(missing_library(f"uplinks.{name}", found.extra, error)) from error
    return ends


def _trouble_with(tell: Callable[[Fleet], Awaitable[None]], end: Fleet) -> str | None:
    async def timed() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await tell(end)

    try:
        asyncio.run(timed())
    except TimeoutError:
        return f"no answer within {PATIENCE_S:g} s"
    except EdgeAgentError as error:
        return str(error)
    return None
