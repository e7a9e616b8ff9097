"""Everything that a configuration names and that is read from files, so that taking it into use needs no disk."""

from __future__ import annotations

from edge_agent.config.edges import read_edges
from edge_agent.config.pattern_file import load_library
from edge_agent.config.schema import AgentConfig
from edge_agent.pipeline.engine import PipelineOptions, sensor_options_by_pattern


def pipeline_options(config: AgentConfig) -> PipelineOptions:
    """The options of a pipeline; reads files.

    :raises ConfigError, DataFileError: one of them cannot be used.
    """
    edges = config.graph.edges
    if config.graph.edges_file is not None:
        edges += read_edges(config.graph.edges_file)
    return PipelineOptions(
        tick=config.tick,
        intake=config.intake,
        graph=config.graph,
        companions=config.companions,
        decision=config.decision,
        drift=config.drift,
        rules=config.rules,
        patterns=load_library(config.patterns),
        sensor_options=sensor_options_by_pattern(config.sensors.items()),
        edges=edges,
    )
