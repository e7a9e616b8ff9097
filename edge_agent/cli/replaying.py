"""A log of readings through the daemon's pipeline again, in virtual time: what took a day takes seconds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.inference import StatisticalDetector
from edge_agent.intake.intake import SourcePort
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch

if TYPE_CHECKING:
    from edge_agent.cli.offline_model import OfflineModel
    from edge_agent.config import AgentConfig
    from edge_agent.pipeline.engine import PipelineOptions, TickReport


class Replay:
    """Ticks of one log. ``metrics`` counts what was taken in, refused and late, as in the daemon."""

    def __init__(
        self, model: OfflineModel, options: PipelineOptions, config: AgentConfig | None, start_ns: int
    ) -> None:
        self.metrics = Metrics()
        self._clock = VirtualClock(start_ns)
        new_id = UlidMaker(random.Random(0))
        self._pipeline = Pipeline(options, model.detector, StatisticalDetector, self._clock, self.metrics, new_id)
        self._pipeline.graph.set_trained_edges(model.edges)
        self._pipeline.calibrate(model.calibration)
        self._sources = config.sources if config is not None else {}
        self._ports: dict[str, SourcePort] = {}
        self._lateness_ns = round(options.tick.lateness * NS_PER_S)

    def play(self, readings: Iterable[tuple[str, Batch]]) -> Iterator[TickReport]:
        """One report a tick, until the last reading has been scored. Arrival times that go back begin a new run."""
        origin_ns: int | None = None
        last_ns = 0
        next_tick_ns = self._pipeline.timeline.tick_after_ns(-self._lateness_ns)
        for source, batch in readings:
            if origin_ns is None or batch.arrival_ns < last_ns:
                if origin_ns is not None:
                    self._pipeline.new_run()
                origin_ns = batch.arrival_ns - self._clock.monotonic_ns()
            last_ns = batch.arrival_ns
            arrival_ns = batch.arrival_ns - origin_ns
            while next_tick_ns + self._lateness_ns <= arrival_ns:
                yield self._tick(next_tick_ns)
                next_tick_ns += self._pipeline.timeline.period_ns
            self._clock.advance_to(max(arrival_ns, self._clock.monotonic_ns()))
            self._pipeline.take(self._port(source), replace(batch, arrival_ns=arrival_ns))
        if origin_ns is not None:
            yield self._tick(next_tick_ns)

    def _tick(self, tick_ns: int) -> TickReport:
        self._clock.advance_to(max(tick_ns + self._lateness_ns, self._clock.monotonic_ns()))
        return self._pipeline.tick(tick_ns)

    def _port(self, source: str) -> SourcePort:
        port = self._ports.get(source)
        if port is None:
            options = self._sources.get(source) or SourceOptions(type="recording")
            port = self._ports[source] = self._pipeline.port(source, options)
        return port
