"""Each kind of rule, tick by tick: ``#`` it holds, ``-`` it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError
from ticking import Plant, options

from edge_agent.rules.rules import MOST_CONDITIONS
from edge_agent.sample import Quality

N = None


def held(rule: dict[str, object], series: list[float | None], **more: object) -> str:
    return Plant({"r": {"sensors": ["x"], **rule}}, **more).held(series)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "series", "expected"),
    [
        ({"above": 5}, [5, 6, 5, 6], "-#-#"),
        ({"below": 5}, [5, 4, 5, 4], "-#-#"),
        ({"above": 5, "below": 1}, [0, 3, 6, 3], "#-#-"),
        ({"above": 5, "deadband": 2}, [5, 6, 5, 4, 3.5, 3, 4, 6], "-####--#"),
        ({"below": 5, "deadband": 2}, [4, 6, 7, 6], "##--"),
        ({"above": 5, "below": 1, "deadband": 1}, [6, 4.5, 4, 1.5, 0, 1.5, 2], "##--##-"),
        ({"above": 5}, [N, 6, N, N, 5], "-###-"),
        ({"above": 5, "deadband": 2}, [6, N, 4, N, 3], "####-"),
    ],
)
def test_limit(limit: dict[str, object], series: list[float | None], expected: str) -> None:
    assert held({"limit": limit}, series) == expected


@pytest.mark.parametrize(
    ("rate", "series", "expected"),
    [
        ({"above": 2, "per": "3s"}, [0, 1, 2, 3, 4, 4, 4, 4], "---##---"),
        ({"below": -2, "per": "2s"}, [9, 9, 9, 5, 5, 5], "---##-"),
        ({"above": 2, "per": "2s", "deadband": 1}, [0, 0, 3, 3, 5, 6, 6], "--####-"),
        ({"above": 2, "per": "2s"}, [0, 0, N, 5, 5, 5], "---##-"),
        ({"above": 2, "per": "2s"}, [N, 0, 5, 5, 5], "---#-"),
    ],
)
def test_rate(rate: dict[str, object], series: list[float | None], expected: str) -> None:
    assert held({"rate": rate}, series) == expected


def test_rate_over_a_time_longer_than_its_samples_is_scaled_to_it() -> None:
    plant = Plant({"r": {"sensors": ["x"], "rate": {"above": 9.9, "per": "1000s"}}})
    shown = plant.held([0.01 * i for i in range(1_100)])
    assert shown.index("#") == pytest.approx(1_000, abs=9)
    assert shown.endswith("#")


@pytest.mark.parametrize(
    ("deviation", "series", "expected"),
    [
        ({"target": 10, "by": 2}, [10, 12, 12.5, 8, 7.5], "--#-#"),
        ({"target": 10, "by": 2, "deadband": 1}, [13, 11.5, 11, 12], "##--"),
        ({"target": "set", "by": 2}, [10, 12.5, N, 10], "-##-"),
    ],
)
def test_deviation(deviation: dict[str, object], series: list[float | None], expected: str) -> None:
    plant = Plant({"r": {"sensors": ["x"], "deviation": deviation}})
    assert plant.held(series, set=10.0) == expected


def test_a_deviation_from_a_missing_setpoint_is_unknown() -> None:
    plant = Plant({"r": {"sensors": ["x"], "deviation": {"target": "set", "by": 2}}})
    assert plant.held([50.0, 60.0], set=None) == "--"


@pytest.mark.parametrize(
    ("lasting", "clear_after", "series", "expected"),
    [
        ("0s", "0s", [1, 0, 1], "#-#"),
        ("2s", "0s", [1, 1, 1, 0, 1, 1, 1], "--#---#"),
        ("2s", "0s", [1, 1, 0, 1, 1, 1], "-----#"),
        ("0s", "2s", [1, 0, 0, 0, 1], "###-#"),
        ("0s", "2s", [1, 0, 0, 1, 0, 0, 0], "######-"),
        # Unknown time does not count, and does not begin it anew.
        ("2s", "0s", [1, 1, N, N, 1, 1, 1], "-----#" + "#"),
        ("0s", "2s", [1, 0, 0, N, N, 0, 0], "######-"),
        ("2s", "0s", [1, N, 0, N, 1, 1, 1], "------#"),
        ("0s", "0s", [N, N, N], "---"),
        ("0s", "0s", [1, N, N, N], "####"),
    ],
)
def test_how_long(lasting: str, clear_after: str, series: list[float | None], expected: str) -> None:
    rule = {"limit": {"above": 0.5}, "for": lasting, "clear_after": clear_after}
    assert held(rule, series) == expected
    when = {"when": f"sensor > 0.5 for {lasting}", "clear_after": clear_after}
    assert held(when, series) == expected


def test_ticks_that_were_missed_count_as_time() -> None:
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 0.5}, "for": "30s"}})
    plant.see({"x": 1.0})
    plant.ticks = 29
    plant.see({"x": 1.0})
    assert not plant.rules.holding
    plant.see({"x": 1.0})
    assert plant.rules.holding


def test_short_ticks_add_up_without_losing_any() -> None:
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 0.5}, "for": "1s"}}, period_s=0.01)
    assert plant.held([1.0] * 102).index("#") == 100


@pytest.mark.parametrize(
    ("when", "series", "expected"),
    [
        ("rate(x, 2s) > 1", [0, 0, 3, 3, 3], "--##-"),
        ("rate(x, 2s) < -1", [3, 3, 0, 0, 0], "--##-"),
        ("changed(x)", [1, 1, 2, 2], "#-#-"),
        ("changed(x, 2s)", [1, 1, 1, 2, 2, 2], "##-##-"),
        ("stuck(x, 2s)", [1, 1, 1, 2, 2, 2, 3], "--#--#-"),
        ("stuck(x, 2s)", [1, N, 1, 1], "--##"),
        ("missing(x)", [1, N, N, 1], "-##-"),
        ("missing(x) for 2s", [N, N, N, 1], "--#-"),
        ("abs(x - 5) > 2", [5, 8, 2, 5], "-##-"),
    ],
)
def test_functions_in_time(when: str, series: list[float | None], expected: str) -> None:
    assert Plant({"r": {"when": when}}).held(series) == expected


def test_age_counts_from_the_last_good_reading() -> None:
    plant = Plant({"r": {"when": "age(x) > 2s"}})
    shown = []
    for age in (0, 1, 2, 3, 100, 0):
        plant.see({"x": 1.0}, ages={"x": age})
        shown.append(bool(plant.rules.holding))
    assert shown == [False, False, False, True, True, False]


def test_until_ends_what_when_began() -> None:
    plant = Plant({"r": {"when": "x > 5", "until": "x < 2"}})
    assert plant.held([4, 6, 4, 1, 4]) == "-##--"


def test_until_that_is_unknown_ends_nothing() -> None:
    plant = Plant({"r": {"when": "x > 5", "until": "y < 2 for 1s"}})
    assert plant.held([6, 1, 1], y=None) == "###"
    assert plant.held([1, 1], y=1.0) == "#-"


@pytest.mark.parametrize("flag", [Quality.BAD, Quality.OUT_OF_RANGE, Quality.STUCK, Quality.STALE])
def test_a_flagged_value_is_missing_unless_asked_for(flag: Quality) -> None:
    rules = {"trusting": {"limit": {"above": 5}, "flagged": True}, "careful": {"limit": {"above": 5}}}
    plant = Plant({name: {"sensors": ["x"], **rule} for name, rule in rules.items()})
    plant.see({"x": 6.0}, flags={"x": flag})
    assert list(plant.rules.holding) == ["trusting"]
    assert plant.rules.unknown() == ["careful"]


def test_the_flag_stuck_is_asked_by_its_function() -> None:
    plant = Plant({"r": {"when": "stuck(x)"}})
    plant.see({"x": 6.0}, flags={"x": Quality.STUCK})
    assert plant.rules.holding


def test_not_a_number_is_missing() -> None:
    assert held({"limit": {"above": 0}}, [1, math.nan, math.nan]) == "###"
    assert held({"limit": {"above": 0}}, [math.nan, math.nan]) == "--"


def test_a_schedule_says_when_a_rule_applies() -> None:
    # The plant begins on a Thursday at 08:53:20 UTC, which is 10:53:20 in Berlin.
    window = {"begins": "0 11 * * THU", "duration": "2m", "timezone": "Europe/Berlin"}
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 0}, "schedule": [window]}}, period_s=10)
    shown = plant.held([1.0] * 60)
    assert (shown.index("#") * 10, shown.count("#") * 10) == (400, 120)


def test_two_windows_that_meet_are_one() -> None:
    windows = [{"begins": "54 8 * * *", "duration": "1m"}, {"begins": "55 8 * * *", "duration": "1m"}]
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 0}, "schedule": windows}}, period_s=10)
    assert plant.held([1.0] * 30) == "-" * 4 + "#" * 12 + "-" * 14


def test_a_disabled_rule_is_not_watched() -> None:
    assert held({"limit": {"above": 0}, "enabled": False}, [1, 1]) == "--"


def test_every_sensor_that_matches_is_judged_by_itself() -> None:
    plant = Plant({"r": {"sensors": ["tank.*.level", "extra"], "limit": {"above": 5}, "for": "1s"}})
    low = {"tank.1.level": 1.0, "tank.2.level": 1.0, "tank.1.temp": 9.0, "extra": 1.0}
    plant.see(low)
    plant.see({**low, "tank.2.level": 6.0})
    plant.see({**low, "tank.2.level": 6.0, "extra": 6.0})
    assert [one.sensor for one in plant.rules.holding["r"].judged.values()] == ["tank.2.level"]
    plant.see({**low, "tank.2.level": 6.0, "extra": 6.0})
    assert {one.sensor for one in plant.rules.holding["r"].judged.values()} == {"tank.2.level", "extra"}


def test_the_word_sensor_stands_for_each() -> None:
    plant = Plant({"r": {"sensors": ["a", "b"], "when": "sensor > limit"}})
    plant.see({"a": 1.0, "b": 3.0, "limit": 2.0})
    assert [one.sensors for one in plant.rules.holding["r"].judged.values()] == [("b", "limit")]


def test_states_belong_to_their_sensor() -> None:
    plant = Plant(
        {"r": {"sensors": ["pump", "valve"], "when": "sensor == open"}}, states={"pump": {"shut": 1.0, "open": 2.0}}
    )
    plant.see({"pump": 1.0, "valve": 1.0})
    assert [one.sensor for one in plant.rules.holding["r"].judged.values()] == ["valve"]


def test_sensors_that_come_later_are_judged_too() -> None:
    plant = Plant({"r": {"sensors": ["t*"], "limit": {"above": 5}}})
    plant.see({"x": 1.0})
    plant.see({"x": 1.0, "t1": 6.0})
    plant.see({"x": 1.0, "t1": 6.0, "t2": 6.0})
    assert [one.sensor for one in plant.rules.holding["r"].judged.values()] == ["t1", "t2"]


def test_a_rule_of_a_sensor_that_is_gone_ends() -> None:
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 5}}})
    plant.see({"x": 6.0, "y": 1.0})
    plant.see({"x": None, "y": 1.0})
    assert plant.rules.holding
    plant.see({"y": 1.0})
    assert not plant.rules.holding
    plant.see({"x": 6.0, "y": 1.0})
    assert plant.rules.holding


def test_a_silent_sensor_is_told_once() -> None:
    plant = Plant(
        {
            "typo": {"when": "flow.FIT11 > 1 and x > 1"},
            "nobody": {"sensors": ["tank.*"], "limit": {"above": 1}},
            "good": {"when": "x > 5"},
        }
    )
    told = []
    for _ in range(400):
        plant.see({"flow.FIT101": 1.0, "x": 1.0})
        told += [(plant.ticks, problem) for problem in plant.rules.problems()]
    assert told == [
        (301, "rule typo lacks sensors never heard of: flow.FIT11; did you mean 'flow.FIT101'?"),
        (301, "rule nobody: no sensor matches tank.*"),
    ]


def test_counts() -> None:
    plant = Plant(
        {
            "holding": {"when": "x > 0"},
            "pending": {"when": "x > 0 for 5s"},
            "unknown": {"when": "y > 0"},
            "quiet": {"when": "x > 5"},
        }
    )
    plant.see({"x": 1.0})
    counts = plant.rules.counts()
    assert (counts.watched, counts.holding, counts.pending, counts.unknown) == (4, 1, 1, 1)


def test_conditions_are_bounded() -> None:
    names = tuple(f"s{i}" for i in range(1_000))
    plant = Plant({f"r{i}": {"sensors": ["*"], "limit": {"above": 1}} for i in range(101)})
    plant.see(dict.fromkeys(names, 2.0))
    assert sum(len(one.judged) for one in plant.rules.holding.values()) == MOST_CONDITIONS
    assert plant.rules.problems() == ["more than 100,000 conditions; the rest is not watched"]


# -- reload and restart -----------------------------------------------------------------------------------------


def test_reload_begins_only_changed_rules_anew() -> None:
    rules: dict[str, dict[str, object]] = {
        "same": {"sensors": ["x"], "limit": {"above": 0}, "for": "5s"},
        "changed": {"sensors": ["x"], "limit": {"above": 0}, "for": "5s"},
    }
    plant = Plant(rules)
    plant.held([1.0] * 4)
    changed = {**rules, "changed": {**rules["changed"], "severity": "high"}}
    plant.rules.reload(options(changed), lambda _name: {})
    plant.held([1.0] * 2)
    assert list(plant.rules.holding) == ["same"]
    plant.held([1.0] * 4)
    assert set(plant.rules.holding) == {"same", "changed"}


def test_reload_keeps_the_past_of_sensors() -> None:
    rules: dict[str, dict[str, object]] = {"r": {"when": "rate(x, 5s) > 1"}}
    plant = Plant(rules)
    plant.held([0.0] * 5)
    plant.rules.reload(options({**rules, "other": {"when": "x > 99"}}), lambda _name: {})
    assert plant.held([9.0]) == "#"


def test_a_changed_rule_that_holds_goes_on_until_it_is_false() -> None:
    plant = Plant({"r": {"sensors": ["x"], "limit": {"above": 5}, "for": "3s"}})
    plant.held([6.0] * 4)
    new = options({"r": {"sensors": ["x"], "limit": {"above": 7}, "for": "3s"}})
    plant.rules.reload(new, lambda _name: {})
    assert plant.held([8.0, 8.0, 6.0, 8.0]) == "##--"


def test_a_rule_that_is_gone_holds_no_more() -> None:
    plant = Plant({"r": {"when": "x > 1"}})
    plant.held([2.0])
    plant.rules.reload({}, lambda _name: {})
    plant.see({"x": 2.0})
    assert not plant.rules.holding


def test_a_rule_that_was_gone_in_between_begins_anew() -> None:
    rule: dict[str, dict[str, object]] = {"r": {"sensors": ["x"], "limit": {"above": 5}, "for": "2s"}}
    plant = Plant(rule)
    plant.held([6.0] * 3)
    for rules in ({}, rule):
        plant.rules.reload(options(rules), lambda _name: {})
    assert plant.held([6.0] * 3) == "--#"


def test_a_rule_that_held_before_a_restart_does_not_begin_again() -> None:
    plant = Plant({"r": {"sensors": ["x", "y"], "limit": {"above": 5}, "for": "10s"}})
    plant.rules.resume("r", ["x"])
    plant.see({"x": 6.0, "y": 6.0})
    assert [one.sensor for one in plant.rules.holding["r"].judged.values()] == ["x"]
    plant.see({"x": None, "y": 6.0})
    assert plant.rules.holding
    plant.see({"x": 1.0, "y": 1.0})
    assert not plant.rules.holding


# -- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "got none of when, limit, rate, deviation, expected exactly one of them"),
        ({"when": "x", "limit": {"above": 1}, "sensors": ["x"]}, "got `when` and `limit` of when, limit, rate, dev"),
        ({"limit": {"above": 1}}, "`limit` needs `sensors`, such as `sensors: [tank.*.level]`"),
        ({"limit": {}, "sensors": ["x"]}, "got neither `above` nor `below`, expected at least one of them"),
        ({"limit": {"above": 1, "below": 2}, "sensors": ["x"]}, "below is 2 and above 1, so it would always hold"),
        (
            {"limit": {"above": 2, "below": 1, "deadband": 1}, "sensors": ["x"]},
            "deadband is 1, so it would never end between 1 and 2; expected at most 0.5",
        ),
        ({"deviation": {"target": 1, "by": 1, "deadband": 1}, "sensors": ["x"]}, "deadband is 1, expected less than"),
        ({"deviation": {"target": True, "by": 1}, "sensors": ["x"]}, "got True, expected a number, or the sensor with"),
        ({"deviation": {"target": math.nan, "by": 1}, "sensors": ["x"]}, "got nan, expected a number, or the sensor"),
        ({"limit": {"above": 1}, "sensors": [""]}, "at least 1 character"),
        ({"limit": {"above": 1}, "sensors": ["x"], "until": "x < 1"}, "`until` goes with `when`; a limit has"),
        ({"when": "x for 1s", "for": "1s"}, "`for` is given twice"),
        ({"when": "x", "until": "y for 1s", "clear_after": "1s"}, "`for` at the end of `until` and `clear_after`"),
        ({"when": "x", "schedule": [{"begins": "* *", "duration": "1h"}]}, "begins: got '* *', expected five fields"),
        (
            {"when": "x", "schedule": [{"begins": "0 0 30 2 *", "duration": "1h"}]},
            "begins: got '0 0 30 2 *' (Bad day-of-month), expected five fields",
        ),
        (
            {"when": "x", "schedule": [{"begins": "0 6 * * *", "duration": "1h", "timezone": "Mars"}]},
            "got 'Mars', expected a time zone such as UTC or Europe/Berlin",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options({"r": rule})
    assert message in str(caught.value)


def test_random_series_of_limits_are_those_of_a_naive_loop() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        series = [None if rng.random() < 0.1 else float(round(rng.normal(0, 3), 1)) for _ in range(60)]
        deadband, lasting, clear = float(rng.integers(0, 3)), int(rng.integers(0, 4)), int(rng.integers(0, 4))
        rule = {"limit": {"above": 1, "deadband": deadband}, "for": f"{lasting}s", "clear_after": f"{clear}s"}
        assert held(rule, series) == _naive(series, deadband, lasting, clear)


def _naive(series: list[float | None], deadband: float, lasting: int, clear: int) -> str:
    holds, true_for, false_for, before = False, None, None, None
    shown = ""
    for value in series:
        truth = None if value is None else value > (1 - deadband if holds else 1)
        if truth is not None:
            true_for = (0 if true_for is None else true_for + (before is True)) if truth else None
            false_for = None if truth else (0 if false_for is None else false_for + (before is False))
        if not holds and truth and true_for is not None and true_for >= lasting:
            holds = True
        elif holds and truth is False and false_for is not None and false_for >= clear:
            holds = False
        before = truth
        shown += "#" if holds else "-"
    return shown
