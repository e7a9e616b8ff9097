"""The companions of a plant as the pipeline uses them."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
from plants import Rig, plant

from edge_agent.companions import CompanionOptions
from edge_agent.companions.admission import GROUP
from edge_agent.companions.under_alarm import Moment, UnderAlarm

NORMAL = plant(1_500)


@cache
def _warm() -> Rig:
    rig = Rig()
    rig.feed(NORMAL[:1_000])
    rig.companions.consolidate()
    return rig


def warmed() -> Rig:
    """Companions that have seen 1,000 normal ticks."""
    return deepcopy(_warm())


def test_squares_are_about_one_and_the_plant_about_zero_on_normal_readings() -> None:
    found = warmed().feed(NORMAL[1_000:], suspicious=True)
    scores = np.array([scores.score for scores in found])
    assert 0.7 < scores.mean() < 1.4
    plant_scores = [scores.plant for scores in found if scores.plant is not None]
    assert len(plant_scores) == len(found)
    assert abs(float(np.mean(plant_scores))) < 0.5


def test_a_sensor_that_repeats_its_own_past_is_seen_by_its_relation_only() -> None:
    rig, faulty = warmed(), NORMAL[1_000:1_200].copy()
    faulty[100:, 3] = NORMAL[400:500, 3]
    found = rig.feed(faulty, suspicious=True)
    late = found[-60:]
    assert np.mean([scores.members["relation"] for scores in late]) > 3.0
    assert np.mean([scores.members["own history"] for scores in late]) < 1.0
    assert int(np.mean([scores.score for scores in late], axis=0).argmax()) == 3


def test_ticks_under_alarm_teach_nothing() -> None:
    calm, alarmed = warmed(), warmed()
    odd = NORMAL[1_000:1_300] * 1.3
    alarmed.feed(odd, alarm=True)
    for rig in (calm, alarmed):
        rig.companions.forget_recent()
    told = [rig.feed(NORMAL[1_300:], suspicious=True)[-1] for rig in (calm, alarmed)]
    np.testing.assert_array_equal(told[0].score, told[1].score)


def test_an_alarm_takes_back_what_was_still_waiting() -> None:
    calm, attacked = warmed(), warmed()
    attacked.feed(NORMAL[1_000:1_040] * 1.1, delay=60)  # creeps up, then is found out
    attacked.feed(NORMAL[1_040:1_050] * 1.3, alarm=True)
    for rig in (calm, attacked):
        rig.companions.forget_recent()
    told = [rig.feed(NORMAL[1_300:], suspicious=True)[-1] for rig in (calm, attacked)]
    np.testing.assert_array_equal(told[0].score, told[1].score)


def test_what_stays_for_thousands_of_ticks_is_accepted() -> None:
    rig = warmed()
    other = plant(6_500, seed=4) + 10.0 ** np.arange(8).clip(0, 4) * 15.0
    first = rig.feed(other[:500], alarm=True, suspicious=True)
    last = rig.feed(other[500:], alarm=True, suspicious=True)
    assert np.mean([scores.plant for scores in first]) > 3.0
    assert -3.0 < float(np.mean([scores.plant for scores in last[-300:]])) < 1.5


def test_much_suspicion_stops_learning() -> None:
    calm, doubted = warmed(), warmed()
    doubted.feed(NORMAL[1_000:1_100], suspicious=True)
    doubted.feed(NORMAL[1_000:1_010] * 1.3)  # not suspicious by itself, but everything around it is
    for rig in (calm, doubted):
        rig.companions.forget_recent()
    told = [rig.feed(NORMAL[1_300:], suspicious=True)[-1] for rig in (calm, doubted)]
    np.testing.assert_allclose(told[0].score, told[1].score)


def test_saved_and_restored_companions_say_the_same() -> None:
    rig, other = warmed(), Rig()
    other.companions.restore(rig.companions.export())
    for each in (rig, other):
        each.companions.forget_recent()
    ours, theirs = (each.feed(NORMAL[1_000:1_200], suspicious=True)[-1] for each in (rig, other))
    np.testing.assert_allclose(ours.score, theirs.score, rtol=2e-2)
    assert ours.plant == pytest.approx(theirs.plant, abs=0.05)


@pytest.mark.parametrize("damage", ["group0.gram", "group0.variance", "combination.table", "group0.usual"])
def test_damaged_saved_companions_are_refused_and_change_nothing(damage: str) -> None:
    rig = warmed()
    state = warmed().companions.export()
    state[damage] = state[damage][:-1]
    with pytest.raises(ValueError, match="saved"):
        rig.companions.restore(state)
    assert rig.companions.sensors == 8


def test_sensors_may_change_place_leave_and_come() -> None:
    rig = warmed()
    order = np.array([7, 2, 0, 1, 3, 4, 6, 5])
    names = tuple(f"s{i}" for i in order)
    rig.companions.forget_recent()
    straight = warmed()
    straight.companions.forget_recent()
    moved = rig.feed(NORMAL[1_000:1_100, order], names=names, suspicious=True)[-1]
    same = straight.feed(NORMAL[1_000:1_100], suspicious=True)[-1]
    np.testing.assert_allclose(moved.score, same.score[order], rtol=1e-5)
    rig.feed(NORMAL[1_100:1_150, order[:5]], names=names[:5])
    assert rig.companions.sensors == 5
    wide = plant(1_500, sensors=9)[1_150:]
    rig.feed(wide, names=tuple(f"s{i}" for i in range(9)))
    assert rig.companions.sensors == 9


def test_groups_side_by_side_say_what_each_says_alone() -> None:
    """Groups have nothing to do with each other, whatever comes and goes in the one beside."""
    wide = plant(480, sensors=GROUP + 8)
    both, alone = Rig(GROUP), Rig(GROUP)
    wider = tuple(f"s{i}" for i in range(GROUP + 8))
    for rig in (both, alone):
        rig.feed(wide[:250, :GROUP])
    for start, stop, more in ((250, 420, 8), (420, 450, 5), (450, 480, 5)):
        found = both.feed(wide[start:stop, : GROUP + more], names=wider[: GROUP + more], delay=20)
        expected = alone.feed(wide[start:stop, :GROUP], delay=20)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one.member_scores[:, :GROUP], other.member_scores, rtol=1e-9)
    assert both.companions.status()["groups"] == 2
    assert both.companions.sensors == GROUP + 5


def test_more_sensors_than_allowed_leave_the_model_alone() -> None:
    rig = Rig(options=CompanionOptions(max_sensors=7))
    found = rig.feed(NORMAL[:300])
    assert rig.companions.sensors == 0
    assert (found[-1].score == 1.0).all()


def test_missing_sensors_do_not_silence_the_others() -> None:
    rig, rows = warmed(), NORMAL[1_000:1_100].copy()
    rows[:, 2] = np.nan
    found = rig.feed(rows, suspicious=True)[-1]
    assert found.plant is not None
    assert np.isfinite(found.score).all()
    assert found.score[2] == 0.0  # the model's score is not valid there


@pytest.mark.parametrize("value", [1e300, -1e300, 0.0])
def test_absurd_readings_give_finite_scores_and_harm_nothing(value: float) -> None:
    rig, calm = warmed(), warmed()
    row = NORMAL[1_000].copy()
    row[4] = value
    found = rig.feed(row[None], suspicious=True)[0]
    assert np.isfinite(found.score).all()
    for each in (rig, calm):
        each.companions.forget_recent()
    told = [each.feed(NORMAL[1_300:], suspicious=True)[-1] for each in (rig, calm)]
    np.testing.assert_allclose(told[0].score, told[1].score, rtol=1e-6)


def test_the_same_readings_give_the_same_bits() -> None:
    first, second = (Rig().feed(NORMAL[:400]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.score.tobytes() == other.score.tobytes()
        assert one.plant == other.plant


def test_a_pump_that_hardly_ever_switches_is_no_sensation_when_it_does() -> None:
    rig = Rig()
    rows = NORMAL[:1_200].copy()
    rows[:, 6] = 1.0
    rows[600:640, 6] = 0.0
    found = rig.feed(rows)
    rows[:, 6] = 0.0
    switched = rig.feed(rows[1_190:])
    assert max(float(scores.score[6]) for scores in switched) <= 2.0 * np.log(1_200)
    assert found[-1].plant is not None


def test_a_sensor_that_goes_silent_neither_votes_nor_makes_its_neighbours_odd() -> None:
    rig, rows = warmed(), NORMAL[1_000:1_400].copy()
    rows[100, 2] = 0.0
    rows[101:, 2] = np.nan
    found = rig.feed(rows, suspicious=True)
    assert abs(float(np.mean([scores.plant for scores in found[200:]]))) < 1.0


def test_fits_go_on_for_ever() -> None:
    rig = Rig(sensors=3, options=CompanionOptions(remember=500))
    rig.feed(plant(2_500, sensors=3))
    mixed = plant(3_500, sensors=3, seed=1)
    mixed[:, 2] = 2.0 * mixed[:, 0] + np.random.default_rng(0).normal(0, 0.1, len(mixed))  # another relation
    found = rig.feed(mixed)
    late = np.mean([scores.members["relation"] for scores in found[-200:] if "relation" in scores.members])
    assert late < 3.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("groups", np.array([1, 2])),
        ("groups", np.array(np.inf)),
        ("group0.names", np.array("s0")),
        ("group0.rows", np.array(-5.0)),
        ("group0.sample_seen", np.array(-1)),
        ("group0.gram", np.array(["x"])),
        ("group0.spread", np.zeros(8)),
        ("combination.table", np.full((5, 6), 1e308)),
        ("combination.members", np.array("x")),
    ],
)
def test_a_hostile_saved_state_is_refused(name: str, value: np.ndarray) -> None:
    rig, state = warmed(), warmed().companions.export()
    before = rig.companions.status()
    with pytest.raises((KeyError, ValueError)):
        rig.companions.restore(state | {name: value})
    assert rig.companions.status() == before


def washing(rows: np.ndarray) -> np.ndarray:
    """Once a day two filters are washed: what the sensors there read goes up together for a minute."""
    found = rows.copy()
    found[20:80, 3:5] += 10.0 ** np.arange(3, 5) * 8.0
    return found


@pytest.mark.parametrize("false_alarm", [True, False])
def test_what_was_seen_under_a_false_alarm_is_no_alarm_the_next_time(false_alarm: bool) -> None:
    rig = warmed()
    first = washing(NORMAL[1_000:1_100])
    rig.feed(first[:22], delay=60)
    told = rig.feed(first[22:], alarm=True, incident="A")
    rig.feed(NORMAL[1_100:1_150], delay=60)
    rig.companions.judged("A", told[-1].members, false_alarm=false_alarm)
    rig.feed(NORMAL[1_150:1_200], delay=60)
    again = rig.feed(washing(NORMAL[1_200:1_300]), alarm=True, incident="B")[22:]
    before, after = (float(np.mean([scores.plant for scores in found[:58]])) for found in (told, again))
    assert before > 3.0
    assert (after < 0.5 * before) == false_alarm


def test_learning_a_false_alarm_does_not_disturb_the_stream() -> None:
    judged, other = warmed(), warmed()
    for rig in (judged, other):
        rig.feed(NORMAL[1_000:1_050] * 1.1, alarm=True, incident="A")
        rig.feed(NORMAL[1_050:1_060], suspicious=True)
    judged.companions.judged("A", {}, false_alarm=True)
    ours, theirs = (rig.feed(NORMAL[1_060:1_061], suspicious=True)[0] for rig in (judged, other))
    np.testing.assert_allclose(ours.forecasts, theirs.forecasts)  # the same lags, and weights not yet fitted anew


def test_a_false_alarm_is_learned_though_sensors_have_come_and_gone_since() -> None:
    rig = warmed()
    rig.feed(washing(NORMAL[1_000:1_100]), alarm=True, incident="A")
    rig.feed(plant(1_500, sensors=9)[1_100:1_300, 1:], names=tuple(f"s{i}" for i in range(1, 9)))
    rows = rig.companions.status()["rows"]
    rig.companions.judged("A", {}, false_alarm=True)
    assert rig.companions.status()["rows"] > rows


def moment(tick: int, width: int = 1) -> Moment:
    there = np.ones(width, np.bool_)
    return Moment(tick, tuple(f"s{i}" for i in range(width)), np.zeros(width), there, there, np.zeros(6))


@pytest.mark.parametrize(("width", "kept"), [(1, 300), (1_000, 100)])
def test_of_an_alarm_its_beginning_is_kept_and_a_little_before(width: int, kept: int) -> None:
    held = UnderAlarm()
    for tick in range(500):
        held.note(moment(tick, width), "A" if tick >= 50 else None)
    assert [one.tick for one in held.taken("A")] == list(range(30, 30 + kept))
    assert held.taken("A") == []


def test_the_latest_alarms_are_kept() -> None:
    held = UnderAlarm()
    for tick, incident in enumerate("ABCDEF"):
        held.note(moment(tick), incident)
    assert [bool(held.taken(incident)) for incident in "ABCDEF"] == [False, False, True, True, True, True]
