"""Contradictions between sections. Those inside one section are found by its own option class."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.config.document import Path
from edge_agent.config.edges import read_edges
from edge_agent.config.pattern_file import PatternError, load_library
from edge_agent.config.routing import routing_contradictions, unknown_areas
from edge_agent.config.rule_checks import wrong_rules
from edge_agent.config.schema import AgentConfig
from edge_agent.config.update_checks import wrong_updates
from edge_agent.errors import ConfigError, DataFileError
from edge_agent.options import format_duration


def contradictions(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    """Option path and message of each contradiction."""
    yield from _shorter_than_a_tick(config)
    yield from _unusable_files(config)
    yield from wrong_rules(config)
    yield from _wrong_patterns(config)
    yield from wrong_updates(config)
    areas = {sensor.area for sensor in config.sensors.values() if sensor.area is not None}
    for path, message in routing_contradictions(config.sinks, areas):
        yield ("sinks", *path), message
    for number, window in enumerate(config.decision.maintenance):
        for path, message in unknown_areas(window.areas, areas):
            yield ("decision", "maintenance", number, *path), message


def _shorter_than_a_tick(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    durations: dict[Path, float | None] = {("decision", "detect_within"): config.decision.detect_within}
    for name, sensor in config.sensors.items():
        durations["sensors", name, "stuck_after"] = sensor.stuck_after
        durations["sensors", name, "stale_after"] = sensor.stale_after
    for path, duration in durations.items():
        if duration is not None and duration < config.tick.period:
            tick = format_duration(config.tick.period)
            yield path, f"got {format_duration(duration)}, which is shorter than tick.period ({tick})"


def _wrong_patterns(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    try:
        load_library(config.patterns)
    except PatternError as error:
        for message in error.problems:
            yield ("patterns", error.option), message


def _unusable_files(config: AgentConfig) -> Iterator[tuple[Path, str]]:
    edges = config.graph.edges_file
    if edges is None:
        return
    try:
        read_edges(edges)
    except (ConfigError, DataFileError) as error:
        yield ("graph", "edges_file"), str(error)
