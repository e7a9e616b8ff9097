"""Conditions, stages and confidence, on scenes written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.patterns.conditions import satisfied
from edge_agent.patterns.library import Campaigns, Library
from edge_agent.patterns.matching import Matcher, ranked
from edge_agent.patterns.options import Condition, Pattern
from edge_agent.patterns.sight import Scene, Sight
from edge_agent.patterns.words import Quantity, Sign, quantity_of


def sight(sensor: str, *signs: Sign, since: int = 100, area: str | None = "A", **more: Any) -> Sight:
    return Sight(sensor, frozenset(signs), since, area=area, **more)


LEVEL = sight("level", Sign.JUMPS_DOWN, Sign.ABRUPT, quantity=Quantity.LEVEL, near=frozenset({"flow"}))
FLOW = sight("flow", Sign.BELOW, since=112, quantity=Quantity.FLOW)
FAR = sight("far", Sign.BELOW, since=101, area="B", quantity=Quantity.FLOW)
PUMP = sight("pump", Sign.SWITCHED, since=99, command=True, out=False)
SCENE = Scene(120, "level", (LEVEL, FLOW, FAR, PUMP), {"A": 4, "B": 1})


@pytest.mark.parametrize(
    ("condition", "sensors"),
    [
        ({}, ["level", "flow", "far"]),
        ({"who": "first"}, ["level"]),
        ({"who": "others"}, ["flow", "far"]),
        ({"who": "commands", "does": ["switched"]}, ["pump"]),
        ({"who": "commands"}, []),  # it does not stand out
        ({"does": ["below", "above"]}, ["flow", "far"]),
        ({"does": ["jumps_down"], "also": ["abrupt"]}, ["level"]),
        ({"does": ["jumps_down"], "also": ["abrupt", "swapped"]}, []),
        ({"of": ["flow"]}, ["flow", "far"]),
        ({"where": "same"}, ["level"]),
        ({"where": "neighbour"}, ["flow"]),
        ({"where": "area"}, ["level", "flow"]),
        ({"where": "other_area"}, ["far"]),
        ({"least": 3}, ["level", "flow", "far"]),
        ({"least": 4}, []),
        ({"within": "1s"}, ["level", "far"]),
        ({"after": "2s"}, ["flow"]),
        ({"lasting": "19s"}, ["level", "far"]),
        ({"together": "1s"}, ["level", "far"]),
        ({"part": 0.5}, ["level", "flow"]),
        ({"part": 0.6, "who": "others"}, ["far"]),
    ],
)
def test_condition_finds_its_sensors(condition: dict[str, Any], sensors: list[str]) -> None:
    found = satisfied(Condition.model_validate(condition), SCENE, 1.0, ())
    assert [one.sensor for one in found] == sensors


def test_where_is_seen_from_the_stage_before() -> None:
    condition = Condition.model_validate({"where": "other_area"})
    assert [one.sensor for one in satisfied(condition, SCENE, 1.0, ("far",))] == ["level", "flow"]


def pattern(name: str = "two", **more: Any) -> Pattern:
    stages = [
        {"name": "first", "conditions": [{"who": "first", "does": ["jumps_down"]}]},
        {"name": "second", "within": "20s", "conditions": [{"who": "others", "does": ["below"], "where": "neighbour"}]},
    ]
    return Pattern.model_validate({"id": name, "title": name, "kind": "fault", "stages": stages, **more})


def told(*patterns: Pattern, scenes: tuple[Scene, ...] = (SCENE,), sharpness: float = 1.0) -> list[tuple[str, float]]:
    matcher = Matcher(patterns, 1.0)
    for scene in scenes:
        matcher.update(scene)
    found = ranked(matcher.candidates(), Library(patterns, sharpness=sharpness, least_confidence=0.0))
    return [(match.pattern, match.confidence) for match in found]


def test_all_stages_in_order_make_a_match() -> None:
    matcher = Matcher([pattern()], 1.0)
    matcher.update(SCENE)
    (match,) = ranked(matcher.candidates(), Library(least_confidence=0.0))
    assert (match.stages, match.confidence) == (("first", "second"), 0.5)


def test_stages_are_remembered_when_they_are_no_longer_seen() -> None:
    before = Scene(101, "level", (LEVEL,))
    after = Scene(120, "level", (sight("level", Sign.BELOW, near=frozenset({"flow"})), FLOW))
    assert told(pattern(), scenes=(before, after)) == [("two", 0.5)]


@pytest.mark.parametrize("since", [99, 121])
def test_second_stage_before_the_first_or_too_late_is_none(since: int) -> None:
    late = sight("flow", Sign.BELOW, since=since)
    assert told(pattern(), scenes=(Scene(130, "level", (LEVEL, late)),)) == []


def test_evidence_moves_the_odds_and_stays() -> None:
    evidence = [{"weight": 2.0, "of": ["flow"]}, {"weight": -1.0, "who": "commands", "does": ["switched"]}]
    gone = Scene(125, "level", (LEVEL,))
    (found,) = told(pattern(evidence=evidence), scenes=(SCENE, gone))
    assert found == ("two", pytest.approx(0.731, abs=0.001))  # e / (1 + e)


def test_confidences_share_one_whole_with_none_of_them() -> None:
    found = told(pattern("one"), pattern("other", weight=1.0))
    assert [name for name, _ in found] == ["other", "one"]
    assert sum(confidence for _, confidence in found) == pytest.approx(3.718 / 4.718, abs=0.002)


def test_sharpness_and_large_weights_do_not_overflow() -> None:
    assert told(pattern(weight=20.0), sharpness=10.0) == [("two", 1.0)]


def test_three_stages_are_told_from_the_second_on_with_less_confidence() -> None:
    third = {"name": "third", "conditions": [{"does": ["toggles"]}]}
    stages = [*pattern().model_dump(mode="json")["stages"], third]
    stages[1]["within"] = "20s"
    (found,) = told(pattern(stages=stages))
    assert found == ("two", pytest.approx(0.182, abs=0.001))


CAMPAIGN = Pattern.model_validate(
    {
        "id": "campaign",
        "title": "one after the other",
        "kind": "attack",
        "about": "incidents",
        "stages": [
            {"name": "one", "matches": ["spoof"]},
            {"name": "two", "matches": ["drive"], "within": "1h", "where": "other_area"},
        ],
    }
)


@pytest.mark.parametrize(
    ("first", "second", "matched"),
    [
        ((0, "spoof", "A"), (3600, "drive", "B"), True),
        ((0, "spoof", "A"), (3601, "drive", "B"), False),
        ((0, "spoof", "A"), (60, "drive", "A"), False),
        ((0, "other", "A"), (60, "drive", "B"), False),
        ((60, "spoof", "A"), (0, "drive", "B"), False),
    ],
)
def test_several_incidents_make_a_campaign(
    first: tuple[int, str, str], second: tuple[int, str, str], matched: bool
) -> None:
    campaigns = Campaigns([CAMPAIGN], 1.0)
    for incident, (tick, likely, area) in (("X", first), ("Y", second)):
        campaigns.note(tick, incident, likely, [area])
    assert bool(campaigns.candidates("Y")) == matched
    assert campaigns.candidates("X") == []


def test_an_incident_counts_as_what_it_was_last_thought_to_be_from_when_it_was_first() -> None:
    campaigns = Campaigns([CAMPAIGN], 1.0)
    campaigns.note(0, "X", "other", ["A"])
    campaigns.note(10, "X", "spoof", ["A"])
    campaigns.note(3600, "Y", "drive", ["B"])
    assert [one.pattern.id for one in campaigns.candidates("Y")] == ["campaign"]


@pytest.mark.parametrize(
    ("unit", "quantity"),
    [("m3/h", "flow"), ("kPa", "pressure"), ("mm", "level"), ("pH", "analysis"), (None, "other"), ("cows", "other")],
)
def test_quantity_is_told_from_the_unit(unit: str | None, quantity: str) -> None:
    assert quantity_of(unit) == quantity
