"""Applying a changed configuration to the running daemon: only what changed restarts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_agent.config import diff_config, load_config, load_in_use
from edge_agent.config.difference import NamesDifference, diff_names
from edge_agent.config.overlay import overruled_options
from edge_agent.config.prepared import pipeline_options
from edge_agent.config.schema import AgentConfig
from edge_agent.counted import listed
from edge_agent.errors import ConfigError, DataFileError
from edge_agent.pipeline.engine import PipelineOptions
from edge_agent.pipeline.reconfigure import reconfigure

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

LIVE = ("sensors", "graph", "rules", "patterns", "decision", "drift", "companions")
"""Sections that are taken into use at once, but for:"""
FIXED = {
    "graph": ("learn", "learn_after", "relearn_every", "window"),
    "decision": ("detect_within", "calibration_ticks"),
    "companions": ("enabled", "max_sensors"),
}
"""What was learned, or how much memory there is, depends on these."""


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration that can be taken into use at once, with all that it needs of the disk.

    ``changed``: see :func:`~edge_agent.pipeline.reconfigure.reconfigure`. ``restart``: sections of which something is
    left as it was, because it needs a restart.
    """

    config: AgentConfig
    pipeline: PipelineOptions
    changed: frozenset[str]
    sections: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


def prepare(daemon: Daemon, new: AgentConfig) -> Change:
    """How to get from what runs to ``new``. Changes nothing; reads files, so call it in a thread.

    :raises ConfigError, DataFileError: a file that it names cannot be used.
    """
    old = daemon.config
    pipeline = daemon.pipeline
    assert pipeline is not None
    sections = diff_config(old, new).sections
    in_use = {name: _in_use(old, new, name) for name in sections}
    restart = tuple(name for name, options in in_use.items() if options != getattr(new, name))
    # What needs a restart is not in use yet, so the configuration in use does not have it either.
    new = replace(new, **in_use)
    applied = tuple(name for name in sections if getattr(old, name) != getattr(new, name))
    options = pipeline_options(new)
    changed = set(applied)
    if options.patterns != pipeline.patterns.library:  # the file may have other content
        changed.add("patterns")
    if options.edges != pipeline.options.edges:
        changed.add("edges")
    return Change(new, options, frozenset(changed), applied, restart)


async def take_into_use(daemon: Daemon, change: Change) -> dict[str, Any]:
    """Change over; which sources, sinks and uplinks were started and stopped.

    What runs is compared, and the configuration in use is the new one only in the end: when it is cut short, doing it
    again does the rest.
    """
    assert daemon.pipeline is not None
    sources, sinks = await _exchange_runners(daemon, change.config)
    uplinks = await _exchange_uplinks(daemon, change.config)
    reconfigure(daemon.pipeline, change.pipeline, change.changed)
    daemon.config = change.config
    return {
        name: {"started": [*difference.added, *difference.changed], "stopped": list(difference.removed)}
        for name, difference in (("sources", sources), ("sinks", sinks), ("uplinks", uplinks))
    } | {"applied": list(change.sections)}


async def apply_config(daemon: Daemon) -> dict[str, Any]:
    """Read the file again and apply the difference; what was applied, and what needs a restart of the agent.

    A configuration that came over the air stays over it. ``overruled``: options of the file that have no effect
    because of that.

    :raises ConfigError: the file has mistakes, or what came over the air does not fit it any more; nothing is changed
        and the old configuration stays in use.
    """
    try:
        new = await asyncio.to_thread(_read_again, daemon.config)
        change = await asyncio.to_thread(prepare, daemon, new)
        overruled = await asyncio.to_thread(overruled_options, new.layers)
    except (ConfigError, DataFileError) as error:
        daemon.metrics.config_reloads.labels("refused").inc()
        problem = "\n".join(getattr(error, "problems", (str(error),)))
        raise ConfigError(f"reload refused, the old configuration stays in use: {problem}") from error
    done = await take_into_use(daemon, change)
    daemon.metrics.config_reloads.labels("applied").inc()
    result = {**done, "restart_required": list(change.restart)}
    if new.layers.overlay is not None:
        result["overruled"] = overruled
    if new.layers.left_out is not None:
        result["left_out"] = new.layers.left_out
    _log.info("configuration reloaded: %s", _in_words(result))
    return result


def _read_again(old: AgentConfig) -> AgentConfig:
    if old.layers.overlay is None:  # perhaps it was left out at the start, and now it fits
        return load_in_use(old.path)
    return load_config(old.path, overlay=old.layers.overlay)


def _in_words(result: dict[str, Any]) -> str:
    words = {
        f"{part} {what}": names for part in ("sources", "sinks", "uplinks") for what, names in result[part].items()
    }
    words |= {
        "taken into use:": result["applied"],
        "not before a restart:": result["restart_required"],
        "overruled by what came over the air:": result.get("overruled", []),
        "left out:": [result["left_out"]] if "left_out" in result else [],
    }
    return listed(words) or "nothing has changed"


async def _exchange_runners(daemon: Daemon, new: AgentConfig) -> tuple[NamesDifference, NamesDifference]:
    """Have the sources and sinks of ``new`` run instead of those that do; how they differed."""
    runners = daemon.runners
    sources = diff_names({name: runner.options for name, runner in runners.sources.items()}, new.sources)
    sinks = diff_names({name: runner.options for name, runner in runners.sinks.items()}, new.sinks)
    for name in (*sources.removed, *sources.changed):
        await daemon.stop_source(name)
    for name in sinks.removed:
        await runners.stop_sink(name)
    for name in sinks.changed:
        await daemon.replace_sink(name, new.sinks[name])
    for name in sinks.added:
        daemon.start_sink(name, new.sinks[name])
    daemon.telling.configure(new.sinks)
    for name in (*sources.changed, *sources.added):
        daemon.start_source(name, new.sources[name])
    return sources, sinks


async def _exchange_uplinks(daemon: Daemon, new: AgentConfig) -> NamesDifference:
    """Have the uplinks of ``new`` run instead of those that do; how they differed. They need `ota` in use."""
    runners = daemon.runners
    if runners.switchboard is None:
        return NamesDifference()
    uplinks = diff_names({name: runner.options for name, runner in runners.uplinks.items()}, new.uplinks)
    for name in (*uplinks.removed, *uplinks.changed):
        await runners.stop_uplink(name)
    for name in (*uplinks.changed, *uplinks.added):
        runners.start_uplink(name, new.uplinks[name])
    return uplinks


def _in_use(old: AgentConfig, new: AgentConfig, section: str) -> Any:
    """The options of a section after the reload: the new ones, as far as they can be taken into use at once."""
    if section not in LIVE:
        return getattr(old, section)
    fixed = {name: getattr(getattr(old, section), name) for name in FIXED.get(section, ())}
    return getattr(new, section).model_copy(update=fixed) if fixed else getattr(new, section)
