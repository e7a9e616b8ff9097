"""How urgent an incident is, by table."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.decision import severity
from edge_agent.verdict import Severity

BUDGET = 1e-6
USUAL = {"p_value": 1e-7, "lasted_s": 10.0, "sensors": 1, "weight": 0}
LOW, MEDIUM, HIGH, CRITICAL = Severity


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, LOW),
        ({"p_value": 1e-9}, LOW),
        ({"p_value": 0.9e-9}, MEDIUM),
        ({"p_value": 1e-15}, MEDIUM),
        ({"p_value": 0.9e-15}, HIGH),
        ({"lasted_s": 60.0}, LOW),
        ({"lasted_s": 61.0}, MEDIUM),
        ({"sensors": 7}, LOW),
        ({"sensors": 8}, MEDIUM),
        ({"sensors": 8, "lasted_s": 61.0}, MEDIUM),
        ({"p_value": 1e-20, "sensors": 100}, CRITICAL),
        ({"weight": 1}, MEDIUM),
        ({"weight": 1, "p_value": 1e-20}, CRITICAL),
        ({"weight": 1, "p_value": 1e-20, "sensors": 100}, CRITICAL),
        ({"weight": -1}, LOW),
        ({"weight": -1, "p_value": 1e-20}, MEDIUM),
    ],
)
def test_severity_of_a_process_incident(given: dict[str, Any], expected: Severity) -> None:
    case = {**USUAL, **given}
    assert severity.of_process(case.pop("p_value"), BUDGET, detect_within_s=60.0, **case) is expected


@pytest.mark.parametrize(
    ("sight_lost", "whole_source", "weight", "expected"),
    [
        (False, False, 0, LOW),
        (False, False, 1, MEDIUM),
        (False, False, -1, LOW),
        (True, False, 0, MEDIUM),
        (True, False, -1, LOW),
        (True, True, 0, HIGH),
        (True, True, 1, CRITICAL),
        (False, True, 0, MEDIUM),
    ],
)
def test_severity_of_a_data_quality_incident(
    sight_lost: bool, whole_source: bool, weight: int, expected: Severity
) -> None:
    assert severity.of_quality(sight_lost=sight_lost, whole_source=whole_source, weight=weight) is expected


def test_the_worse_of_two() -> None:
    for place, one in enumerate(severity.ORDER):
        for other in severity.ORDER[: place + 1]:
            assert severity.worse(one, other) is severity.worse(other, one) is one
