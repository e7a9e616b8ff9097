"""Rules that hold, as incidents: opened, joined, closed, and what people read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ticking import T0_NS, Plant, options

from edge_agent.rules.words import check_message, filled
from edge_agent.verdict import Contribution, Incident, IncidentKind, IncidentState, Severity

HIGH = {"sensors": ["x*"], "limit": {"above": 5}}


def process(
    sensor: str, state: IncidentState = IncidentState.OPEN, severity: Severity = Severity.LOW, name: str = "p"
) -> Incident:
    part = Contribution(sensor, 1.0, 9.0, 1.0, 2.0, "mm", "reads 1 mm")
    return Incident(name, IncidentKind.PROCESS, state, severity, T0_NS, T0_NS, None, 0, 0, 1e-6, 3.0, "odd", (part,))


def test_one_incident_from_open_to_closed() -> None:
    plant = Plant({"overflow": {**HIGH, "severity": "high", "for": "1s"}})
    told = [plant.tick({"x": value}) for value in (6.0, 6.5, 7.0, 1.0, 1.0)]
    assert [[one.state for one in tick] for tick in told] == [[], [IncidentState.OPEN], [], [IncidentState.CLOSED], []]
    opened, closed = told[1][0], told[3][0]
    assert opened.id == closed.id
    assert (opened.kind, opened.rules, opened.severity) == (IncidentKind.RULE, ("overflow",), Severity.HIGH)
    assert opened.contributions == (
        Contribution("x", 1.0, 0.0, 6.5, 5.0, "mm", "reads 6.5 mm, above 5 mm, rule overflow"),
    )
    assert opened.summary == "x reads 6.5 mm, above 5 mm, rule overflow, since 08:53:21 UTC"
    assert closed.closed_ns == T0_NS + 3 * 10**9
    assert (closed.first_tick, closed.last_tick) == (1, 2)


def test_many_sensors_are_one_incident_told_again_at_most_every_half_minute() -> None:
    plant = Plant({"overflow": HIGH})
    names = [f"x{i}" for i in range(20)]
    told = [plant.tick({name: 6.0 if i <= tick else 1.0 for i, name in enumerate(names)}) for tick in range(60)]
    assert [(tick, one.state.value) for tick, ones in enumerate(told) for one in ones] == [(0, "open"), (30, "updated")]
    assert len(told[30][0].contributions) == 8
    assert told[30][0].contributions[0].share == 0.05
    standing = plant.incidents.standing("rule-1")
    assert standing is not None
    assert (len(standing[0]), standing[1]) == (20, 59)


@pytest.mark.parametrize(
    ("rule", "reasons"),
    [
        ({"sensors": ["x"], "limit": {"above": 5, "below": 1}}, ["reads 6 mm, above 5 mm"]),
        ({"sensors": ["y"], "limit": {"above": 5, "below": 1}}, ["reads 0.5 mm, below 1 mm"]),
        ({"sensors": ["x"], "rate": {"above": -1, "per": "1s"}}, ["reads 6 mm, changed by more than -1 mm in 1s"]),
        ({"sensors": ["x"], "deviation": {"target": 1, "by": 2}}, ["reads 6 mm, more than 2 mm away from 1 mm"]),
        (
            {"sensors": ["x"], "deviation": {"target": "y", "by": 2}},
            ["reads 6 mm, more than 2 mm away from y", "reads 0.5 mm, more than 2 mm away from y"],
        ),
        ({"when": "x > 5 and y < 1"}, ["reads 6 mm (> 5)", "reads 0.5 mm (< 1)"]),
        ({"when": "missing(z)"}, ["has no value"]),
    ],
)
def test_why_a_sensor_is_named(rule: dict[str, object], reasons: list[str]) -> None:
    plant = Plant({"r": rule})
    plant.tick({"x": 6.0, "y": 0.5, "z": None})
    plant.tick({"x": 6.0, "y": 0.5, "z": None})
    holding = plant.rules.holding["r"]
    assert holding
    again = Plant({"r": rule})
    told = again.tick({"x": 6.0, "y": 0.5, "z": None}) or again.tick({"x": 6.0, "y": 0.5, "z": None})
    assert [part.reason for part in told[0].contributions] == [f"{reason}, rule r" for reason in reasons]


def test_a_pattern_names_the_sensors_that_weigh_most() -> None:
    for function, named in (("max", ["t3", "t2", "t1"]), ("min", ["t1", "t2", "t3"]), ("sum", ["t1", "t3", "t2"])):
        plant = Plant({"r": {"when": f"{function}('t*') > -99"}})
        (told,) = plant.tick({"t1": -5.0, "t2": 1.0, "t3": 3.0, "x": 99.0, "t4": None})
        assert [part.sensor for part in told.contributions] == named


def test_a_rule_without_any_sensor_left_still_says_something() -> None:
    plant = Plant({"r": {"when": "max('t*') > 1 or 1 < 2"}})
    (told,) = plant.tick({"x": 1.0})
    assert told.contributions == ()
    assert told.summary == "rule r holds, since 08:53:20 UTC"


def test_a_message_with_values() -> None:
    message = "{rule}: {sensor} at {value}, allowed {limit}; flow {f}, {{not}} {missing}"
    plant = Plant({"r": {"when": "x > 5 and f < 1 and not missing(f)", "message": message}})
    told = plant.tick({"x": 6.0, "f": 0.25})
    assert told[0].summary == "r: x at 6 mm, allowed 5 mm; flow 0.25 mm, {not} no value"


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("{x.__class__}", "got '{x.__class__}', which is no sensor of this rule; known: sensor, value, limit, rule, x"),
        ("{0}", "got '{0}', which is no sensor of this rule; known: sensor, value, limit, rule, x"),
        ("{sensr}", "got '{sensr}', which is no sensor of this rule; did you mean 'sensor'?"),
        ("{x", "got a single '{', expected {NAME}; a brace itself is written twice"),
    ],
)
def test_a_message_that_names_something_else_is_refused(message: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_message(message, ["x"])
    assert str(caught.value) == problem


def test_nothing_in_a_message_is_executed() -> None:
    assert filled("{a.__class__} {0!r:>9} {}", lambda name: None) == "{a.__class__} {0!r:>9} {}"


# -- beside process incidents -----------------------------------------------------------------------------------


def test_a_rule_joins_the_process_incident_of_its_sensor() -> None:
    plant = Plant({"overflow": {**HIGH, "severity": "high"}})
    assert plant.tick({"x": 1.0}, (process("x"),)) == [process("x")]
    (told,) = plant.tick({"x": 6.0})
    assert (told.id, told.state, told.rules, told.severity) == (
        "p",
        IncidentState.UPDATED,
        ("overflow",),
        Severity.HIGH,
    )
    assert told.summary == "odd; x reads 6 mm, above 5 mm, rule overflow"
    assert plant.tick({"x": 6.0}) == []
    assert plant.incidents.open_count == 0


def test_a_rule_joins_by_an_edge_in_either_direction() -> None:
    for neighbours in ({"x": ("y",)}, {"y": ("x",)}):
        plant = Plant({"overflow": HIGH})
        plant.tick({"x": 1.0, "y": 1.0}, (process("y"),), neighbours=neighbours)
        (told,) = plant.tick({"x": 6.0, "y": 1.0}, neighbours=neighbours)
        assert (told.id, told.rules) == ("p", ("overflow",))
        assert [part.sensor for part in told.contributions] == ["y", "x"]


def test_a_rule_elsewhere_opens_its_own() -> None:
    plant = Plant({"overflow": HIGH})
    plant.tick({"x": 1.0, "y": 1.0}, (process("y"),))
    (told,) = plant.tick({"x": 6.0, "y": 1.0})
    assert (told.kind, told.id) == (IncidentKind.RULE, "rule-1")


def test_both_at_once_are_one() -> None:
    plant = Plant({"overflow": HIGH})
    (told,) = plant.tick({"x": 6.0}, (process("x"),))
    assert (told.id, told.state, told.rules) == ("p", IncidentState.OPEN, ("overflow",))


def test_a_process_incident_names_the_rule_while_it_holds_and_does_not_become_less_urgent() -> None:
    plant = Plant({"overflow": {**HIGH, "severity": "high"}})
    plant.tick({"x": 6.0}, (process("x"),))
    update = replace(process("x"), state=IncidentState.UPDATED)
    (told,) = plant.tick({"x": 6.0}, (update,))
    assert (told.rules, told.severity) == (("overflow",), Severity.HIGH)
    (told,) = plant.tick({"x": 1.0}, (update,))
    assert (told.rules, told.severity) == ((), Severity.HIGH)
    (told,) = plant.tick({"x": 1.0}, (process("x", IncidentState.CLOSED),))
    assert (told.state, told.severity) == (IncidentState.CLOSED, Severity.HIGH)


def test_a_rule_that_goes_on_after_the_process_incident_opens_its_own() -> None:
    plant = Plant({"overflow": HIGH})
    plant.tick({"x": 6.0}, (process("x"),))
    closed = process("x", IncidentState.CLOSED)
    told = plant.tick({"x": 6.0}, (closed,))
    assert [(one.id, one.state.value) for one in told] == [("p", "closed"), ("rule-1", "open")]


def test_a_process_incident_that_opens_later_names_the_rule_and_leaves_its_incident_open() -> None:
    plant = Plant({"overflow": HIGH})
    plant.tick({"x": 6.0})
    (told,) = plant.tick({"x": 6.0}, (process("x"),))
    assert (told.id, told.rules, told.severity) == ("p", ("overflow",), Severity.LOW)
    assert plant.incidents.open_count == 1


def test_a_rule_whose_text_changes_keeps_its_incident() -> None:
    plant = Plant({"overflow": HIGH})
    (opened,) = plant.tick({"x": 6.0})
    plant.rules.reload(options({"overflow": {**HIGH, "severity": "critical"}}), lambda _name: {})
    (told,) = plant.tick({"x": 6.0})
    assert (told.id, told.state, told.severity) == (opened.id, IncidentState.UPDATED, Severity.CRITICAL)


def test_a_rule_that_held_before_a_restart_is_told_when_its_sensors_have_values() -> None:
    plant = Plant({"overflow": HIGH})
    plant.rules.resume("overflow", ["x"])
    assert plant.tick({"x": None}) == []
    (told,) = plant.tick({"x": 6.0})
    assert told.contributions[0].seen == 6.0


def test_a_rule_that_held_before_a_restart_is_told_after_a_minute_anyway() -> None:
    plant = Plant({"overflow": {"when": "x > 5"}})
    plant.rules.resume("overflow", [])
    told = [plant.tick({"x": None}) for _ in range(70)]
    assert [tick for tick, ones in enumerate(told) if ones] == [60]


def test_a_rule_that_is_removed_closes_its_incident() -> None:
    plant = Plant({"overflow": HIGH})
    (opened,) = plant.tick({"x": 6.0})
    plant.rules.reload({}, lambda _name: {})
    (told,) = plant.tick({"x": 6.0})
    assert (told.id, told.state) == (opened.id, IncidentState.CLOSED)
