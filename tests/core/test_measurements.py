"""Scores and readings as events: what they say, and how often each sink gets them."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SinkOptions, SourceOptions
from edge_agent.daemon.measurements import Measurements
from edge_agent.inference import StatisticalDetector
from edge_agent.intake.options import SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.sample import Batch
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import Event, EventKind

T0 = 1_760_000_000 * NS_PER_S


class Taker:
    """A sink that keeps what it is offered."""

    def __init__(self, **options: Any) -> None:
        self.options = SinkOptions.model_validate({"type": "taker", **options})
        self.events: list[Event] = []

    def offer(self, event: Event) -> None:
        self.events.append(event)

    def ticks(self, kind: str) -> list[int]:
        return [event.body["tick"] for event in self.events if event.kind == kind]


class Plant:
    """A pipeline at one tick a second, and sinks."""

    def __init__(self, **sinks: Taker) -> None:
        self.clock = VirtualClock(T0)
        units = {"level": "mm"}
        options = PipelineOptions(sensor_options=lambda name: SensorOptions(unit=units.get(name)))
        self.pipeline = Pipeline(
            options, StatisticalDetector(), StatisticalDetector, self.clock, Metrics(), lambda ns: f"id{ns}"
        )
        self.port = self.pipeline.port("plant", SourceOptions(type="plant"))
        self.measurements = Measurements(sinks, lambda ns: f"id{ns}")

    def run(self, ticks: int, **values: float) -> None:
        for tick in range(ticks):
            self.clock.advance(NS_PER_S)
            now_ns = self.clock.monotonic_ns()
            if values:
                given = [value + tick % 5 for value in values.values()]
                self.pipeline.take(self.port, Batch(tuple(values), given, now_ns))
            report = self.pipeline.tick(now_ns)
            for event, takers in self.measurements.events(report, self.pipeline.unit):
                for taker in takers:
                    taker.offer(event)


def test_readings_say_value_and_unit_of_what_is_usable() -> None:
    sink = Taker(events=["readings"])
    Plant(sink=sink).run(1, level=7.5, flow=float("nan"), valve=1.0)
    [event] = sink.events
    assert event.kind == "readings"
    assert event.time_ns == T0 + NS_PER_S
    assert event.body == {"tick": 0, "sensors": {"level": 7.5, "valve": 1.0}, "units": {"level": "mm"}}


def test_scores_say_what_was_decided() -> None:
    sink = Taker(events=["scores"])
    Plant(sink=sink).run(200, level=7.5)
    last = sink.events[-1].body
    assert set(last) == {"tick", "score", "p_value", "alarm", "sensors"}
    assert (last["tick"], last["alarm"], set(last["sensors"])) == (199, False, {"level"})


@pytest.mark.parametrize(("every", "expected"), [(None, list(range(12))), ("5s", [0, 4, 9]), ("1s", list(range(12)))])
def test_each_sink_gets_them_as_often_as_it_wants(every: str | None, expected: list[int]) -> None:
    sink, other = Taker(events=["readings"], every=every), Taker(events=["readings", "scores"], every="1h")
    Plant(sink=sink, other=other).run(12, level=7.5)
    assert sink.ticks("readings") == expected
    assert other.ticks("readings") == other.ticks("scores") == [0]


def test_nothing_is_made_for_nobody() -> None:
    sink = Taker()
    Plant(sink=sink).run(3, level=7.5)
    assert sink.events == []


def test_templates_are_tried_on_what_is_sent() -> None:
    taker = Taker(events=["scores", "readings"])
    Plant(all=taker).run(2)
    Plant(all=taker).run(2, level=10.0)
    for kind in (EventKind.SCORES, EventKind.READINGS):
        made = {frozenset({*event.body, "agent"}) for event in taker.events if event.kind is kind}
        assert made == {frozenset(event.body) for event in sample_events([kind])}
