"""Readings into the graph: whose, when, and whether they can be believed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_agent.channel import Full
from edge_agent.clock import NS_PER_S, Timeline, VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.graph.rolling import RollingGraph
from edge_agent.graph.snapshot import Snapshot
from edge_agent.intake.intake import Intake, SourcePort
from edge_agent.intake.options import IntakeOptions, SensorOptions
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch, Quality

T0 = 1_760_000_000 * NS_PER_S
YEAR = 365 * 86400 * NS_PER_S


class Bench:
    """An intake with a graph behind it, on a clock that the test moves."""

    def __init__(self, wall_ns: int = T0, period_s: float = 1.0, **sensors: SensorOptions) -> None:
        self.clock = VirtualClock(wall_ns)
        self.metrics = Metrics()
        self.timeline = Timeline(self.clock, int(period_s * NS_PER_S))
        self.graph = RollingGraph(4, self.timeline.period_ns, 64)
        options = IntakeOptions(max_sensors=100)
        self.intake = Intake(
            self.graph, self.timeline, options, lambda name: sensors.get(name, SensorOptions()), self.metrics
        )
        self.ticks = 0

    def port(self, name: str = "press", **options: object) -> SourcePort:
        return self.intake.port(name, SourceOptions.model_validate({"type": "test", **options}))

    def give(self, port: SourcePort, values: dict[str, float], source_ns: int | None = None) -> None:
        batch = Batch(tuple(values), list(values.values()), self.clock.monotonic_ns(), source_time_ns=source_ns)
        self.intake.take(port, batch)

    def tick(self, seconds: float = 1.0) -> Snapshot:
        self.clock.advance(int(seconds * NS_PER_S))
        self.timeline.correct()
        now_ns = self.clock.monotonic_ns()
        self.intake.collect(now_ns)
        self.ticks += 1
        return self.graph.snapshot(self.ticks, now_ns, self.clock.wall_ns())

    def flags(self, snapshot: Snapshot, sensor: str) -> Quality:
        return Quality(int(snapshot.quality[snapshot.sensors.index(sensor)]))

    def value(self, snapshot: Snapshot, sensor: str) -> float:
        return float(snapshot.value[snapshot.sensors.index(sensor)])


def test_a_reading_lands_in_the_tick_after_it() -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1.5, "b": 2.5})
    snapshot = bench.tick()
    assert snapshot.sensors == ("a", "b")
    assert snapshot.value.tolist() == [1.5, 2.5]
    assert snapshot.usable.all()
    assert bench.metrics.readings.labels("press").value == 2


def test_age_counts_the_ticks_since_a_value_was_fresh() -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1.0})
    assert [float(bench.tick().age[0]) for _ in range(3)] == [1.0, 2.0, 3.0]


def test_of_several_readings_in_one_tick_the_newest_counts() -> None:
    bench = Bench()
    port = bench.port()
    for value, offset in ((1.0, 300), (3.0, 900), (2.0, 600)):
        bench.give(port, {"a": value}, T0 + offset * 1_000_000 - NS_PER_S)
    assert bench.value(bench.tick(), "a") == 3.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_flagged_and_the_last_good_value_kept(value: float) -> None:
    bench = Bench()
    port = bench.port()
    bench.give(port, {"a": 7.0})
    bench.tick()
    bench.give(port, {"a": value})
    snapshot = bench.tick()
    assert bench.flags(snapshot, "a") == Quality.NOT_FINITE
    assert bench.value(snapshot, "a") == 7.0
    assert not snapshot.usable[0]
    bench.give(port, {"a": 8.0})
    assert bench.tick().usable[0]


@pytest.mark.parametrize(("value", "good"), [(0.0, True), (10.0, True), (-0.1, False), (10.1, False), (1e308, False)])
def test_values_outside_the_possible_range_are_flagged(value: float, good: bool) -> None:
    bench = Bench(a=SensorOptions(min=0, max=10))
    bench.give(bench.port(), {"a": value})
    assert bool(bench.tick().usable[0]) is good


def test_a_huge_number_is_out_of_range_even_without_limits() -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1e308})
    assert Quality.OUT_OF_RANGE in bench.flags(bench.tick(), "a")


def test_scale_and_offset_come_before_the_limits() -> None:
    bench = Bench(a=SensorOptions(scale=0.1, offset=-5, min=-5, max=5))
    bench.give(bench.port(), {"a": 100.0})
    snapshot = bench.tick()
    assert bench.value(snapshot, "a") == pytest.approx(5.0)
    assert snapshot.usable[0]


def test_a_change_faster_than_possible_is_not_shown_until_it_has_lasted_long_enough() -> None:
    bench = Bench(a=SensorOptions(max_rate=2.0))
    port = bench.port()
    for value in (1.0, 2.5):
        bench.give(port, {"a": value})
        assert bench.flags(bench.tick(), "a") == Quality.GOOD
    bench.give(port, {"a": 9.0})
    snapshot = bench.tick()
    assert bench.flags(snapshot, "a") == Quality.RATE
    assert not snapshot.usable[0]
    found = []
    for _ in range(4):
        bench.give(port, {"a": 9.0})
        found.append(bool(bench.tick().usable[0]))
    assert found == [False, False, True, True]  # 6.5 at 2 a second
    bench.give(port, {"a": 100.0})
    assert not bench.tick().usable[0]
    bench.give(port, {"a": 9.5})
    assert bench.tick().usable[0]


def test_a_sensor_whose_readings_never_change_is_stuck() -> None:
    bench = Bench(a=SensorOptions(stuck_after="3s"))
    port = bench.port()
    flags = []
    for _ in range(6):
        bench.give(port, {"a": 4.0})
        flags.append(bench.flags(bench.tick(), "a"))
    assert flags == [Quality.GOOD] * 4 + [Quality.STUCK] * 2
    bench.give(port, {"a": 5.0})
    assert bench.flags(bench.tick(), "a") == Quality.GOOD


def test_a_sensor_that_sends_nothing_is_not_stuck() -> None:
    bench = Bench(a=SensorOptions(stuck_after="3s"))
    bench.give(bench.port(), {"a": 4.0})
    assert [bench.flags(bench.tick(), "a") for _ in range(6)] == [Quality.GOOD] * 6


def test_a_sensor_that_sends_only_bad_values_is_not_silent() -> None:
    bench = Bench(a=SensorOptions(stale_after="3s"))
    port = bench.port()
    for _ in range(6):
        bench.give(port, {"a": math.nan})
        snapshot = bench.tick()
    assert bench.flags(snapshot, "a") == Quality.NOT_FINITE
    assert not snapshot.usable[0]


def test_a_sensor_known_from_before_a_restart_is_given_time_to_speak() -> None:
    bench = Bench(a=SensorOptions(stale_after="3s"))
    bench.intake.expect(("a",))
    flags = [bench.flags(bench.tick(), "a") for _ in range(5)]
    assert flags == [Quality.GOOD] * 3 + [Quality.STALE] * 2


def test_a_silent_sensor_is_stale_and_comes_back() -> None:
    bench = Bench(a=SensorOptions(stale_after="5s"))
    port = bench.port()
    bench.give(port, {"a": 4.0})
    assert bench.tick().usable[0]
    snapshot = bench.tick(6)
    assert bench.flags(snapshot, "a") == Quality.STALE
    assert not snapshot.usable[0]
    bench.give(port, {"a": 4.0})
    assert bench.tick().usable[0]


def test_a_repeated_reading_is_counted_and_taken_once() -> None:
    bench = Bench()
    port = bench.port()
    bench.tick()
    bench.give(port, {"a": 4.0}, bench.clock.wall_ns())
    bench.give(port, {"a": 4.0}, bench.clock.wall_ns())
    bench.tick()
    bench.give(port, {"a": 4.0}, bench.clock.wall_ns() - NS_PER_S)
    bench.tick()
    assert bench.metrics.duplicate.labels().value == 2


def test_a_late_reading_is_used_only_when_nothing_newer_is_known() -> None:
    bench = Bench()
    port = bench.port()
    bench.tick(10)
    bench.clock.advance(NS_PER_S // 2)
    start_ns = bench.clock.wall_ns()
    bench.give(port, {"a": 1.0, "b": 1.0}, start_ns)
    bench.tick()
    bench.tick()
    bench.give(port, {"a": 2.0}, start_ns + 1000)  # late, yet newer than what is known
    bench.give(port, {"b": 2.0}, start_ns - NS_PER_S)  # older than what is known
    snapshot = bench.tick()
    assert (bench.value(snapshot, "a"), bench.value(snapshot, "b")) == (2.0, 1.0)
    assert float(snapshot.age[0]) == 2.0
    assert bench.metrics.late.labels().value == 2


@pytest.mark.parametrize(
    ("source_ns", "flag"), [(0, Quality.PAST), (T0 - YEAR, Quality.PAST), (T0 + YEAR, Quality.FUTURE)]
)
def test_an_absurd_source_time_is_flagged_and_arrival_time_used(source_ns: int, flag: Quality) -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1.0}, source_ns)
    snapshot = bench.tick()
    assert bench.flags(snapshot, "a") == flag
    assert snapshot.usable[0]
    assert float(snapshot.age[0]) <= 1.0


def test_a_device_clock_a_little_fast_does_not_hold_its_readings_back() -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1.0}, T0 + 20 * NS_PER_S)
    snapshot = bench.tick()
    assert snapshot.usable[0]
    assert bench.flags(snapshot, "a") == Quality.GOOD


def test_of_readings_from_a_fast_clock_the_newest_counts_too() -> None:
    bench = Bench()
    ahead_ns = [T0 + 20 * NS_PER_S, T0 + 21 * NS_PER_S]
    bench.intake.take(bench.port(), Batch(("a", "a"), (1.0, 2.0), 0, source_time_ns=ahead_ns))
    assert bench.value(bench.tick(), "a") == 2.0
    assert bench.metrics.duplicate.labels().value == 0


def test_a_gateway_without_the_time_does_not_blame_its_devices() -> None:
    bench = Bench(wall_ns=3600 * NS_PER_S)  # 1970
    bench.give(bench.port(), {"a": 1.0}, T0)
    assert bench.flags(bench.tick(), "a") == Quality.GOOD


@pytest.mark.parametrize("jump_ns", [YEAR, -YEAR])
def test_readings_are_used_while_the_wall_clock_jumps(jump_ns: int) -> None:
    bench = Bench()
    port = bench.port()
    for _ in range(3):
        bench.give(port, {"a": 1.0}, bench.clock.wall_ns())
        assert bench.tick().usable[0]
    bench.clock.set_wall_ns(bench.clock.wall_ns() + jump_ns)
    for value in (2.0, 3.0):
        bench.give(port, {"a": value}, bench.clock.wall_ns())
        snapshot = bench.tick()
        assert snapshot.usable[0]
        assert bench.value(snapshot, "a") == value


def test_the_second_source_of_a_sensor_is_refused_until_the_first_is_gone() -> None:
    bench = Bench()
    first, second = bench.port("first"), bench.port("second")
    bench.give(first, {"a": 1.0})
    bench.give(second, {"a": 2.0, "b": 3.0})
    snapshot = bench.tick()
    assert (bench.value(snapshot, "a"), bench.value(snapshot, "b")) == (1.0, 3.0)
    assert bench.metrics.claimed.labels("second").value == 1
    bench.intake.close_port("first")
    bench.give(second, {"a": 5.0, "b": 3.0})
    assert bench.value(bench.tick(), "a") == 5.0


def test_prefix_include_exclude_and_rename_are_applied_in_this_order() -> None:
    bench = Bench()
    port = bench.port(prefix="x.", include=("x.*",), exclude=("x.secret",), rename={"x.a": "A"})
    bench.give(port, {"a": 1.0, "b": 2.0, "secret": 3.0})
    assert bench.tick().sensors == ("A", "x.b")


def test_sensors_beyond_the_limit_are_refused_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    port = bench.port()
    bench.give(port, {f"s{i}": 1.0 for i in range(150)})
    bench.give(port, {"another": 1.0})
    assert len(bench.tick()) == 100
    assert bench.metrics.over_limit.labels("press").value == 51
    assert [record.message.count("max_sensors") for record in caplog.records] == [1]


def test_a_claimed_sensor_is_counted_under_a_prefix_too() -> None:
    bench = Bench()
    bench.give(bench.port("first"), {"x.a": 1.0})
    second = bench.port("second", prefix="x.")
    for _ in range(3):
        bench.give(second, {"a": 2.0})
    assert bench.metrics.claimed.labels("second").value == 3


@pytest.mark.parametrize(
    "wrong", [{"quality": [0]}, {"quality": []}, {"source_time_ns": [T0]}, {"quality": [None, 0]}, {"arrival_ns": None}]
)
def test_a_frame_with_a_fault_leaves_nothing_behind(wrong: dict[str, object]) -> None:
    bench = Bench()
    port = bench.port()
    with pytest.raises((ValueError, TypeError)):
        bench.intake.take(port, Batch(**{"sensors": ("a", "b"), "values": (1.0, 2.0), "arrival_ns": 0, **wrong}))  # type: ignore[arg-type]
    bench.give(port, {"a": 7.0})
    assert bench.value(bench.tick(), "a") == 7.0


def test_flags_of_another_protocol_do_not_stop_the_tick() -> None:
    bench = Bench()
    bench.intake.take(bench.port(), Batch(("a",), (1.0,), 0, quality=0x8034_0000))
    assert len(bench.tick()) == 1


def test_a_long_tick_does_not_pile_up_readings() -> None:
    bench = Bench(period_s=3600)
    port = bench.port()
    bench.tick(3600)
    most = 0
    for value in range(120_000):
        bench.clock.advance(10_000)
        bench.give(port, {"a": float(value)})
        most = max(most, bench.intake.pending)
    assert most <= 50_001
    assert bench.value(bench.tick(3600), "a") == 119_999.0


def test_readings_of_later_ticks_wait_for_them_in_order() -> None:
    bench = Bench()
    port = bench.port()
    for second in (3, 1, 2):
        bench.intake.take(port, Batch(("a",), (float(second),), second * NS_PER_S))
    seen = []
    for second in (1, 2, 3):
        bench.intake.collect(second * NS_PER_S)
        seen.append((float(bench.graph.value[0]), bench.intake.pending))
    assert seen == [(1.0, 2), (2.0, 1), (3.0, 0)]


def test_a_sensor_that_has_just_spoken_is_not_forgotten() -> None:
    bench = Bench()
    port = bench.port()
    bench.give(port, {"a": 1.0, "b": 1.0})
    bench.tick()
    bench.clock.advance(2 * 86_400 * NS_PER_S)
    bench.give(port, {"a": 2.0})
    bench.clock.advance(NS_PER_S)
    assert bench.intake.forget_silent(bench.clock.monotonic_ns()) == ("b",)
    assert bench.value(bench.tick(), "a") == 2.0


def test_what_an_adapter_sends_wrong_becomes_missing() -> None:
    bench = Bench()
    bench.give(bench.port(), {"a": 1.0, "b": "warm", "c": None})  # type: ignore[dict-item]
    snapshot = bench.tick()
    assert snapshot.usable.tolist() == [True, False, False]


def test_columns_of_different_length_are_an_error_of_the_adapter() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="2 names but 1 values"):
        bench.intake.take(bench.port(), Batch(("a", "b"), [1.0], 0))


def test_a_removed_sensor_comes_back_and_the_others_keep_their_values() -> None:
    bench = Bench()
    port = bench.port()
    bench.give(port, {"a": 1.0, "b": 2.0, "c": 3.0})
    bench.tick()
    bench.intake.remove(["b"])
    snapshot = bench.tick()
    assert snapshot.sensors == ("a", "c")
    assert snapshot.value.tolist() == [1.0, 3.0]
    bench.give(port, {"b": 9.0, "c": 4.0})
    snapshot = bench.tick()
    assert snapshot.sensors == ("a", "c", "b")
    assert snapshot.value.tolist() == [1.0, 4.0, 9.0]


def test_ten_thousand_sensors_in_one_frame() -> None:
    bench = Bench()
    bench.intake._options = IntakeOptions(max_sensors=20_000)
    names = tuple(f"s{i}" for i in range(10_000))
    bench.intake.take(bench.port(), Batch(names, np.arange(10_000, dtype=float), bench.clock.monotonic_ns()))
    snapshot = bench.tick()
    assert len(snapshot) == 10_000
    assert snapshot.usable.all()


def test_the_policy_names_are_what_the_documentation_says() -> None:
    assert {policy.value for policy in Full} == {"block", "drop_oldest"}
