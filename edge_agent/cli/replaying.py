"""A log of readings through the daemon's pipeline again, in virtual time: what took a day takes seconds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.inference import StatisticalDetector
from edge_agent.intake.intake import SourcePort
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline
from edge_agent.pipeline.ulid import UlidMaker

if TYPE_CHECKING:
    from edge_agent.cli.offline_model import OfflineModel
    from edge_agent.config import AgentConfig
    from edge_agent.pipeline.engine import PipelineOptions, TickReport
    from edge_agent.recording import ReadingLogReader
    from edge_agent.verdict import Event


_RESTART_NS = 10 * NS_PER_S  # sources overtake one another by less; further back, the gateway was started again


class Replay:
    """Ticks of one log. ``metrics`` counts what was taken in, refused and late, as in the daemon."""

    def __init__(self, model: OfflineModel, options: PipelineOptions, config: AgentConfig | None) -> None:
        self.metrics = Metrics()
        self._clock = VirtualClock()
        new_id = UlidMaker(random.Random(0))
        self._pipeline = Pipeline(options, model.detector, StatisticalDetector, self._clock, self.metrics, new_id)
        self._pipeline.graph.set_trained_edges(model.edges)
        self._pipeline.calibrate(model.calibration)
        self._sources = config.sources if config is not None else {}
        self._ports: dict[str, SourcePort] = {}
        self._lateness_ns = round(options.tick.lateness * NS_PER_S)
        self._origin_ns = 0  # arrival time in the log at which pipeline time is zero
        self._next_tick_ns = 0
        self._ended: tuple[Event, ...] = ()  # what ended with the last run, told with the next tick

    def play(self, readings: ReadingLogReader) -> Iterator[TickReport]:
        """One report a tick, until the last reading has been scored.

        Arrival times that go far back begin a new run: the gateway was started again, and its clock with it.
        """
        latest_ns: int | None = None
        for source, batch in readings:
            if latest_ns is None or batch.arrival_ns < latest_ns - _RESTART_NS:
                if latest_ns is not None:
                    yield from self._finish()
                    self._ended = self._pipeline.new_run()
                self._begin(batch.arrival_ns, batch.arrival_ns + readings.wall_offset_ns)
                latest_ns = batch.arrival_ns
            latest_ns = max(latest_ns, batch.arrival_ns)
            arrival_ns = batch.arrival_ns - self._origin_ns
            while self._next_tick_ns + self._lateness_ns < arrival_ns:
                yield self._tick()
            self._advance_to(arrival_ns)
            self._pipeline.take(self._port(source), replace(batch, arrival_ns=arrival_ns))
        if latest_ns is not None:
            yield from self._finish()

    def _begin(self, arrival_ns: int, wall_ns: int) -> None:
        """Set the clocks as they were when the first frame arrived, and the ticks as the daemon lays them."""
        timeline = self._pipeline.timeline
        self._clock.advance(self._lateness_ns + timeline.period_ns)  # past every tick of the run before
        self._clock.set_wall_ns(wall_ns)
        timeline.correct()
        self._origin_ns = arrival_ns - self._clock.monotonic_ns()
        self._next_tick_ns = timeline.tick_after_ns(self._clock.monotonic_ns() - self._lateness_ns)

    def _finish(self) -> Iterator[TickReport]:
        """The ticks that the last readings wait for."""
        yield self._tick()
        while self._pipeline.intake.pending:
            yield self._tick()

    def _tick(self) -> TickReport:
        tick_ns = self._next_tick_ns
        self._next_tick_ns += self._pipeline.timeline.period_ns
        self._advance_to(tick_ns + self._lateness_ns)
        report = self._pipeline.tick(tick_ns)
        ended, self._ended = self._ended, ()
        return replace(report, events=(*ended, *report.events)) if ended else report

    def _advance_to(self, pipeline_ns: int) -> None:
        self._clock.advance_to(max(pipeline_ns, self._clock.monotonic_ns()))

    def _port(self, source: str) -> SourcePort:
        port = self._ports.get(source)
        if port is None:
            options = self._sources.get(source) or SourceOptions(type="recording")
            port = self._ports[source] = self._pipeline.port(source, options)
        return port
