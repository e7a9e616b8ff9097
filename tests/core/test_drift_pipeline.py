"""Drift in the pipeline and the daemon: told as status events, counted, shown, judged, and kept over restarts."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import probe_adapters as probe
import pytest
from test_daemon import Bench, bench, probes, running  # noqa: F401  # fixtures

from edge_agent.bundle import write_npz
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.daemon.learned import export_learned, import_learned
from edge_agent.drift import DriftOptions
from edge_agent.drift.findings import DriftKind
from edge_agent.errors import ControlError
from edge_agent.history.export import read_readings
from edge_agent.inference import StatisticalDetector
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import Event, Feedback, Incident, IncidentKind, IncidentState, Severity

NAMES = tuple(f"s{i}" for i in range(6))
OPTIONS = PipelineOptions(drift=DriftOptions.model_validate({"block": "20s", "reference_blocks": 24}))


class Plant:
    """Six noisy sensors, watched by the detector that needs no model; no incident is ever opened."""

    def __init__(self, options: PipelineOptions = OPTIONS) -> None:
        self.clock = VirtualClock(1_760_000_000 * NS_PER_S)
        self.metrics, self.rng = Metrics(), np.random.default_rng(0)
        new_id = UlidMaker(random.Random(0))
        self.pipeline = Pipeline(options, StatisticalDetector(), StatisticalDetector, self.clock, self.metrics, new_id)
        self.port = self.pipeline.port("press", SourceOptions(type="test"))
        self.level = np.zeros(len(NAMES))

    def blocks(self, count: int) -> list[Event]:
        found: list[Event] = []
        for _ in range(20 * count):
            self.clock.advance(NS_PER_S)
            values = self.level + self.rng.normal(size=len(NAMES))
            self.pipeline.take(self.port, Batch(NAMES, values, self.clock.monotonic_ns()))
            events = self.pipeline.tick(self.clock.monotonic_ns()).events
            found += [event for event in events if event.body.get("what") not in (None, "calibrated")]
        return found


def test_a_change_is_a_status_event_with_sensors_and_sizes_and_counted() -> None:
    plant = Plant()
    assert plant.blocks(45) == []
    plant.level[:2] += 1.5  # below what the detector calls an incident
    events = plant.blocks(20)
    (event,) = [event for event in events if event.body.get("what") == DriftKind.PLANT_CHANGED]
    assert event.body["what"] == "plant_changed"
    assert event.body["count"] == 2
    assert {shift["sensor"] for shift in event.body["sensors"]} == {"s0", "s1"}
    assert event.body["sensors"][0]["now"] - event.body["sensors"][0]["before"] == pytest.approx(1.5, abs=0.5)
    assert plant.metrics.drift_signals.labels("plant_changed").value == 1
    assert plant.metrics.drift_sensors.labels("level").value == 0  # the new level is the reference


def test_switched_off_nothing_is_watched() -> None:
    plant = Plant(replace(OPTIONS, drift=DriftOptions(enabled=False)))
    assert plant.pipeline.drift is None
    plant.blocks(1)
    plant.pipeline.new_run()
    plant.pipeline.replace_detector(StatisticalDetector(), None)
    assert import_learned(plant.pipeline, write_npz(export_learned(plant.pipeline)))


def test_the_reference_is_part_of_what_was_learned() -> None:
    plant, other = Plant(), Plant()
    plant.blocks(30)
    assert plant.pipeline.drift is not None
    assert other.pipeline.drift is not None
    assert import_learned(other.pipeline, write_npz(export_learned(plant.pipeline)))
    assert other.pipeline.drift.ready


def test_a_damaged_reference_costs_only_the_reference(caplog: pytest.LogCaptureFixture) -> None:
    plant, other = Plant(), Plant()
    plant.blocks(30)
    arrays = export_learned(plant.pipeline)
    arrays["drift.mean"] = arrays["drift.mean"][:1]
    assert import_learned(other.pipeline, write_npz(arrays))
    assert other.pipeline.drift is not None
    assert not other.pipeline.drift.ready
    assert "learned drift reference not used" in caplog.text


# -- the daemon ----------------------------------------------------------------------------------------------------


def with_history(text: str) -> str:
    readings = "{enabled: true, readings: {every: 1s}}"
    return text.replace("history: {enabled: false}", f"history: {readings}")


def incident(name: str) -> Incident:
    now = 1_800_000_000 * NS_PER_S
    return Incident(
        name, IncidentKind.PROCESS, IncidentState.CLOSED, Severity.LOW, now, now, now, 0, 1, 0.1, 1.0, "", ()
    )


async def test_feedback_is_kept_told_and_frees_what_was_suspected(bench: Bench) -> None:  # noqa: F811
    async with running(bench.make(with_history)) as daemon:
        assert daemon.history is not None
        assert daemon.pipeline is not None
        assert daemon.pipeline.drift is not None
        await daemon.history.record(incident("I1"))
        said = await daemon.control.judge_incident("I1", Feedback.FALSE_ALARM, "pump test", "me")
        assert said is not None
        assert said["verdict"] == "false_alarm"
        assert await daemon.control.judge_incident("I2", Feedback.FALSE_ALARM, "", "me") is None
        await bench.tick(daemon)
        assert daemon.control.status()["drift"]["verdict"] == "none"
    probe.log.clear()
    async with running(bench.make(with_history)) as daemon:
        assert daemon.history is not None
        assert (await daemon.history.incident("I1") or {})["feedback"]["note"] == "pump test"
        (event,) = [event for event in await daemon.history.events() if event.get("what") == "feedback"]
        assert (event["incident"], event["verdict"], event["by"]) == ("I1", "false_alarm", "me")


async def test_without_a_history_feedback_is_refused(bench: Bench) -> None:  # noqa: F811
    async with running(bench.make()) as daemon:
        with pytest.raises(ControlError, match=r"history\.enabled is false"):
            await daemon.control.judge_incident("I1", Feedback.TRUE_ALARM, "", "me")


async def test_readings_are_kept_when_asked_for(bench: Bench, tmp_path: Path) -> None:  # noqa: F811
    async with running(bench.make(with_history)) as daemon:
        assert daemon.pipeline is not None
        port = daemon.pipeline.port("press", SourceOptions(type="test"))
        daemon.pipeline.take(port, Batch(NAMES, np.ones(len(NAMES)), bench.clock.monotonic_ns()))
        await bench.tick(daemon, 3)
        data_dir = daemon.config.agent.data_dir
    assert read_readings(data_dir).sensors == NAMES
