"""Scores to incidents: calibration, budget, grouping, hysteresis, data quality."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import numpy as np
import pytest

from edge_agent.decision.calibration import Calibration, fit_pareto
from edge_agent.decision.decider import Decider
from edge_agent.decision.facts import Relation
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.statistics import PlantStatistics
from edge_agent.graph.snapshot import Snapshot
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Quality
from edge_agent.verdict import Incident, IncidentKind, IncidentState, Scores, Severity

N = 8
NAMES = tuple(f"s{i}" for i in range(N))
OPTIONS = DecisionOptions.model_validate(
    {"calibration_ticks": 200, "false_alarms": "1 per day", "close_after": "10s", "quality_after": "3s"}
)


class Facts:
    """Facts about sensors as a test wants them."""

    def __init__(self, weight: int = 0) -> None:
        self.monitored = np.ones(N, np.bool_)
        self._weight = weight

    def unit(self, sensor: int) -> str | None:
        return "mm"

    def weight(self, sensor: int) -> int:
        return self._weight

    def readings(self, sensors: np.ndarray, ticks: int) -> np.ndarray:
        return np.array([[1.0], [5.0]]).repeat(len(sensors), axis=1)

    def relations(self, sensor: int, most: int) -> list[Relation]:
        return []

    def source(self, sensor: int) -> str | None:
        return "plant"


def p_of(calibration: Calibration, row: np.ndarray) -> float:
    judgement = calibration.judge(row)
    assert judgement is not None
    return judgement.p_value


class Bench:
    """A decider fed with chi-squared scores."""

    def __init__(self, options: DecisionOptions = OPTIONS, seed: int = 0, facts: Facts | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.decider = Decider(options, 1.0, UlidMaker(random.Random(seed)))
        self.facts = facts or Facts()
        self.tick = 0
        self.incidents: list[Incident] = []
        # A chain: 0-1-2 ... and, apart from it, 5-6.
        self.neighbour = np.array([[1, -1], [0, 2], [1, 3], [2, 4], [3, -1], [6, -1], [5, -1], [-1, -1]])

    def step(
        self, raised: dict[int, float] | None = None, quality: dict[int, Quality] | None = None, age: float = 0.0
    ) -> bool:
        flags = np.zeros(N, np.int32)
        for i, flag in (quality or {}).items():
            flags[i] = flag
        usable = flags == 0
        snapshot = Snapshot(
            self.tick, self.tick * 10**9, 1, NAMES, np.full(N, 5.0), np.full(N, age, np.float32), flags, usable,
            self.neighbour,
        )  # fmt: skip
        score = self.rng.chisquare(1, N).astype(np.float32)
        for i, value in (raised or {}).items():
            score[i] = value
        attention = np.where(self.neighbour >= 0, 0.5, 0).astype(np.float32)
        expected, scale = np.full(N, 1.0, np.float32), np.full(N, 0.1, np.float32)
        scores = Scores(score, expected, scale, usable, self.neighbour, attention)
        decision = self.decider.decide(snapshot, scores, self.facts)
        self.tick += 1
        self.incidents += decision.changed
        return decision.alarm

    def warm(self, ticks: int = 1500) -> None:
        for _ in range(ticks):
            self.step()
        self.incidents.clear()

    def states(self, kind: IncidentKind = IncidentKind.PROCESS) -> list[IncidentState]:
        return [incident.state for incident in self.incidents if incident.kind is kind]


def test_nothing_is_decided_before_enough_normal_data_was_seen() -> None:
    bench = Bench()
    alarms = [bench.step({0: 1e5} if tick > 100 else None) for tick in range(190)]
    assert not any(alarms)
    assert not bench.decider.calibration.ready


def test_normal_data_stays_within_the_budget() -> None:
    bench = Bench(seed=3)
    bench.warm()
    alarms = sum(bench.step() for _ in range(20_000))
    assert bench.states().count(IncidentState.OPEN) <= 1
    assert alarms <= 60


def test_a_fault_opens_one_incident_that_names_it_and_closes_afterwards() -> None:
    bench = Bench()
    bench.warm()
    for _ in range(20):
        bench.step({2: 400.0})
    for _ in range(120):
        bench.step()
    opened, *updates, closed = bench.incidents
    assert all(update.state is IncidentState.UPDATED for update in updates)
    assert (opened.state, closed.state) == (IncidentState.OPEN, IncidentState.CLOSED)
    assert opened.id == closed.id
    assert closed.contributions[0].sensor == "s2"
    assert closed.contributions[0].share > 0.8
    assert re.match(r"s2 read 5 mm at ..:..:.. UTC, expected 1 ± 0.1 mm", closed.summary)
    assert closed.first_mover == "s2"
    assert {edge.neighbour for edge in closed.broken_edges} == {"s1", "s3"}
    assert closed.series["s2"] == [1.0, 5.0]


def test_connected_sensors_are_one_incident_and_separate_ones_are_two() -> None:
    bench = Bench()
    bench.warm()
    for _ in range(6):
        bench.step({0: 300.0, 1: 300.0, 5: 300.0, 6: 300.0})
    assert [incident.state for incident in bench.incidents] == [IncidentState.OPEN] * 2
    groups = [{part.sensor for part in incident.contributions} for incident in bench.incidents]
    assert {"s0", "s1"} in groups
    assert {"s5", "s6"} in groups


def test_a_sensor_next_to_an_open_incident_joins_it() -> None:
    bench = Bench()
    bench.warm()
    for _ in range(6):
        bench.step({0: 300.0})
    for _ in range(40):
        bench.step({0: 300.0, 1: 300.0})
    assert bench.states() == [IncidentState.OPEN, IncidentState.UPDATED]
    assert {part.sensor for part in bench.incidents[-1].contributions} >= {"s0", "s1"}


@pytest.mark.parametrize(("gap", "incidents"), [(0, 1), (4, 1), (12, 0), (60, 0)])
def test_readings_that_return_after_a_gap_are_not_judged_at_once(gap: int, incidents: int) -> None:
    bench = Bench()
    bench.warm()
    for age in range(1, gap + 1):
        bench.step(age=float(age))
    for _ in range(5):  # forecasts from before the gap
        bench.step({2: 300.0, 3: 300.0})
    for _ in range(60):
        bench.step()
    assert bench.states().count(IncidentState.OPEN) == incidents


def test_a_sensor_is_judged_again_soon_after_its_return() -> None:
    bench = Bench()
    bench.warm()
    for age in range(1, 61):
        bench.step(age=float(age))
    for _ in range(20):
        bench.step({2: 300.0})
    assert bench.states() == [IncidentState.OPEN]


def test_one_glitch_is_not_an_incident() -> None:
    bench = Bench()
    bench.warm()
    bench.step({3: 30.0})
    for _ in range(30):
        bench.step()
    assert bench.states() == []


def test_a_long_fault_is_never_learned_as_normal() -> None:
    bench = Bench()
    bench.warm()
    alarms = [bench.step({2: 400.0}) for _ in range(2000)]
    assert all(alarms[10:])
    assert bench.states().count(IncidentState.OPEN) == 1


def test_severity_follows_the_criticality_of_the_sensor() -> None:
    levels = []
    for weight in (-1, 0, 1):
        bench = Bench(facts=Facts(weight))
        bench.warm()
        for _ in range(6):
            bench.step({2: 60.0})
        levels.append(list(Severity).index(bench.incidents[0].severity))
    assert levels == sorted(levels)
    assert levels[0] < levels[2]


def test_a_sensor_that_is_not_monitored_raises_nothing() -> None:
    bench = Bench()
    bench.facts.monitored[2] = False
    bench.warm()
    for _ in range(20):
        bench.step({2: 1e5})
    assert bench.states() == []


def test_a_dead_link_is_one_data_quality_incident_and_no_process_incident() -> None:
    bench = Bench()
    bench.warm()
    for _ in range(10):
        bench.step(quality=dict.fromkeys(range(6), Quality.STALE))
    for _ in range(15):
        bench.step()
    quality = [incident for incident in bench.incidents if incident.kind is IncidentKind.DATA_QUALITY]
    assert [incident.state for incident in quality] == [IncidentState.OPEN, IncidentState.CLOSED]
    assert "no longer sending" in quality[0].summary
    assert len(quality[0].contributions) == 6
    assert bench.states() == []


def test_a_short_dropout_is_no_incident() -> None:
    bench = Bench()
    bench.warm()
    for _ in range(2):
        bench.step(quality={1: Quality.NOT_FINITE})
    for _ in range(20):
        bench.step()
    assert bench.incidents == []


def test_p_values_of_normal_data_are_what_they_say() -> None:
    rng = np.random.default_rng(5)
    calibration = Calibration(2, 200)
    for row in rng.normal(size=(3000, 2)):
        calibration.learn(row)
    p = np.array([p_of(calibration, row) for row in rng.normal(size=(4000, 2))])
    for level in (0.5, 0.1, 0.01):  # two independent statistics: Bonferroni is nearly exact for small levels
        assert abs((p <= level).mean() - (1 - (1 - level / 2) ** 2)) < 4 * np.sqrt(level / 4000) + 0.3 * level


def test_p_values_fall_as_rows_grow_even_far_beyond_the_calibration() -> None:
    rng = np.random.default_rng(5)
    calibration = Calibration(1, 200)
    for row in rng.normal(size=(1000, 1)):
        calibration.learn(row)
    values = [p_of(calibration, np.array([x])) for x in (0.0, 2.0, 4.0, 8.0, 16.0)]
    assert all(later < before for before, later in pairwise(values))  # type: ignore[operator]


def test_the_tail_fit_recovers_an_exponential_and_a_heavy_tail() -> None:
    rng = np.random.default_rng(0)
    scale, shape = fit_pareto(np.sort(rng.exponential(2.0, 5000)))
    assert scale == pytest.approx(2.0, rel=0.15)
    assert shape < 0.1
    heavy = np.sort((rng.uniform(size=5000) ** -0.08 - 1) / 0.08)
    scale, shape = fit_pareto(heavy)
    assert shape == pytest.approx(0.08, abs=0.05)
    assert scale == pytest.approx(1.0, rel=0.15)


@pytest.mark.parametrize("excess", [np.zeros(0), np.zeros(100), np.full(3, 1.0)])
def test_the_tail_fit_survives_degenerate_data(excess: np.ndarray) -> None:
    scale, shape = fit_pareto(excess)
    assert scale > 0
    assert 0 <= shape <= 0.1


def test_saved_rows_give_the_same_p_values_again() -> None:
    rng = np.random.default_rng(2)
    first, second = Calibration(2, 100, 300), Calibration(2, 100, 300)
    for row in rng.normal(size=(1000, 2)):
        first.learn(row)
    first._fit()
    second.load(first.rows())
    probe = np.array([2.5, 3.0])
    assert p_of(second, probe) == pytest.approx(p_of(first, probe))


def test_statistics_are_log_means_over_all_and_over_the_worst() -> None:
    statistics = PlantStatistics()
    score, counts = np.array([1, 1, 1, 1, 5, 9], np.float32), np.array([1, 1, 1, 1, 1, 0], bool)
    row = statistics.update(score, 2 * score, counts, None)
    assert row is not None
    expected = [1.8, 7 / 3, 1.8, 7 / 3, 10, 14 / 3, 1.8]
    assert row == pytest.approx(np.log(np.array(expected) + 1e-3), rel=1e-4)
    assert statistics.update(np.zeros(2, np.float32), np.zeros(2, np.float32), np.zeros(2, bool), None) is None


def test_what_the_ensemble_says_of_the_plant_is_a_statistic_of_its_own() -> None:
    statistics, ones, counts = PlantStatistics(), np.ones(3, np.float32), np.ones(3, bool)
    rows = [statistics.update(ones, ones, counts, plant) for plant in (1.0, 2.0, 6.0)]
    assert [row[-1] for row in rows if row is not None] == [1.0, 1.5, 3.0]


def test_a_restless_sensor_does_not_drown_the_others() -> None:
    """One sensor whose model never fits: its own faults need more, those of the others do not."""
    bench = Bench()
    for _ in range(2500):
        bench.step({7: float(1000 * bench.rng.chisquare(1))})
    bench.incidents.clear()
    for _ in range(20):
        bench.step({2: 200.0, 7: float(1000 * bench.rng.chisquare(1))})
    assert bench.incidents[0].contributions[0].sensor == "s2"


def test_a_small_deviation_that_lasts_is_found() -> None:
    bench = Bench()
    bench.warm(3000)
    for _ in range(60):
        bench.step({4: float(9.0 + bench.rng.chisquare(1))})
    assert bench.states()[:1] == [IncidentState.OPEN]
    assert bench.incidents[0].contributions[0].sensor == "s4"


def test_ids_keep_the_order_of_events_within_a_millisecond_and_while_the_clock_is_set_back() -> None:
    make = UlidMaker(random.Random(1))
    times = [5_000_000_000] * 50 + [1_000_000_000, -1, 5_000_999_999] * 50 + [5_001_000_000]
    ids = [make(wall_ns) for wall_ns in times]
    assert ids == sorted(set(ids))
    assert {one[:10] for one in ids[:-1]} == {ids[0][:10]}
    assert ids[-1][:10] > ids[0][:10]


def test_ids_are_ulids_that_sort_by_time() -> None:
    make = UlidMaker(random.Random(1))
    ids = [make(second * 10**9) for second in range(1, 50)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {26}
    assert len(set(ids)) == 49


@pytest.mark.parametrize("detect_within", ["60s", "10m"])
@pytest.mark.parametrize(("score", "ticks"), [(400.0, 20), (60.0, 40)])
def test_an_incident_closes_soon_after_all_is_normal_however_long_evidence_adds_up(
    detect_within: str, score: float, ticks: int
) -> None:
    options = OPTIONS.model_copy(update={"close_after": 30.0, "detect_within": 600.0 if "m" in detect_within else 60.0})
    bench = Bench(options, seed=1)
    bench.warm()
    for _ in range(ticks):
        bench.step({2: score})
    over = bench.tick
    for _ in range(300):
        bench.step()
    assert bench.states().count(IncidentState.OPEN) == 1
    assert 30 <= bench.incidents[-1].updated_ns // 10**9 - over <= 40
