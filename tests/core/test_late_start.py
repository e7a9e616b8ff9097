"""When a plant begins to speak, and how long its readings wait for their tick, changes nothing in its scores."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.bundle import universal_bundle
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.decision.options import DecisionOptions
from edge_agent.inference import OnnxDetector, StatisticalDetector
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch

RECORDING = Path(__file__).parents[1] / "data" / "wsn_multihop.csv"
EDGES_AFTER = 120  # ticks: default of `graph.learn_after`


def rows() -> tuple[tuple[str, ...], NDArray[np.float64]]:
    with RECORDING.open(newline="") as file:
        table = list(csv.DictReader(file))
    sensors = tuple(name for name in table[0] if name not in ("timestamp", "label"))
    return sensors, np.array([[float(row[name]) for name in sensors] for row in table[:500]])


def pipeline() -> tuple[Pipeline, VirtualClock]:
    clock = VirtualClock(1_760_000_000 * NS_PER_S)
    options = PipelineOptions(
        decision=DecisionOptions.model_validate({"calibration_ticks": 100, "quality_after": "5s"})
    )
    detector = OnnxDetector(universal_bundle())
    return Pipeline(options, detector, StatisticalDetector, clock, Metrics(), UlidMaker(random.Random(0))), clock


def scored(silent_ticks: int, wait_ticks: int) -> tuple[list[TickReport], Pipeline]:
    """Reports of the recording's rows, after ``silent_ticks``; each row arrives ``wait_ticks`` before its tick."""
    sensors, values = rows()
    line, clock = pipeline()
    port = line.port("plant", SourceOptions(type="test"))
    reports = []
    for step in range(silent_ticks + wait_ticks + len(values)):
        clock.advance(NS_PER_S)
        now_ns = clock.monotonic_ns()
        if 0 <= (row := step - silent_ticks) < len(values):
            line.take(port, Batch(sensors, values[row], now_ns, clock.wall_ns()))
        report = line.tick(now_ns - wait_ticks * NS_PER_S)
        if row >= wait_ticks:
            reports.append(report)
    return reports, line


@pytest.mark.parametrize(("silent_ticks", "wait_ticks"), [(0, 40), (EDGES_AFTER + 1, 0), (1_000, 40)])
def test_scores_do_not_depend_on_when_the_plant_begins(silent_ticks: int, wait_ticks: int) -> None:
    at_once, line = scored(0, 0)
    later, line_later = scored(silent_ticks, wait_ticks)
    assert len(at_once) == len(later)
    for number, (one, other) in enumerate(zip(at_once, later, strict=True)):
        np.testing.assert_array_equal(one.scores.score, other.scores.score, f"row {number}")
        assert one.decision.p_value == other.decision.p_value
    assert at_once[-1].decision.p_value is not None
    assert line.graph.edges() == line_later.graph.edges() != []


def test_a_sensor_whose_first_reading_waits_for_its_tick_is_not_missing() -> None:
    line, clock = pipeline()
    port = line.port("plant", SourceOptions(type="test"))
    clock.advance(60 * NS_PER_S)
    line.take(port, Batch(("a", "b"), np.array([1.0, 2.0]), clock.monotonic_ns(), clock.wall_ns()))
    waiting = [line.tick(second * NS_PER_S) for second in range(30, 60)]
    assert all(len(report.snapshot) == 0 and not report.events for report in waiting)
    report = line.tick(60 * NS_PER_S)
    assert report.snapshot.sensors == ("a", "b")
    assert report.snapshot.usable.all()


def test_sensors_removed_while_others_wait_leave_each_value_in_its_place() -> None:
    line, clock = pipeline()
    port = line.port("plant", SourceOptions(type="test"))
    for name in ("a", "b"):
        line.take(port, Batch((name,), [1.0], clock.monotonic_ns()))
    line.tick(0)
    clock.advance(NS_PER_S)
    line.take(port, Batch(("c",), [3.0], clock.monotonic_ns()))
    line.intake.remove(["a"])
    line.take(port, Batch(("d", "b"), [4.0, 2.0], clock.monotonic_ns()))
    snapshot = line.tick(NS_PER_S).snapshot
    assert dict(zip(snapshot.sensors, snapshot.value.tolist(), strict=True)) == {"b": 2.0, "c": 3.0, "d": 4.0}
