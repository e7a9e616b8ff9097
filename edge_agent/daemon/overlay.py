"""Putting a configuration that came over the air in force: all of it at once, or none of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.config import AgentConfig, Overlay, parse_config, read_overlay
from edge_agent.config.layers import OVER_THE_AIR
from edge_agent.config.overlay import overruled_options
from edge_agent.config.watchfulness import less_watchful
from edge_agent.counted import listed
from edge_agent.daemon.reload import FIXED, Change, prepare, take_into_use
from edge_agent.errors import ConfigError, DataFileError, EdgeAgentError, OtaError
from edge_agent.ota.effects import write_overlay

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_MOST_TOLD = 10


async def put_overlay_in_force(
    daemon: Daemon, overlay: Path | Overlay | None, label: str = OVER_THE_AIR
) -> dict[str, Any]:
    """Have the running daemon work with ``overlay`` (or that in this file; None: with none), and the next start too.

    The overlay is laid over the gateway's own file as it was read last: what is in that file by now, finished or not,
    is left for its owner to take into use. ``label`` says in messages whose it is: ``config of release X``. Call it
    where changes do not overlap. Putting in force what already is changes nothing. What needs a restart and is only
    taken back (it is in the gateway's own file otherwise by now) waits for one: going back is never refused for that.

    Returns what :func:`~edge_agent.daemon.reload.take_into_use` does; ``config``: sha256 of the overlay; ``overruled``:
    options of the gateway's own file that have no effect now; ``less_watchful``: what would not be found any more.

    :raises ConfigError: it has mistakes, or does not fit the gateway's own file.
    :raises OtaError: reason ``restart_required``: not all of it can be taken into use while the agent runs.
    :raises StoreError: the disk does not take it.
        Each time what was in force is in force, and at the next start too.
    """
    old = daemon.config
    label = overlay.label if isinstance(overlay, Overlay) else label
    try:
        wanted = await asyncio.to_thread(read_overlay, overlay, label) if isinstance(overlay, Path) else overlay
        forwards, back = await asyncio.to_thread(_both_ways, daemon, wanted)
        overruled = await asyncio.to_thread(overruled_options, forwards.config.layers)
    except (ConfigError, DataFileError, OtaError) as error:
        daemon.metrics.config_reloads.labels("refused").inc()
        told = error if isinstance(error, OtaError) else _in_short(error, label)
        _log.warning("%s", told)
        raise told from error
    before = daemon.config_health.footing()
    done = await _change_over(daemon, forwards, back)
    if forwards.config.layers.overlay != old.layers.overlay:
        daemon.config_health.changed(before)
    daemon.metrics.config_reloads.labels("applied").inc()
    lost = less_watchful(old, forwards.config)
    result = {
        **done,
        "config": None if wanted is None else wanted.sha256,
        "overruled": overruled,
        "less_watchful": lost,
    }
    _tell(daemon, label if wanted is not None else f"no {OVER_THE_AIR}", result)
    return result


def _in_short(error: ConfigError | DataFileError, label: str) -> ConfigError:
    """What goes into logs and reports; a file of a megabyte has room for many mistakes."""
    if not isinstance(error, ConfigError):
        return ConfigError(f"{label}: {error}")
    more = len(error.problems) - _MOST_TOLD
    return ConfigError(*error.problems[:_MOST_TOLD], *([f"{label}: {more} more mistakes"] if more > 0 else []))


def _both_ways(daemon: Daemon, wanted: Overlay | None) -> tuple[Change, Change]:
    """How to get to ``wanted``, and back to what runs: whatever happens in between, no file is needed any more."""
    old = daemon.config
    text, required = old.layers.text, bool(old.sources)
    new = parse_config(text, old.path, sources_required=required, overlay=wanted)
    base = parse_config(text, old.path, sources_required=required)
    fixed = list(_fixed_options(old, base, new))
    if fixed:
        label = OVER_THE_AIR if wanted is None else wanted.label
        raise OtaError(
            "restart_required",
            f"{label}: {', '.join(fixed)} cannot change while the agent runs, so nothing of it is taken into use; "
            "set it in the gateway's own file and restart",
        )
    forwards, back = prepare(daemon, new), prepare(daemon, old)
    # What does not change needs nothing done on the way back either, but all that does.
    return forwards, replace(back, changed=forwards.changed)


def _fixed_options(old: AgentConfig, base: AgentConfig, new: AgentConfig) -> Iterator[str]:
    """Options that cannot change now, which the overlay wants other than they are (``old``) and than ``base`` has them.

    Sections that are not taken into use at once are in no overlay.
    """
    for section, options in FIXED.items():
        for option in options:
            now, own, wanted = (getattr(getattr(config, section), option) for config in (old, base, new))
            if wanted not in (now, own):
                yield f"{section}.{option}"


async def _change_over(daemon: Daemon, forwards: Change, back: Change) -> dict[str, Any]:
    data_dir, layers = daemon.config.agent.data_dir, daemon.config.layers
    await asyncio.to_thread(_keep, data_dir, forwards.config.layers.overlay)
    try:
        return await take_into_use(daemon, forwards)
    except BaseException as error:
        # Whatever it was, also being cancelled: half a configuration is none.
        _log.error("the new configuration could not be taken into use, going back to the old one: %r", error)
        await asyncio.to_thread(_keep, data_dir, layers.overlay)  # first: then at least the next start is right
        await take_into_use(daemon, back)
        if isinstance(error, EdgeAgentError) or not isinstance(error, Exception):
            raise
        raise ConfigError(f"the new configuration could not be taken into use: {error!r}") from error


def _keep(data_dir: Path, overlay: Overlay | None) -> None:
    write_overlay(data_dir, None if overlay is None else overlay.content)


def _tell(daemon: Daemon, what: str, result: dict[str, Any]) -> None:
    assert daemon.pipeline is not None
    words = {f"{part} {done}": names for part in ("sources", "sinks") for done, names in result[part].items()}
    words |= {
        "taken into use:": result["applied"],
        "overruled in the gateway's own file:": result["overruled"],
        "less watchful:": result["less_watchful"],
    }
    message = f"{what} is in force: {listed(words) or 'nothing has changed'}"
    _log.info("%s", message)
    if any(words.values()):
        daemon.pipeline.notice("config", message)
