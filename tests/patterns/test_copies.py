"""Readings that were there before: what is found, and what is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.pipeline.copies import Copies

NAMES = ("walk", "switch", "wave")


def readings(ticks: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    walk = np.round(np.cumsum(rng.standard_normal(ticks)), 2)
    switch = (np.arange(ticks) // 50 % 2).astype(float)
    wave = np.round(np.sin(np.arange(ticks) / 9.0) + 0.05 * rng.standard_normal(ticks), 3)
    return np.stack((walk, switch, wave), axis=1)


def copies_of(rows: np.ndarray) -> Copies:
    copies = Copies()
    for row in rows:
        copies.append(NAMES, row, np.isfinite(row))
    return copies


def test_normal_readings_are_no_copies() -> None:
    copies = copies_of(readings(600))
    assert not copies.still(*copies.still_since()).any()
    assert [copies.repeats(i) for i in range(3)] == [None, None, None]
    assert copies.lags(np.arange(3)).tolist() == [0, 0, 0]


def test_what_usually_moves_and_stands_still_is_found_and_a_switch_is_not() -> None:
    rows = readings(300)
    rows[280:] = rows[279]
    copies = copies_of(rows)
    run, lively = copies.still_since()
    assert run[0] == 21
    assert copies.still(run, lively).tolist() == [True, False, True]


@pytest.mark.parametrize("ago", [40, 500])
def test_a_replay_is_found_with_how_long_ago_it_was(ago: int) -> None:
    rows = readings(900)
    rows[860:] = rows[860 - ago : 900 - ago]
    copies = copies_of(rows)
    assert copies.repeats(0) == ago
    assert copies.repeats(1) is None  # a switch has too few values to say


def test_a_delay_is_found_long_after_it_began() -> None:
    rows = readings(700)
    late = rows.copy()
    late[560:] = rows[530:670]
    assert copies_of(late).lags(np.arange(3)).tolist() == [30, 0, 30]


def test_sensors_may_come_and_go() -> None:
    rows = readings(300)
    copies = copies_of(rows)
    copies.append(("new", "walk"), np.array([1.0, 2.0]), np.array([True, True]))
    assert len(copies.still_since()[0]) == 2
    assert copies.repeats(1) is None


def test_nothing_is_said_before_there_are_readings() -> None:
    copies = copies_of(readings(3))
    assert not copies.still(*copies.still_since()).any()
    assert copies.repeats(0) is None
    assert copies.lags(np.arange(3)).tolist() == [0, 0, 0]


def test_another_recording_begins_without_a_past() -> None:
    rows = readings(300)
    copies = copies_of(rows)
    copies.forget()
    for row in rows[:40]:
        copies.append(NAMES, row, np.isfinite(row))
    assert copies.repeats(0) is None
