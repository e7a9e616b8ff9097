"""Evidence to words: cases by table. Every statement must follow from the readings and scores given."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.decision import explain
from edge_agent.decision.explain import Evidence, Moment
from edge_agent.decision.facts import Relation
from edge_agent.decision.trail import TICKS, Trail
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import SENSOR_MEMBERS, Finding, Scores

SENSORS = ("LIT301", "FIT201", "P101", "AIT202")
UNITS = ("mm", "m³/h", None, "pH")
USUAL = (650.0, 2.0, 1.0, 7.0)
QUIET = np.full((5, 4), 0.5)


class Plant:
    """A little plant that is scored as a test says. The first sensor leans on the two after it."""

    def __init__(self, sensors: tuple[str, ...] = SENSORS, seed: int = 0) -> None:
        self.sensors = sensors
        self.count = len(sensors)
        self.monitored = np.ones(self.count, np.bool_)
        self.rng = np.random.default_rng(seed)
        self.values: list[np.ndarray] = []
        self.trail = Trail()
        self.related: dict[int, list[Relation]] = {}
        self.neighbour = np.full((self.count, 2), -1)
        self.attention = np.zeros((self.count, 2), np.float32)

    def unit(self, sensor: int) -> str | None:
        return UNITS[sensor % len(UNITS)]

    def weight(self, sensor: int) -> int:
        return 0

    def source(self, sensor: int) -> str | None:
        return None

    def readings(self, sensors: np.ndarray, ticks: int) -> np.ndarray:
        return np.array(self.values[-ticks:])[:, sensors]

    def relations(self, sensor: int, most: int) -> list[Relation]:
        return self.related.get(sensor, [])[:most]

    def usual(self) -> np.ndarray:
        level = np.resize(USUAL, self.count)
        return level * (1 + 0.002 * self.rng.normal(size=self.count))

    def tick(self, values: np.ndarray, members: np.ndarray | None, forecasts: np.ndarray | None = None) -> Moment:
        """``members`` [5, N]: their scores; None: the model is alone and scores 1 where nothing is off."""
        self.values.append(values)
        level = np.resize(USUAL, self.count)
        off = ((values - level) / (0.01 * level)) ** 2
        score = off if members is None else members.mean(0)
        told = None if members is None else np.resize(level, (3, self.count)) if forecasts is None else forecasts
        scores = Scores(
            score.astype(np.float32), level.astype(np.float32), (0.01 * level).astype(np.float32),
            np.ones(self.count, np.bool_), self.neighbour, self.attention, member_scores=members, forecasts=told,
        )  # fmt: skip
        tick = len(self.values) - 1
        snapshot = Snapshot(
            tick, tick * 10**9, 1, self.sensors, values, np.zeros(self.count, np.float32),
            np.zeros(self.count, np.int32), np.ones(self.count, np.bool_), self.neighbour,
        )  # fmt: skip
        self.trail.update(snapshot, scores)
        return Moment(snapshot, scores, scores.score, self, self.trail, 1.0)

    def warm(self, ticks: int = 100, *, alone: bool = False) -> None:
        for _ in range(ticks):
            self.tick(self.usual(), None if alone else np.full((5, self.count), 0.5))


def sentence(known: dict[str, Evidence], moment: Moment, first_ns: int | None = None) -> str:
    evidence, now_ns = list(known.values()), moment.snapshot.time_ns
    steps = explain.propagation(evidence, 1.0)
    return explain.summary(evidence, steps, steps[0].tick * 10**9 if first_ns is None else first_ns, now_ns)


def loud(**scores: float) -> np.ndarray:
    """Scores of the first sensor by members."""
    members = QUIET.copy()
    for name, score in scores.items():
        members[SENSOR_MEMBERS.index(name.replace("_", " ")), 0] = score
    return members


LESS = [Relation(1, 0.5, -100.0), Relation(2, 0.4, -80.0), Relation(3, 0.1, -200.0)]
STILL = [Relation(1, 0.5, 0.1), Relation(2, 0.4, -0.1)]


@pytest.mark.parametrize(
    ("related", "text"),
    [
        (LESS, "LIT301 rises 3.9 mm/s (usually at most 0.29 mm/s), from 652.1 mm to 690 mm, "
               "while FIT201 (0 m³/h) and P101 (0) speak for less; first seen 00:01:40 UTC"),
        (STILL, "LIT301 rises 3.9 mm/s (usually at most 0.29 mm/s), from 652.1 mm to 690 mm, "
                "which does not fit FIT201 and P101; first seen 00:01:40 UTC"),
        ([Relation(1, 0.5, 100.0)], "LIT301 rises 3.9 mm/s (usually at most 0.29 mm/s), from 652.1 mm to 690 mm, "
                                    "which does not fit FIT201; first seen 00:01:40 UTC"),
        ([], "LIT301 rises 3.9 mm/s (usually at most 0.29 mm/s), from 652.1 mm to 690 mm; first seen 00:01:40 UTC"),
    ],
    ids=["neighbours speak against it", "neighbours as usual", "neighbours agree", "no relation known"],
)  # fmt: skip
def test_a_level_that_rises_against_its_neighbours(related: list[Relation], text: str) -> None:
    plant = Plant()
    plant.warm()
    plant.related = {0: related}
    known: dict[str, Evidence] = {}
    for step in range(1, 11):
        values = np.array([650.0 + 4.0 * step, 0.0, 0.0, 7.0])
        moment = plant.tick(values, loud(relation=100.0 + 30 * step, own_history=40.0))
        explain.gather(known, moment, [0])
    assert sentence(known, moment) == text


@pytest.mark.parametrize(
    ("member", "forecast", "text"),
    [
        ("own_history", 0, "expected 650 ± 5 mm by its own past (10 times its usual deviation)"),
        ("shared_history", 1, "expected 650 ± 5 mm by its past and that of others "
                              "(10 times its usual deviation)"),
        ("relation", 2, "expected 650 ± 5 mm by what others read (10 times its usual deviation)"),
        ("model", None, "expected 650 ± 6.5 mm (7.7 times its usual deviation)"),
    ],
)  # fmt: skip
def test_what_the_member_expected_that_is_most_surprised_is_told(member: str, forecast: int | None, text: str) -> None:
    plant = Plant()
    plant.warm(10)  # too few to say how it usually moves
    forecasts = np.full((3, 4), 690.0)
    if forecast is not None:
        forecasts[forecast, 0] = 650.0
    moment = plant.tick(np.array([700.0, 2.0, 1.0, 7.0]), loud(**{member: 100.0}), forecasts)
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    (part,) = explain.contributions(list(known.values()), 8)
    assert part.reason == f"read 700 mm at 00:00:10 UTC, {text}"
    assert (part.finding, part.judged_by) == (Finding.ABOVE, member.replace("_", " "))
    assert part.seen == 700.0
    assert part.expected == pytest.approx(650.0)


def test_a_sensor_that_repeats_its_past_is_said_to_fit_it_and_not_the_others() -> None:
    plant = Plant()
    plant.warm(10)
    plant.related = {0: STILL}
    known: dict[str, Evidence] = {}
    forecasts = np.array([[650.5] * 4, [640.0] * 4, [600.0] * 4])
    for _ in range(5):
        moment = plant.tick(np.array([650.0, 2.0, 1.0, 7.0]), loud(relation=100.0), forecasts)
        explain.gather(known, moment, [0])
    assert sentence(known, moment).startswith(
        "LIT301 read 650 mm at 00:00:10 UTC, expected 600 ± 5 mm by what others read, "
        "which does not fit FIT201 and P101; by its own past it would be normal"
    )


def test_without_companions_the_model_and_its_attention_are_told() -> None:
    plant = Plant()
    plant.neighbour[0], plant.attention[0] = (1, 3), (0.7, 0.1)
    plant.warm(alone=True)
    moment = plant.tick(np.array([700.0, 2.0, 1.0, 7.0]), None)
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    assert [(edge.sensor, edge.neighbour) for edge in explain.broken_edges(list(known.values()))] == [
        ("LIT301", "FIT201")
    ]
    assert "jumped from" in sentence(known, moment)
    assert "which does not fit FIT201;" in sentence(known, moment)


def test_an_edge_is_broken_only_where_a_member_that_uses_it_is_surprised() -> None:
    plant = Plant()
    plant.related, plant.neighbour[0], plant.attention[0] = {0: STILL}, (1, 3), (0.7, 0.3)
    plant.warm()
    moment = plant.tick(np.array([700.0, 2.0, 1.0, 7.0]), loud(own_history=100.0))
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    assert explain.broken_edges(list(known.values())) == ()


def test_the_order_is_that_of_onset_and_the_first_mover_is_named() -> None:
    plant = Plant()
    plant.warm()
    known: dict[str, Evidence] = {}
    for step in range(20):
        members = np.where(np.array([step >= 8, step >= 3, True, False]), 60.0, QUIET)
        members[:, 0] *= 4 if step >= 8 else 1
        moment = plant.tick(plant.usual(), members)
        if step >= 10:
            explain.gather(known, moment, [0, 1, 2])
    steps = explain.propagation(list(known.values()), 2.0)
    assert [(one.sensor, one.tick, one.after_s) for one in steps] == [
        ("P101", 100, 0.0),
        ("FIT201", 103, 6.0),
        ("LIT301", 108, 16.0),
    ]
    assert sentence(known, moment).endswith("; first seen 00:01:40 UTC at P101")


def test_a_glitch_long_ago_is_not_when_it_was_first_seen() -> None:
    plant = Plant()
    plant.warm()
    plant.tick(plant.usual(), loud(own_history=1e5))
    plant.warm(30)
    moment = plant.tick(plant.usual(), loud(own_history=1e5))
    assert plant.trail.onset[0] == moment.snapshot.tick


def test_sensors_that_come_and_go_keep_their_onset() -> None:
    plant = Plant()
    plant.warm()
    plant.tick(plant.usual(), loud(own_history=1e5))
    onset = int(plant.trail.onset[0])
    plant.sensors = ("NEW", *SENSORS[:3])
    members = np.roll(loud(own_history=1e5), 1, axis=1)
    plant.tick(np.roll(plant.usual(), 1), members)
    assert plant.trail.onset[1] == onset
    assert np.isnan(plant.trail.expected(0, "model", range(99, 101))).all()
    assert plant.trail.expected(1, "model", range(99, 101)).tolist() == [650.0, 650.0]


def test_where_none_stands_out_that_is_said() -> None:
    plant = Plant()
    plant.warm(10)
    moment = plant.tick(np.array([655.0, 2.0, 1.0, 7.0]), loud(model=6.0))
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    assert sentence(known, moment).startswith(
        "many sensors are a little unlike usual, none stands out; the worst: LIT301"
    )


def test_the_date_is_told_of_what_began_long_ago() -> None:
    plant = Plant()
    plant.warm(10)
    moment = plant.tick(np.array([700.0, 2.0, 1.0, 7.0]), loud(model=60.0))
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    later = replace(moment.snapshot, time_ns=13 * 3600 * 10**9)
    assert sentence(known, replace(moment, snapshot=later), 0).endswith("first seen 1970-01-01 00:00:00 UTC")


@pytest.mark.parametrize(("ticks", "points", "step_s"), [(7, 7, 1.0), (120, 120, 1.0), (121, 61, 2.0), (600, 120, 2.0)])
def test_a_series_is_bounded_and_ends_now(ticks: int, points: int, step_s: float) -> None:
    plant = Plant()
    plant.warm(ticks - 1)
    moment = plant.tick(np.array([700.0, 2.0, 1.0, 7.0]), loud(model=60.0))
    known: dict[str, Evidence] = {}
    explain.gather(known, moment, [0])
    found = explain.series(moment.snapshot, list(known.values()), plant, plant.trail, 1.0)
    assert (len(found.seen["LIT301"]), len(found.expected["LIT301"]), found.step_s) == (points, points, step_s)
    assert (found.seen["LIT301"][-1], found.expected["LIT301"][-1]) == (700.0, 650.0)
    assert found.first_ns is not None
    assert found.first_ns + round((points - 1) * step_s * 1e9) == moment.snapshot.time_ns
    assert points <= TICKS


def test_shares_add_up_and_are_those_of_blame() -> None:
    plant = Plant()
    plant.warm()
    members = QUIET.copy()
    members[SENSOR_MEMBERS.index("own history")] = (10.0, 60.0, 30.0, 0.0)  # another one is the worst by all members
    members[SENSOR_MEMBERS.index("relation")] = (80.0, 10.0, 10.0, 10.0)
    known: dict[str, Evidence] = {}
    explain.gather(known, plant.tick(plant.usual(), members), [0, 1, 2, 3])
    parts = explain.contributions(list(known.values()), 8)
    assert [part.sensor for part in parts] == ["FIT201", "P101", "LIT301", "AIT202"]
    assert sum(part.share for part in parts) == pytest.approx(1.0, abs=1e-3)


def test_a_thousand_sensors_in_alarm_cost_little() -> None:
    plant = Plant(tuple(f"S{number}" for number in range(1000)))
    plant.warm(60)
    group, spent = list(range(1000)), []
    known: dict[str, Evidence] = {}
    for step in range(12):
        moment = plant.tick(plant.usual(), np.full((5, 1000), 20.0 * 1.2**step))
        start = time.thread_time()
        explain.gather(known, moment, group)
        evidence = list(known.values())
        explain.summary(evidence, explain.propagation(evidence, 1.0), 0, 0)
        explain.contributions(evidence, 8)
        explain.series(moment.snapshot, evidence, plant, plant.trail, 1.0)
        spent.append(time.thread_time() - start)
    assert len(known) == 1000
    assert min(spent) < 0.02
