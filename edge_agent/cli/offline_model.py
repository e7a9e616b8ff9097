"""The model of commands that score files, without the daemon's slots and data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.bundle import Calibration
    from edge_agent.config import AgentConfig
    from edge_agent.inference import Detector
    from edge_agent.pipeline.engine import PipelineOptions


@dataclass(frozen=True, slots=True)
class OfflineModel:
    """A detector, the calibration that came with it, and the edges and sensors it was trained with (none: any)."""

    detector: Detector
    calibration: Calibration | None
    edges: tuple[tuple[str, str, float], ...]
    sensors: tuple[str, ...]

    def strangers(self, sensors: tuple[str, ...]) -> str | None:
        """What is to be said when the model and a recording with ``sensors`` do not know each other."""
        unknown = [name for name in sensors if self.sensors and name not in self.sensors]
        absent = [name for name in self.sensors if name not in sensors]
        if not self.sensors or not (unknown or absent):
            return None
        name = self.detector.name
        if len(unknown) == len(sensors):
            return f"the model {name!r} knows none of these sensors; only companions judge them, expected its own plant"
        parts = [
            f"{len(names)} {what} ({', '.join(names[:5])}{' …' if len(names) > 5 else ''})"
            for names, what in ((unknown, "it does not know"), (absent, "of its own are missing"))
            if names
        ]
        return f"the model {name!r} was trained on other sensors: {' and '.join(parts)}; expect false incidents"


def load_model(path: Path | None) -> OfflineModel:
    """The bundle at ``path``; None: the universal model. :raises BundleError: it must not be used."""
    from edge_agent.bundle import read_bundle, universal_bundle
    from edge_agent.inference import OnnxDetector

    bundle = universal_bundle() if path is None else read_bundle(path)
    edges = tuple((edge.sensor, edge.neighbour, edge.weight) for edge in bundle.manifest.edges)
    sensors = tuple(sensor.name for sensor in bundle.manifest.sensors)
    return OfflineModel(OnnxDetector(bundle), bundle.calibration, edges, sensors)


def pipeline_options(config: AgentConfig | None) -> PipelineOptions:
    """The options of the daemon's pipeline, from its configuration; without one the defaults."""
    from edge_agent.config.prepared import pipeline_options as of_config
    from edge_agent.pipeline.engine import PipelineOptions

    return PipelineOptions() if config is None else of_config(config)
