"""Drift detectors on simulated streams: what they call a change, what they hold back, and how often they speak."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.drift import DriftFinding, DriftMonitor, DriftOptions
from edge_agent.drift.cusum import Cusum, Reference, limit
from edge_agent.drift.findings import DriftKind, Statistic
from edge_agent.drift.groups import largest_group
from edge_agent.drift.rule import Change, Verdict, judge
from edge_agent.drift.staleness import Staleness, bet
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

BLOCK = 20
OPTIONS = DriftOptions.model_validate({"block": f"{BLOCK}s", "reference_blocks": 24, "false_signals": "1 per week"})


class Stream:
    """A plant of ``count`` sensors of unit noise; what is changed by the test stays changed."""

    def __init__(self, count: int = 20, options: DriftOptions = OPTIONS) -> None:
        self.monitor = DriftMonitor(options, 1.0)
        self.rng = np.random.default_rng(0)
        self.names = tuple(f"S{i}" for i in range(count))
        self.level, self.spread, self.score = np.zeros(count), np.ones(count), np.ones(count)
        self.usable = np.ones(count, np.bool_)
        self.neighbour = np.full((count, 1), -1, np.int64)
        self.tick = 0

    def blocks(self, count: int, incident: str | None = None) -> list[DriftFinding]:
        return [finding for _ in range(count * BLOCK) for finding in self.step(incident)]

    def step(self, incident: str | None = None) -> tuple[DriftFinding, ...]:
        n = len(self.names)
        value = self.level + self.spread * self.rng.normal(size=n)
        neighbour = self.neighbour[:n]
        zeros = np.zeros(n, np.float32)
        snapshot = Snapshot(self.tick, 0, 0, self.names, value, zeros, np.zeros(n, np.int32), self.usable, neighbour)
        score = (self.score * self.rng.exponential(size=n)).astype(np.float32)
        scores = Scores(score, zeros, zeros + 1, self.usable, neighbour, zeros[:, None])
        self.tick += 1
        return self.monitor.observe(snapshot, scores, incident)


def warmed(count: int = 20) -> Stream:
    stream = Stream(count)
    assert stream.blocks(40) == []
    assert stream.monitor.ready
    return stream


def test_a_change_of_many_sensors_that_settles_is_the_plants() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    (finding,) = stream.blocks(15)
    assert finding.kind is DriftKind.PLANT_CHANGED
    assert finding.count == 8
    assert {shift.sensor for shift in finding.shifts} == {f"S{i}" for i in range(8)}
    first = finding.shifts[0]
    assert first.statistic is Statistic.LEVEL
    assert first.now - first.before == pytest.approx(3.0, abs=0.6)
    assert finding.details()["sensors"][0]["sensor"] == first.sensor


def test_one_sensor_that_settles_elsewhere_is_a_matter_of_the_sensor() -> None:
    stream = warmed()
    stream.level[3] -= 3.0
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.count, finding.shifts[0].sensor) == (DriftKind.SENSOR_DRIFT, 1, "S3")


def test_two_sensors_that_hang_together_and_have_moved_are_the_plants() -> None:
    stream = warmed(40)
    stream.level[3:5] += 3.0
    stream.neighbour[4] = 3
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.count) == (DriftKind.PLANT_CHANGED, 2)
    assert "train the model anew" in finding.message


def test_two_sensors_that_have_nothing_to_do_with_each_other_are_matters_of_the_sensors() -> None:
    stream = warmed(40)
    stream.level[3:5] += 3.0
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.count) == (DriftKind.SENSOR_DRIFT, 2)


def test_what_hardly_follows_a_sensor_that_has_gone_far_does_not_bear_it_out() -> None:
    stream = warmed(40)
    stream.level[3] += 30.0
    stream.level[4] += 3.0
    stream.neighbour[4] = 3
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.count) == (DriftKind.SENSOR_DRIFT, 2)


def test_sensors_that_stand_still_are_no_new_operating_point() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    stream.spread[2] = 0.01
    assert DriftKind.PLANT_CHANGED not in {finding.kind for finding in stream.blocks(15)}


def test_a_change_after_announced_work_is_laid_at_no_incidents_door() -> None:
    stream = warmed()
    stream.blocks(1, incident="INC")
    stream.monitor.maintained()
    stream.level[:8] += 3.0
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.incident) == (DriftKind.PLANT_CHANGED, None)


def test_a_noisier_sensor_is_found_by_its_spread() -> None:
    stream = warmed()
    stream.spread[5] = 4.0
    finding = stream.blocks(20)[0]
    assert (finding.shifts[0].sensor, finding.shifts[0].statistic) == ("S5", Statistic.SPREAD)
    assert finding.shifts[0].now == pytest.approx(4.0, rel=0.3)


def test_what_was_accepted_is_the_new_reference() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    assert len(stream.blocks(15)) == 1
    assert stream.blocks(60) == []


def test_a_change_under_an_incident_is_held_and_then_suspected_with_its_incident() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    assert stream.blocks(4, incident="INC") == []
    assert stream.blocks(1, incident="INC") == []
    assert stream.monitor.verdict is Verdict.HELD
    (finding,) = stream.blocks(40)
    assert (finding.kind, finding.incident) == (DriftKind.SENSOR_DRIFT, "INC")
    assert "edge-agent incidents feedback INC" in finding.message
    assert stream.monitor.status()["suspected"] == "INC"


def test_an_incident_judged_false_frees_the_change() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    stream.blocks(5, incident="INC")
    stream.monitor.exonerate("INC")
    (finding,) = stream.blocks(15)
    assert (finding.kind, finding.incident) == (DriftKind.PLANT_CHANGED, None)


def test_a_change_that_shows_soon_after_an_incident_is_suspected() -> None:
    stream = warmed()
    stream.blocks(1, incident="INC")
    stream.level[:8] += 3.0
    assert [finding.incident for finding in stream.blocks(20)] == ["INC"]


def test_what_comes_back_after_an_incident_was_no_change() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    stream.blocks(6, incident="INC")
    stream.level[:8] -= 3.0
    assert stream.blocks(40) == []
    assert stream.monitor.counts() == {"level": 0, "spread": 0, "residual": 0}


def test_residuals_that_stay_high_hold_a_change_back_until_that_itself_is_told() -> None:
    stream = warmed()
    stream.level[:8] += 3.0
    stream.score[:8] = 30.0
    assert {finding.kind for finding in stream.blocks(10)} <= {DriftKind.MODEL_STALE}
    assert stream.monitor.verdict is Verdict.HELD
    (finding,) = [finding for finding in stream.blocks(40) if finding.kind is not DriftKind.MODEL_STALE]
    assert finding.kind is DriftKind.SENSOR_DRIFT
    assert "no longer agree with the others" in finding.message
    assert finding.incident is None


def test_residuals_that_grow_everywhere_make_the_model_stale_until_it_is_replaced() -> None:
    stream = warmed()
    stream.score[:] = 2.0
    findings = stream.blocks(30)
    assert [finding.kind for finding in findings] == [DriftKind.MODEL_STALE]
    assert findings[0].shifts[0].statistic is Statistic.RESIDUAL
    assert stream.monitor.stale
    stream.monitor.model_replaced()
    assert not stream.monitor.stale
    assert stream.blocks(60) == []


def test_blocks_under_an_incident_never_make_the_model_stale() -> None:
    stream = warmed()
    stream.score[:] = 5.0
    assert stream.blocks(40, incident="INC") == []
    assert not stream.monitor.stale


def test_a_creep_too_slow_for_the_sums_is_told_by_the_anchor_that_does_not_follow() -> None:
    stream = Stream(5)
    assert stream.blocks(330) == []
    found = []
    for _ in range(450):
        stream.level[2] += 0.01  # of the noise of one reading: 3 deviations of a block's mean in 67 blocks
        found += stream.blocks(1)
    assert found
    assert {finding.kind for finding in found} == {DriftKind.SENSOR_DRIFT}
    assert {shift.sensor for finding in found for shift in finding.shifts} == {"S2"}


def test_the_anchor_stays_where_it_was_until_told() -> None:
    reference, everything = Reference((1, 2)), np.ones((1, 2), np.bool_)
    for x in normals(2, 400):
        reference.learn(x, everything)
    anchor = reference.anchor.copy()
    for x in normals(2, 900):
        reference.learn(x + np.array([[0.0, 2.0]]), everything)
    np.testing.assert_array_equal(reference.anchor, anchor)
    assert abs(reference.crept[0, 0]) < 0.5 < 1.0 < reference.crept[0, 1]
    reference.settle(reference.crept > 1.0)
    assert reference.crept[0, 1] == 0.0


def test_stationary_noise_is_never_called_a_drift() -> None:
    assert warmed(50).blocks(400) == []


def test_a_slowly_wandering_sensor_is_not_called_a_drift_again_and_again() -> None:
    stream = Stream()
    wander, found = np.zeros(20), 0
    for _ in range(600):
        wander = 0.9 * wander + stream.rng.normal(size=20)
        stream.level = wander
        found += len(stream.blocks(1))
    assert found <= 3


def test_events_of_one_kind_are_an_hour_apart_even_when_everything_changes_all_the_time() -> None:
    stream = warmed()
    found = 0
    for _ in range(40):
        stream.level += stream.rng.normal(size=20) * 50
        found += len(stream.blocks(8))
    assert found <= 3 * 40 * 8 / 12


def test_missing_readings_are_no_change() -> None:
    stream = warmed()
    stream.usable[:5] = False
    assert stream.blocks(20) == []
    stream.usable[:5] = True
    assert stream.blocks(20) == []


def test_what_is_known_follows_the_sensors() -> None:
    stream = warmed()
    keep = [*range(10, 20), *range(5)]
    stream.names = (*(stream.names[i] for i in keep), "new")
    stream.level, stream.spread, stream.score = np.zeros(16), np.ones(16), np.ones(16)
    stream.usable = np.ones(16, np.bool_)
    stream.level[0] = 3.0
    (finding,) = stream.blocks(15)
    assert finding.shifts[0].sensor == "S10"


def test_the_reference_survives_a_restart() -> None:
    stream = warmed()
    saved = stream.monitor.export()
    stream.monitor = DriftMonitor(OPTIONS, 1.0)
    stream.monitor.restore(saved)
    stream.level[:8] += 3.0
    assert [finding.kind for finding in stream.blocks(15)] == [DriftKind.PLANT_CHANGED]


@pytest.mark.parametrize("damage", ["mean", "staleness"])
def test_a_reference_of_another_form_is_refused(damage: str) -> None:
    saved = warmed().monitor.export()
    saved[damage] = saved[damage][:0]
    with pytest.raises(ValueError, match="saved drift reference"):
        DriftMonitor(OPTIONS, 1.0).restore(saved)


def test_a_block_begun_is_dropped_with_its_run() -> None:
    stream = warmed()
    stream.level += 100.0
    for _ in range(BLOCK - 1):
        stream.step()
    stream.monitor.new_run()
    stream.level -= 100.0
    assert stream.blocks(20) == []


@pytest.mark.parametrize(
    ("which", "edges", "size"),
    [
        ([], {}, 0),
        ([0, 4], {}, 1),
        ([0, 4], {0: 4}, 2),
        ([0, 4], {4: 0}, 2),
        ([0, 4], {0: 2, 2: 4}, 1),  # over a sensor that has not moved
        ([0, 1, 2, 4, 5], {0: 1, 2: 1, 4: 5}, 3),
    ],
)
def test_the_largest_group(which: list[int], edges: dict[int, int], size: int) -> None:
    moved, neighbour = np.zeros(6, np.bool_), np.full((6, 2), -1)
    moved[which] = True
    for sensor, other in edges.items():
        neighbour[sensor, 0] = other
    assert largest_group(moved, neighbour) == size


# -- parts ---------------------------------------------------------------------------------------------------------

USUAL = Change(
    moved=8,
    levels=8,
    stilled=0,
    group=1,
    watched=20,
    settled=8,
    strained=0,
    strained_moved=0,
    quiet_blocks=9,
    steady_blocks=9,
)


def changed(**fields: int | bool) -> Change:
    return Change(**{**{name: getattr(USUAL, name) for name in Change.__slots__}, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (changed(moved=0), Verdict.NONE),
        (USUAL, Verdict.PLANT),
        (changed(moved=2, settled=2), Verdict.PLANT),
        (changed(moved=1, settled=1), Verdict.SENSOR),
        (changed(moved=2, settled=2, watched=21), Verdict.SENSOR),
        (changed(moved=2, settled=2, watched=21, group=2), Verdict.PLANT),
        (changed(levels=0, group=8), Verdict.SENSOR),
        (changed(stilled=1, group=8), Verdict.SENSOR),
        (changed(quiet_blocks=2), Verdict.HELD),
        (changed(strained=3), Verdict.HELD),
        (changed(strained=1, strained_moved=1), Verdict.HELD),
        (changed(settled=6), Verdict.PENDING),
        (changed(steady_blocks=2), Verdict.PENDING),
        (changed(suspected=True), Verdict.SUSPECTED),
        (changed(suspected=True, quiet_blocks=0), Verdict.HELD),
    ],
)
def test_the_rule(change: Change, verdict: Verdict) -> None:
    assert judge(change, OPTIONS) is verdict


def normals(streams: int, blocks: int, correlation: float = 0.0) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, streams))
    for _ in range(blocks):
        x = correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=(1, streams))
        yield x


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_scores_are_standard_normal_once_something_was_learned(correlation: float) -> None:
    reference = Reference((1, 500))
    everything = np.ones((1, 500), np.bool_)
    found = []
    for x in normals(500, 80, correlation):
        found.append(reference.score(x))
        reference.learn(x, everything)
    late = np.concatenate(found[20:])
    assert abs(late.mean()) < 0.05
    assert late.std() == pytest.approx(1 / np.sqrt((1 + correlation) / (1 - correlation)), rel=0.35)


def test_false_signals_of_the_sums_stay_below_what_was_allowed() -> None:
    streams, allowed = 1000, 0.5  # signals a block, over all streams
    cusum, signals = Cusum((1, streams)), 0
    bound = limit(streams, allowed)
    for x in normals(streams, 200):
        cusum.add(x, np.full((1, streams), np.inf))
        over = cusum.sum > bound
        signals += int(over.sum())
        cusum.forget(over)
    assert 0.3 * allowed * 200 < signals <= 1.5 * allowed * 200


def test_bets_on_chance_never_gain_on_average() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    assert 0.9 < np.mean([bet(float(one)) for one in p]) <= 1.0


def test_staleness_goes_away_with_its_cause() -> None:
    staleness, rng = Staleness(24), np.random.default_rng(0)
    assert not any(staleness.add(float(rng.normal())) for _ in range(200))
    assert any(staleness.add(float(rng.normal() + 4)) for _ in range(30))
    assert staleness.stale
    for _ in range(60):
        staleness.add(float(rng.normal()))
    assert not staleness.stale


def test_staleness_is_told_rarely_of_a_plant_that_does_not_change() -> None:
    staleness = Staleness(24)
    assert sum(staleness.add(float(x)) for x in np.random.default_rng(2).normal(size=20_000)) <= 2


def test_staleness_survives_a_restart() -> None:
    staleness = Staleness(24)
    for x in np.random.default_rng(0).normal(size=50):
        staleness.add(float(x))
    again = Staleness(24)
    again.restore(staleness.export())
    np.testing.assert_array_equal(again.export(), staleness.export())
