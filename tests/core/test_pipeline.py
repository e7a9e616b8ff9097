"""The pipeline as a whole, in virtual time: readings in, decisions out, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from bundle_factory import bundle_with, make_files, nan_when_value_is_below_minus_1000, rewire

from edge_agent.bundle import Bundle, Calibration, universal_bundle, verify_bundle, write_npz
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.companions import CompanionOptions
from edge_agent.contract import SourceOptions
from edge_agent.daemon.learned import export_learned, import_learned
from edge_agent.decision.options import DecisionOptions
from edge_agent.graph.options import GraphOptions
from edge_agent.inference import Detector, OnnxDetector, StatisticalDetector
from edge_agent.intake.options import IntakeOptions
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions, TickReport
from edge_agent.pipeline.rewarm import rewarming
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import Incident, IncidentState

T0 = 1_760_000_000 * NS_PER_S
YEAR = 365 * 86400
NAMES = tuple(f"s{i}" for i in range(6))
OPTIONS = PipelineOptions(
    intake=IntakeOptions(max_sensors=20_000),
    graph=GraphOptions(learn_after=64, window=128),
    decision=DecisionOptions.model_validate(
        {"calibration_ticks": 100, "false_alarms": "1 per day", "close_after": "10s", "detect_within": "10s"}
    ),
)


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    return verify_bundle(make_files())


class Plant:
    """A pipeline on a clock that the test moves, fed with readings that depend on nothing but the tick."""

    def __init__(self, detector: Detector, options: PipelineOptions = OPTIONS) -> None:
        self.clock = VirtualClock(T0)
        self.metrics = Metrics()
        self.pipeline = Pipeline(
            options, detector, StatisticalDetector, self.clock, self.metrics, UlidMaker(random.Random(0))
        )
        self.port = self.pipeline.port("press", SourceOptions(type="test"))
        self.told: list[str] = []
        self.incidents: list[Incident] = []

    def give(self, values: dict[str, float], source_ns: int | None = None) -> None:
        batch = Batch(tuple(values), list(values.values()), self.clock.monotonic_ns(), source_time_ns=source_ns)
        self.pipeline.take(self.port, batch)

    def tick(self, values: dict[str, float] | None = None, tick_ns: int | None = None) -> TickReport:
        self.clock.advance(NS_PER_S)
        if values:
            self.give(values, self.clock.wall_ns())
        report = self.pipeline.tick(self.clock.monotonic_ns() if tick_ns is None else tick_ns)
        self.told += [event.body["what"] for event in report.events if "what" in event.body]
        self.incidents += report.decision.changed
        return report

    def run(self, ticks: int, names: tuple[str, ...] = NAMES) -> list[TickReport]:
        return [self.tick(values_at(self.pipeline.ticks, names)) for _ in range(ticks)]


def values_at(tick: int, names: tuple[str, ...] = NAMES) -> dict[str, float]:
    """Noise around a level that the first half of the sensors share."""
    noise = np.random.default_rng(tick).normal(size=len(NAMES) + 1)
    shared = {name: 5.0 * noise[-1] if i < len(NAMES) // 2 else 0.0 for i, name in enumerate(NAMES)}
    return {name: 20.0 + shared[name] + float(noise[NAMES.index(name)]) for name in names}


def score_of(report: TickReport, name: str) -> float | None:
    i = report.snapshot.sensors.index(name)
    return float(report.scores.score[i]) if report.scores.valid[i] else None


# -- detectors that fail and detectors that change -------------------------------------------------------------


def test_after_three_failures_the_fallback_takes_over_and_says_so() -> None:
    plant = Plant(OnnxDetector(bundle_with(rewire("score", nan_when_value_is_below_minus_1000))))
    plant.run(30)
    reports = [plant.tick({**values_at(0), "s0": -2000.0}) for _ in range(3)]
    assert [report.degraded for report in reports] == [False, False, True]
    assert not any(report.scores.valid.any() for report in reports)
    assert plant.told == ["degraded"]
    assert plant.metrics.detector_failures.labels().value == 3
    assert plant.metrics.degraded.labels().value == 1
    last = plant.run(70)[-1]
    assert last.tick == 102
    assert last.scores.valid.all()
    assert last.degraded


def test_two_failures_are_got_over() -> None:
    plant = Plant(OnnxDetector(bundle_with(rewire("score", nan_when_value_is_below_minus_1000))))
    plant.run(30)
    for _ in range(3):
        plant.tick({**values_at(0), "s0": -2000.0})
        plant.tick({**values_at(0), "s0": -2000.0})
        assert plant.run(1)[0].scores.valid.all()
    assert not plant.pipeline.detector.degraded
    assert plant.told == []


def test_another_detector_goes_on_with_the_next_tick_and_is_calibrated_anew(tiny: Bundle) -> None:
    plant = Plant(StatisticalDetector())
    plant.run(600)
    assert plant.told == ["calibrated"]
    detector = OnnxDetector(tiny)
    assert sum(1 for _ in rewarming(detector, plant.pipeline.graph.replay())) == 128
    plant.pipeline.replace_detector(detector, None)
    first = plant.run(1)[0]
    assert first.tick == 600
    assert first.scores.valid.all()
    assert first.scores.neighbour.shape == (6, 3)
    assert first.decision.warming_up
    plant.run(500)
    assert plant.told == ["calibrated", "calibrated"]


def test_a_calibration_that_came_with_the_model_spares_the_warm_up(tiny: Bundle) -> None:
    scores = np.abs(np.random.default_rng(0).normal(size=(300, 6))).astype(np.float32)
    plant = Plant(OnnxDetector(tiny))
    plant.pipeline.calibrate(Calibration(NAMES, scores))
    plant.run(21)
    assert not plant.run(1)[0].decision.warming_up


def test_a_new_run_closes_incidents_and_forgets_the_state_but_not_the_calibration(tiny: Bundle) -> None:
    plant = Plant(OnnxDetector(tiny))
    plant.run(600)
    for _ in range(8):
        plant.tick({**values_at(0), "s1": 500.0})
    open_ids = {one.id for one in plant.incidents} - {
        one.id for one in plant.incidents if one.state is IncidentState.CLOSED
    }
    assert "s1" in plant.incidents[-1].summary
    events = plant.pipeline.new_run()
    assert {event.body["id"]: event.body["state"] for event in events} == dict.fromkeys(open_ids, "closed")
    report = plant.run(1)[0]
    assert not report.scores.valid.any()
    assert not report.decision.warming_up
    assert plant.run(25)[-1].scores.valid.all()


# -- sensors ---------------------------------------------------------------------------------------------------


def test_a_sensor_that_leaves_and_comes_back_disturbs_no_other(tiny: Bundle) -> None:
    options = PipelineOptions(intake=IntakeOptions(forget_after="50s"), graph=GraphOptions(learn=False))
    plant, calm = Plant(OnnxDetector(tiny), options), Plant(OnnxDetector(tiny), options)
    plant.run(60)
    calm.run(60)
    others = NAMES[:2] + NAMES[3:]
    away, same = plant.run(60, others), calm.run(60)
    assert plant.told == ["sensors_removed"]
    assert away[-1].snapshot.sensors == others
    for name in others:
        expected = [score_of(report, name) for report in same]
        assert [score_of(report, name) for report in away] == pytest.approx(expected, rel=1e-5)  # rows share registers
    back = plant.run(30)
    assert back[0].snapshot.sensors == (*others, "s2")
    assert score_of(back[0], "s2") is None
    assert score_of(back[-1], "s2") is not None
    assert all(score_of(report, name) is not None for report in back for name in others)


def test_no_sensors_at_all_is_a_tick_like_any_other(tiny: Bundle) -> None:
    for detector in (OnnxDetector(tiny), StatisticalDetector()):
        report = Plant(detector).run(3, ())[-1]
        assert len(report.snapshot) == 0
        assert report.decision.plant_score is None
        assert not report.decision.alarm


def test_ten_thousand_sensors_that_come_go_and_fall_silent(tiny: Bundle) -> None:
    plant = Plant(OnnxDetector(tiny))
    names = tuple(f"t{i}" for i in range(10_000))
    for tick in range(22):
        report = plant.tick(dict(zip(names, np.random.default_rng(tick).normal(size=10_000).tolist(), strict=True)))
    assert report.scores.valid.all()
    plant.pipeline.intake.remove(names[:1])
    report = plant.tick(dict.fromkeys((*names[1:], "new"), 0.5))
    assert report.snapshot.sensors == (*names[1:], "new")
    assert report.scores.valid.sum() == 9_999
    plant.clock.advance(120 * NS_PER_S)
    for _ in range(12):
        report = plant.tick()
    assert not report.snapshot.usable.any()
    (incident,) = report.decision.changed or plant.incidents[-1:]
    assert "all 10000 sensors of source press: no longer sending" in incident.summary


# -- the same readings give the same bits ----------------------------------------------------------------------


def frames(split: int) -> Iterator[list[dict[str, float]]]:
    """What arrives between two ticks, in frames of at most ``split`` readings."""
    for tick in range(150):
        items = list(values_at(tick).items())
        yield [dict(items[i : i + split]) for i in range(0, len(items), split)]


def bits(detector: Detector, split: int) -> list[tuple[bytes, float | None, float | None]]:
    plant = Plant(detector)
    found = []
    for batches in frames(split):
        plant.clock.advance(NS_PER_S)
        for batch in batches:
            plant.give(batch, plant.clock.wall_ns())
        report = plant.pipeline.tick(plant.clock.monotonic_ns())
        found.append((report.scores.score.tobytes(), report.decision.plant_score, report.decision.p_value))
    return found


@pytest.mark.parametrize("split", [6, 1, 4])
def test_the_same_readings_give_the_same_bits_however_they_are_split(tiny: Bundle, split: int) -> None:
    assert bits(OnnxDetector(tiny), 6) == bits(OnnxDetector(tiny), split)
    assert bits(StatisticalDetector(), 6) == bits(StatisticalDetector(), split)


def test_a_reading_that_comes_within_the_lateness_is_scored_in_its_tick() -> None:
    plant = Plant(StatisticalDetector())
    plant.tick({"a": 1.0})
    tick_ns = plant.clock.monotonic_ns() + NS_PER_S
    plant.clock.advance(NS_PER_S // 2)
    stamp_ns = plant.clock.wall_ns()
    plant.clock.advance(NS_PER_S)
    plant.give({"a": 2.0}, stamp_ns)  # half a second after its tick, which is still to come
    plant.give({"a": 3.0}, plant.clock.wall_ns())  # of the next tick
    seen = [plant.pipeline.tick(tick_ns + k * NS_PER_S).snapshot for k in range(2)]
    assert [float(snapshot.value[0]) for snapshot in seen] == [2.0, 3.0]
    assert [float(snapshot.age[0]) for snapshot in seen] == [0.0, 0.0]
    assert plant.metrics.late.labels().value == 0


@pytest.mark.parametrize("jump_s", [YEAR, -YEAR, 90, -90])
def test_ticks_and_scores_go_on_when_the_wall_clock_jumps(tiny: Bundle, jump_s: int) -> None:
    plant, calm = Plant(OnnxDetector(tiny)), Plant(OnnxDetector(tiny))
    plant.run(40)
    calm.run(40)
    plant.clock.set_wall_ns(plant.clock.wall_ns() + jump_s * NS_PER_S)
    reports, same = [plant.tick() for _ in range(1)] + plant.run(40), [calm.tick() for _ in range(1)] + calm.run(40)
    assert plant.told == ["clock_jump"]
    assert [report.tick for report in reports] == list(range(40, 81))
    assert reports[0].time_ns - same[0].time_ns == jump_s * NS_PER_S
    assert [report.scores.score.tobytes() for report in reports] == [report.scores.score.tobytes() for report in same]


def test_a_clock_set_back_between_two_long_ticks_costs_no_reading_once_it_is_noticed() -> None:
    plant = Plant(StatisticalDetector())
    plant.give({"a": 1.0}, plant.clock.wall_ns())
    plant.tick()
    plant.clock.set_wall_ns(plant.clock.wall_ns() - 90 * NS_PER_S)
    plant.pipeline.check_clock()
    plant.give({"a": 2.0}, plant.clock.wall_ns())
    assert plant.tick().snapshot.value.tolist() == [2.0]
    assert plant.told == ["clock_jump"]


@pytest.fixture(scope="module")
def noise() -> Calibration:
    """Scores as a good model gives them on normal data."""
    return Calibration(NAMES, np.random.default_rng(0).chisquare(1, (2_000, len(NAMES))).astype(np.float32))


# -- over a restart --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["onnx", "statistical"])
def test_scores_go_on_after_a_restart_as_if_there_had_been_none(tiny: Bundle, kind: str) -> None:
    alone = replace(OPTIONS, companions=CompanionOptions(enabled=False))

    def new() -> Plant:
        return Plant(OnnxDetector(tiny) if kind == "onnx" else StatisticalDetector(), alone)

    whole, before, after = new(), new(), new()
    whole.run(600)
    before.run(600)
    assert before.pipeline.graph.edges()
    raw = write_npz(export_learned(before.pipeline))
    assert import_learned(after.pipeline, raw, settling_ticks=0)
    after.pipeline.ticks = 600
    expected = whole.run(40)
    backwards = NAMES[::-1]
    found = after.run(40, backwards)
    assert after.pipeline.graph.edges() == whole.pipeline.graph.edges()
    assert not found[0].decision.warming_up
    for one, other in zip(found, expected, strict=True):
        assert [score_of(one, name) for name in NAMES] == [score_of(other, name) for name in NAMES]
    later = [(one.decision.plant_score, other.decision.plant_score) for one, other in zip(found, expected, strict=True)]
    assert all(a is not None and b is not None and abs(a - b) < 0.2 for a, b in later[10:])


def test_companions_remember_over_a_restart_what_they_learned(tiny: Bundle) -> None:
    options = replace(OPTIONS, decision=DecisionOptions())
    whole, before, after = (Plant(OnnxDetector(tiny), options) for _ in range(3))
    whole.run(1_000)
    before.run(1_000)
    raw = write_npz(export_learned(before.pipeline))
    assert import_learned(after.pipeline, raw, settling_ticks=0)
    after.pipeline.ticks = 1_000
    pairs = list(zip(after.run(60), whole.run(60), strict=True))[30:]  # lags and means are there again
    for one, other in pairs:
        assert one.scores.members.keys() == other.scores.members.keys() >= {"relation", "model"}
        assert one.scores.plant == pytest.approx(other.scores.plant, abs=0.3)


def test_a_calibration_of_the_ensemble_is_not_used_without_companions(tiny: Bundle) -> None:
    options = replace(OPTIONS, decision=DecisionOptions())
    before = Plant(OnnxDetector(tiny), options)
    before.run(1_200)
    assert before.pipeline.transition.done
    alone = Plant(OnnxDetector(tiny), replace(options, companions=CompanionOptions(enabled=False)))
    assert import_learned(alone.pipeline, write_npz(export_learned(before.pipeline)))
    assert alone.pipeline.decider.progress == 0.0


def test_the_model_alone_is_judged_until_the_ensemble_is_calibrated(noise: Calibration) -> None:
    plant = Plant(OnnxDetector(universal_bundle()), replace(OPTIONS, decision=DecisionOptions()))
    plant.pipeline.calibrate(noise)
    reports = plant.run(1_600)
    judged = [report.decision.p_value is not None for report in reports]
    begins = judged.index(True)
    assert all(judged[begins:])
    ensemble = [report.scores.plant is not None for report in reports]
    assert not any(ensemble[:500])
    assert all(ensemble[-100:])


def test_another_model_is_judged_alone_by_its_own_calibration(noise: Calibration) -> None:
    plant = Plant(OnnxDetector(universal_bundle()), replace(OPTIONS, decision=DecisionOptions()))
    plant.run(1_200)
    assert plant.pipeline.transition.done
    knowledge = plant.pipeline.knowledge_of(noise)
    assert knowledge is not None
    plant.pipeline.replace_detector(OnnxDetector(universal_bundle()), knowledge.learned())
    assert not plant.pipeline.transition.done
    assert plant.run(1)[0].scores.plant is None


@pytest.mark.parametrize(
    "damage",
    [
        {"learned_edges": np.array([["x"]])},
        {"learned_edges": np.array([[99, -7]])},
        {"decision.rows": np.zeros((3, 1))},
        {"decision.rows": np.full((300, 6), np.nan)},
        {"decision.tails.names": np.array(["a"])},
        {"decision.tails.counts": np.full((6, 48), np.nan, np.float32)},
        {"decision.lasting.total": np.zeros(3, np.float32)},
    ],
)
def test_learned_state_of_another_form_costs_a_warm_up_and_no_start(
    tiny: Bundle, damage: dict[str, np.ndarray]
) -> None:
    before, after = Plant(OnnxDetector(tiny)), Plant(OnnxDetector(tiny))
    before.run(300)
    import_learned(after.pipeline, write_npz(export_learned(before.pipeline) | damage))
    after.run(300)
    assert after.run(1)[0].scores.valid.all()
    assert after.run(200)[-1].decision.plant_score is not None
    assert np.isfinite([float(report.decision.plant_score or 0.0) for report in after.run(20)]).all()


def test_learned_state_of_another_model_is_not_used(tiny: Bundle) -> None:
    before, after = Plant(OnnxDetector(tiny)), Plant(StatisticalDetector())
    before.run(100)
    assert not import_learned(after.pipeline, write_npz(export_learned(before.pipeline)))
    assert not import_learned(after.pipeline, b"no archive")
    assert len(after.pipeline.graph) == 0


def waves(tick: int, rng: np.random.Generator) -> dict[str, float]:
    return {f"s{i}": float(np.sin(tick / (30 + 10 * i)) + 0.01 * rng.normal()) for i in range(8)}


def test_a_sensor_that_speaks_rarely_is_judged_all_the_same() -> None:
    rng = np.random.default_rng(0)
    plant = Plant(OnnxDetector(universal_bundle()), PipelineOptions())
    for tick in range(3000):
        values = waves(tick, rng)
        if tick % 20:
            del values["s3"]
        report = plant.tick(values)
    assert report.scores.valid.all()
    assert plant.pipeline.decider._returning._rest.tolist() == [0] * 8
