"""Incidents end to end: readings in, few incidents out, whatever breaks and however much of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edge_agent.bundle import universal_bundle
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.companions import CompanionOptions
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.graph.options import GraphOptions
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.intake.options import IntakeOptions, SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import Incident, IncidentKind, IncidentState

T0 = 1_795_327_200 * NS_PER_S  # 2026-11-22 06:00 UTC, a Sunday
QUICK = {"calibration_ticks": 200, "false_alarms": "1 per week", "close_after": "10s", "detect_within": "30s"}


class Plant:
    """Sensors in pairs that follow each other, from two sources, on a clock that the test moves."""

    def __init__(
        self,
        count: int,
        decision: dict[str, Any] | None = None,
        sensors: Callable[[str], SensorOptions] = lambda _name: SensorOptions(),
        companions: bool = False,
        seed: int = 0,
        plc: int | None = None,
    ) -> None:
        self.names = tuple(f"s{i}" for i in range(count))
        self.rng = np.random.default_rng(seed)
        self.clock = VirtualClock(T0 - 900 * NS_PER_S)
        options = PipelineOptions(
            intake=IntakeOptions(stale_after="10s"),
            graph=GraphOptions(learn=False),
            companions=CompanionOptions(enabled=companions),
            decision=DecisionOptions.model_validate({**QUICK, **(decision or {})}),
            sensor_options=sensors,
            edges=tuple((f"s{i}", f"s{i + 1}") for i in range(0, count - 1, 2)),
        )
        new_id = UlidMaker(random.Random(seed))
        detector = OnnxDetector(universal_bundle())
        self.metrics = Metrics()
        self.pipeline = Pipeline(options, detector, StatisticalDetector, self.clock, self.metrics, new_id)
        first = count // 2 if plc is None else plc
        self.parts = {"plc": self.names[:first], "broker": self.names[first:]}
        self.ports = {name: self.pipeline.port(name, SourceOptions(type="test")) for name in self.parts}
        self.shared = np.zeros(count // 2)
        self.told: list[Incident] = []

    def tick(self, change: Callable[[np.ndarray], None] | None = None, silent: tuple[str, ...] = ()) -> TickReport:
        self.clock.advance(NS_PER_S)
        self.shared = 0.5 * self.shared + self.rng.normal(size=len(self.shared))
        values = 20.0 + np.repeat(self.shared, 2) + 0.3 * self.rng.normal(size=len(self.names))
        if change is not None:
            change(values)
        start = 0
        for source, names in self.parts.items():
            if source not in silent:
                batch = Batch(names, values[start : start + len(names)], self.clock.monotonic_ns())
                self.pipeline.take(self.ports[source], batch)
            start += len(names)
        report = self.pipeline.tick(self.clock.monotonic_ns())
        self.told += report.decision.changed
        return report

    def run(self, ticks: int, **given: Any) -> list[TickReport]:
        return [self.tick(**given) for _ in range(ticks)]

    def opened(self, kind: IncidentKind) -> list[Incident]:
        return [one for one in self.told if one.state is IncidentState.OPEN and one.kind is kind]

    def open_now(self) -> list[Incident]:
        return self.pipeline.lifecycle.open_incidents()


def warm(plant: Plant) -> Plant:
    plant.run(60)
    while plant.tick().decision.warming_up:
        assert plant.pipeline.ticks < 1000
    plant.run(20)
    assert plant.told == []
    return plant


def push(first: int, last: int, by: float) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[first:last] += by * np.where(np.arange(first, last) % 2, 1.0, -1.0)

    return change


# -- a thousand sensors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spread_ticks", [1, 10])
def test_a_thousand_sensors_that_go_bad_together_are_one_incident(spread_ticks: int) -> None:
    plant = warm(Plant(1000, {"calibration_ticks": 100}))
    for tick in range(30):
        plant.tick(push(0, min(1000, 1000 * (tick + 1) // spread_ticks), 12.0))
    (one,) = plant.open_now()
    assert one.kind is IncidentKind.PROCESS
    assert len(plant.pipeline.lifecycle.sensors_of(one.id) or ()) > 900
    assert len(plant.opened(IncidentKind.PROCESS)) <= 4
    assert not plant.opened(IncidentKind.DATA_QUALITY)
    plant.run(60)
    assert plant.open_now() == []


def test_a_dead_source_of_a_thousand_sensors_is_one_incident_that_names_it() -> None:
    plant = warm(Plant(1020, {"calibration_ticks": 100}, plc=1000))
    plant.run(30, silent=("plc",))
    (one,) = plant.told
    assert (one.kind, one.state) == (IncidentKind.DATA_QUALITY, IncidentState.OPEN)
    assert one.summary.startswith("all 1000 sensors of source plc: no longer sending, since ")
    assert one.severity == "high"
    plant.run(30)
    assert [incident.state for incident in plant.told] == [IncidentState.OPEN, IncidentState.CLOSED]


def test_two_dead_sources_are_two_incidents() -> None:
    plant = warm(Plant(20))
    plant.run(30, silent=("plc", "broker"))
    assert [incident.summary.split(":")[0] for incident in plant.told] == [
        "all 10 sensors of source plc",
        "all 10 sensors of source broker",
    ]


def test_further_sensors_join_and_are_told_together() -> None:
    plant = warm(Plant(400, {"calibration_ticks": 100}, sensors=lambda _name: SensorOptions(max=500.0)))
    for tick in range(100):

        def one_more(values: np.ndarray, upto: int = 2 * tick + 2) -> None:
            values[:upto] = 1000.0

        plant.tick(one_more)
    assert [incident.state for incident in plant.told] == [IncidentState.OPEN, *[IncidentState.UPDATED] * 2]
    assert plant.told[0].summary.startswith("s0 and s1 (source plc): outside the possible range")
    assert "all" not in plant.told[-1].summary[:4]
    assert "and 1" in plant.told[-1].summary


# -- bad readings are no anomalies -----------------------------------------------------------------------------

BAD: dict[str, tuple[SensorOptions, Callable[[np.ndarray], None], str]] = {
    "stuck": (
        SensorOptions.model_validate({"stuck_after": "5s"}),
        lambda values: values.__setitem__(4, 20.0),
        "stuck at one value",
    ),
    "out of range": (
        SensorOptions(max=60.0),
        lambda values: values.__setitem__(4, 5000.0),
        "outside the possible range",
    ),
    "rate": (
        SensorOptions(max_rate=15.0),
        lambda values: values.__setitem__(4, 5000.0),
        "changed faster than possible",
    ),
    "not finite": (SensorOptions(), lambda values: values.__setitem__(4, np.nan), "not a finite number"),
}


@pytest.mark.parametrize("companions", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_sensor_is_a_data_quality_finding_and_its_neighbours_are_left_alone(kind: str, companions: bool) -> None:
    options, change, words = BAD[kind]
    plant = warm(Plant(24, sensors=lambda name: options if name == "s4" else SensorOptions(), companions=companions))
    reports = plant.run(120, change=change)
    assert plant.opened(IncidentKind.PROCESS) == []
    (one,) = plant.opened(IncidentKind.DATA_QUALITY)
    assert one.summary.startswith(f"s4 (source plc): {words}")
    for report in reports[20:]:
        assert not report.snapshot.usable[4]
        assert not report.scores.valid[4]
        assert report.scores.valid[5]
        assert not report.decision.alarm
    plant.run(60)
    assert plant.opened(IncidentKind.PROCESS) == []
    assert plant.open_now() == []


# -- maintenance, clock, restart -------------------------------------------------------------------------------

SERVICE = {"name": "service", "begins": "0 6 * * SUN", "duration": "10m"}


def test_maintenance_suppresses_and_is_not_learned() -> None:
    plant = warm(Plant(24, {"maintenance": [SERVICE]}, companions=True))
    while not plant.tick().decision.maintenance:
        pass
    plant.told.clear()
    before = plant.pipeline.decider.calibration.rows()
    reports = plant.run(300, change=push(4, 5, 6.0))
    assert all(report.decision.maintenance for report in reports)
    assert {incident.suppressed for incident in plant.told} == {"maintenance service"}
    assert np.array_equal(plant.pipeline.decider.calibration.rows(), before)
    while plant.tick().decision.maintenance:
        pass
    plant.run(40)
    plant.told.clear()
    plant.run(30, change=push(4, 5, 6.0))
    assert [incident.suppressed for incident in plant.opened(IncidentKind.PROCESS)] == [None]


@pytest.mark.parametrize(
    ("concerned", "learns"),
    [
        ({"sensors": ["s4"]}, False),
        ({"areas": ["hall"]}, False),
        ({"sensors": ["elsewhere.*"]}, True),
        ({"areas": ["yard"]}, True),
    ],
)
def test_a_window_for_some_sensors_stops_learning_if_one_of_them_is_watched(
    concerned: dict[str, Any], learns: bool
) -> None:
    def sensors(name: str) -> SensorOptions:
        return SensorOptions(area="yard", monitor=False) if name == "s3" else SensorOptions(area="hall")

    plant = warm(Plant(24, {"maintenance": [{**SERVICE, **concerned}]}, sensors))
    plant.run(round((T0 - plant.clock.wall_ns()) / NS_PER_S) + 1)
    before = plant.pipeline.decider.calibration.rows()
    reports = plant.run(60)
    assert {report.decision.maintenance for report in reports} == {not learns}
    assert np.array_equal(plant.pipeline.decider.calibration.rows(), before) is not learns


def test_the_wall_clock_stepping_back_during_an_incident_changes_no_id_and_no_order() -> None:
    plant = warm(Plant(24))
    plant.run(20, change=push(4, 5, 10.0))
    plant.clock.set_wall_ns(plant.clock.wall_ns() - 86_400 * NS_PER_S)
    plant.run(60, change=push(4, 5, 10.0))
    plant.run(60)
    assert len({incident.id for incident in plant.told}) == 1
    assert [incident.state for incident in plant.told if incident.state is not IncidentState.UPDATED] == [
        IncidentState.OPEN,
        IncidentState.CLOSED,
    ]
    times = [incident.updated_ns for incident in plant.told]
    assert times == sorted(times)
    plant.run(20, change=push(10, 11, 10.0))
    assert plant.told[-1].id > plant.told[0].id


def test_a_new_run_closes_every_incident_once() -> None:
    plant = warm(Plant(24))
    plant.run(20, change=push(4, 5, 10.0))
    (one,) = plant.open_now()
    events = plant.pipeline.new_run()
    assert [(event.body["id"], event.body["state"]) for event in events] == [(one.id, "closed")]
    assert plant.pipeline.new_run() == ()
