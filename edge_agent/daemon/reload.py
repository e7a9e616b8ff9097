"""Applying a changed configuration to the running daemon: only what changed restarts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edge_agent.config import diff_config, load_config
from edge_agent.config.difference import NamesDifference, diff_names
from edge_agent.config.edges import read_edges
from edge_agent.config.pattern_file import load_library
from edge_agent.config.schema import AgentConfig
from edge_agent.counted import listed
from edge_agent.errors import ConfigError, DataFileError
from edge_agent.pipeline.engine import sensor_options_by_pattern, states_by_name

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger(__name__)

_LIVE = frozenset({"sensors", "graph", "rules", "patterns", "decision"})
_LIVE_PARTS = {"graph": ("edges", "edges_file"), "decision": ("maintenance",)}
"""Options that are taken into use at once, of sections of which the rest is fixed at the start."""


async def apply_config(daemon: Daemon) -> dict[str, Any]:
    """Read the file again and apply the difference; what was applied, and what needs a restart of the agent.

    What runs is compared, and the configuration in use is the new one only in the end: when it is cut short, the next
    reload does the rest.

    :raises ConfigError: the file has mistakes; nothing is changed and the old configuration stays in use.
    """
    old = daemon.config
    try:
        new = await asyncio.to_thread(load_config, old.path)
        edges = new.graph.edges
        library = await asyncio.to_thread(load_library, new.patterns)
        if new.graph.edges_file is not None:
            edges += await asyncio.to_thread(read_edges, new.graph.edges_file)
    except (ConfigError, DataFileError) as error:
        daemon.metrics.config_reloads.labels("refused").inc()
        problem = "\n".join(getattr(error, "problems", (str(error),)))
        raise ConfigError(f"reload refused, the old configuration stays in use: {problem}") from error
    sections = diff_config(old, new).sections
    in_use = {name: _in_use(old, new, name) for name in sections}
    restart = [name for name, options in in_use.items() if options != getattr(new, name)]
    # What needs a restart is not in use yet, so the configuration in use does not have it either.
    new = replace(new, **in_use)
    sources, sinks = await _exchange_runners(daemon, new)
    uplinks = await _exchange_uplinks(daemon, new)
    pipeline = daemon.pipeline
    assert pipeline is not None
    options_for = sensor_options_by_pattern(new.sensors.items())
    if "sensors" in sections:
        pipeline.intake.limits.reload(options_for, pipeline.graph.sensors)
    if {"rules", "sensors"} & set(sections):  # `sensors` has the names of values
        pipeline.rules.reload(new.rules, states_by_name(options_for))
    if library != pipeline.patterns.library:  # the file may have other content
        pipeline.patterns.reload(library)
    if "decision" in sections:
        pipeline.lifecycle.plan(new.decision.maintenance)
    if "graph" in sections or new.graph.edges_file is not None:  # the file may have other content
        pipeline.graph.declare_edges(edges)
    daemon.config = new
    daemon.metrics.config_reloads.labels("applied").inc()
    result = {
        "sources": {
            "started": [*sources.added, *sources.changed],
            "stopped": list(sources.removed),
        },
        "sinks": {
            "started": [*sinks.added, *sinks.changed],
            "stopped": list(sinks.removed),
        },
        "uplinks": {
            "started": [*uplinks.added, *uplinks.changed],
            "stopped": list(uplinks.removed),
        },
        "applied": [name for name in sections if getattr(old, name) != getattr(new, name)],
        "restart_required": restart,
    }
    _log.info("configuration reloaded: %s", _in_words(result))
    return result


def _in_words(result: dict[str, Any]) -> str:
    words = {
        f"{part} {what}": names for part in ("sources", "sinks", "uplinks") for what, names in result[part].items()
    }
    words |= {"taken into use:": result["applied"], "not before a restart:": result["restart_required"]}
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
    if section not in _LIVE:
        return getattr(old, section)
    if section not in _LIVE_PARTS:
        return getattr(new, section)
    parts = {name: getattr(getattr(new, section), name) for name in _LIVE_PARTS[section]}
    return getattr(old, section).model_copy(update=parts)
