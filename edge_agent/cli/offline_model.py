"""The model of commands that score files, without the daemon's slots and data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_agent.bundle import Calibration
    from edge_agent.config import AgentConfig
    from edge_agent.inference import Detector
    from edge_agent.pipeline.engine import PipelineOptions


@dataclass(frozen=True, slots=True)
class OfflineModel:
    """A detector, the calibration that came with it, and the edges it was trained with."""

    detector: Detector
    calibration: Calibration | None
    edges: tuple[tuple[str, str, float], ...]


def load_model(path: Path | None) -> OfflineModel:
    """The bundle at ``path``; None: the universal model. :raises BundleError: it must not be used."""
    from edge_agent.bundle import read_bundle, universal_bundle
    from edge_agent.inference import OnnxDetector

    bundle = universal_bundle() if path is None else read_bundle(path)
    edges = tuple((edge.sensor, edge.neighbour, edge.weight) for edge in bundle.manifest.edges)
    return OfflineModel(OnnxDetector(bundle), bundle.calibration, edges)


def pipeline_options(config: AgentConfig | None) -> PipelineOptions:
    """The options of the daemon's pipeline, from its configuration; without one the defaults."""
    from edge_agent.config.edges import read_edges
    from edge_agent.pipeline.engine import PipelineOptions, sensor_options_by_pattern

    if config is None:
        return PipelineOptions()
    edges: tuple[Any, ...] = config.graph.edges
    if config.graph.edges_file is not None:
        edges += read_edges(config.graph.edges_file)
    return PipelineOptions(
        tick=config.tick,
        intake=config.intake,
        graph=config.graph,
        companions=config.companions,
        decision=config.decision,
        drift=config.drift,
        sensor_options=sensor_options_by_pattern(config.sensors.items()),
        edges=edges,
    )
