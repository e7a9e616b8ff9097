"""Health of a changed configuration, and parts that go on under other options."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.decision.budget import Budget
from edge_agent.ota.config_gate import Footing, config_troubles
from edge_agent.ota.ring import Trial

BEFORE = Footing(
    ticks=1_000, missed=2, incidents=10, usable=50, connected=frozenset({"a", "b"}), silent=frozenset({"old"})
)
NOW = replace(BEFORE, ticks=1_100)


@pytest.mark.parametrize(
    ("change", "troubles"),
    [
        ({}, {}),
        ({"connected": frozenset("b")}, {"sources": "sources that were connected are not: a"}),
        ({"connected": frozenset("abc")}, {}),
        ({"silent": frozenset()}, {}),
        ({"silent": frozenset({"old", "new"})}, {"rules": "rules of which nothing can be said: new"}),
        (
            {"silent": frozenset(f"r{i}" for i in range(7))},
            {"rules": "rules of which nothing can be said: r0, r1, r2, r3, r4 and 2 more"},
        ),
        (
            {"silent": frozenset({"new"}), "usable": 0},
            {"sensors": "got usable readings of 0 sensors, expected at least 45 (50 before)"},
        ),
        ({"usable": 45}, {}),
        ({"usable": 44}, {"sensors": "got usable readings of 44 sensors, expected at least 45 (50 before)"}),
        ({"missed": 5}, {}),
        ({"missed": 6}, {"late": "4 of 104 ticks could not be made in time"}),
        ({"missed": 12, "ticks": 2_000}, {}),
        ({"missed": 13, "ticks": 2_000}, {"late": "11 of 1011 ticks could not be made in time"}),
        ({"incidents": 18}, {}),  # 1 in 100 ticks before, five times as many and three more
        ({"incidents": 19}, {"incidents": "got 9 incidents in 100 ticks, expected at most 8.0"}),
    ],
)
def test_what_is_worse_than_before_is_a_trouble(change: dict[str, object], troubles: dict[str, str]) -> None:
    assert config_troubles(Trial(), BEFORE, replace(NOW, **change)) == troubles  # type: ignore[arg-type]


def test_an_agent_that_has_just_started_has_no_usual_number_of_incidents() -> None:
    fresh = Footing(0, 0, 0, 0, frozenset(), frozenset())
    assert config_troubles(Trial(alarm_extra=2), fresh, replace(fresh, ticks=10, incidents=2)) == {}
    assert list(config_troubles(Trial(alarm_extra=2), fresh, replace(fresh, ticks=10, incidents=3))) == ["incidents"]


def test_another_budget_keeps_the_account_and_what_people_said() -> None:
    budget = Budget(0.001, 1.0)
    for _ in range(100):
        budget.watched()
    budget.raised()
    budget.judged(["a", "b"], false_alarm=True)
    account, own = budget.export()
    budget.allow(0.01)
    assert budget.export() == (account, pytest.approx(own))
    assert budget.status()["allowed_per_day"] == 864
    for _ in range(50):
        budget.watched()
    assert budget.export()[1] == pytest.approx({"a": own["a"] - 0.5, "b": own["b"] - 0.5})
