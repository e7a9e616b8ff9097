"""Ticks chosen to be traced, and one reading of each on its way."""

from __future__ import annotations

from edge_agent.export.otlp import OtlpExporter
from edge_agent.export.trace import ReadingTrace, Stage, TickTrace
from edge_agent.intake.intake import SourcePort
from edge_agent.pipeline.engine import STAGES, Pipeline, TickReport
from edge_agent.sample import Batch


class Tracer:
    """Follows the first reading that arrives for a tick that will be traced, and hands both to the exporter."""

    def __init__(self, exporter: OtlpExporter) -> None:
        self._exporter = exporter
        self._follow = False
        self._followed: ReadingTrace | None = None

    def taken(self, pipeline: Pipeline, port: SourcePort, batch: Batch) -> None:
        """``batch`` was taken in. Costs one comparison while nothing is followed."""
        if not self._follow or not len(batch):
            return
        self._follow = False
        timeline = pipeline.timeline
        arrival_ns, taken_ns = timeline.to_wall_ns(batch.arrival_ns), timeline.to_wall_ns(timeline.now_ns())
        self._followed = ReadingTrace(batch.sensors[0], port.name, arrival_ns, taken_ns)

    def ticked(self, report: TickReport) -> None:
        """A tick is over; choose whether the next one is followed."""
        if self._exporter.samples(report.tick):
            self._exporter.trace(_trace(report, self._followed))
        self._followed, self._follow = None, self._exporter.samples(report.tick + 1)


def _trace(report: TickReport, reading: ReadingTrace | None) -> TickTrace:
    stages, start_ns = [], report.time_ns
    for name, spent_ns in zip(STAGES, report.stages_ns, strict=True):
        stages.append(Stage(name, start_ns, spent_ns))
        start_ns += spent_ns
    decision = report.decision
    return TickTrace(
        tick=report.tick,
        start_ns=report.time_ns,
        stages=tuple(stages),
        sensors=len(report.snapshot),
        score=decision.plant_score or 0.0,
        p_value=decision.p_value,
        reading=reading,
        incidents=tuple(incident.id for incident in decision.changed),
    )
