"""What readings do, in words: cases by table. Nothing is said that the readings do not show."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from edge_agent.decision.motion import Readings, motion
from edge_agent.verdict import Finding

BEFORE = 200


def noise(length: int, size: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, size, length)


def usual() -> np.ndarray:
    return 650.0 + noise(BEFORE)


def level(value: float, length: int, size: float = 1.0) -> np.ndarray:
    return value + noise(length, size, seed=1)


def ramp(per_tick: float, length: int) -> np.ndarray:
    return 650.0 + per_tick * np.arange(1, length + 1) + noise(length, seed=1)


CASES: dict[str, tuple[Callable[[], np.ndarray], Finding | None, str]] = {
    "rise": (
        lambda: ramp(4.0, 40),
        Finding.RISES,
        r"rises (3\.9|4|4\.1) mm/s \(usually at most .*\), from 65\d.* to 8",
    ),
    "fall": (lambda: ramp(-4.0, 40), Finding.FALLS, r"falls (3\.9|4|4\.1) mm/s \(usually at most .*\), from 6.* to 4"),
    "rise, just begun": (lambda: ramp(20.0, 5), Finding.RISES, "rises (19|20|21) mm/s"),
    "jump up": (lambda: level(700.0, 20), Finding.JUMPS_UP, r"jumped from 6(49|50|51).* mm to (699|70\d).* mm"),
    "jump down, three ticks": (lambda: level(600.0, 3), Finding.JUMPS_DOWN, "jumped from 6.* mm to (59|60).* mm"),
    "stands still": (lambda: np.full(35, 651.5), Finding.STANDS_STILL, "has stood still at 651.5 mm for 34 s"),
    "restless": (lambda: level(650.0, 30, 8.0), Finding.RESTLESS, r"fluctuates [6-9](\.\d)? times as much as usual"),
    "calm": (lambda: level(650.0, 30, 0.01), Finding.CALM, "fluctuates less than a fifth as much as usual"),
    "replay": (lambda: usual()[120:150], Finding.REPEATS, "repeats, value for value, what it read 80 s earlier"),
    "as usual": (lambda: level(650.0, 30), None, ""),
    "one glitch": (lambda: np.concatenate(([900.0], level(650.0, 9))), None, ""),
    "slightly higher": (lambda: level(652.0, 30), None, ""),
    "too short to tell": (lambda: level(650.0, 1), None, ""),
    "nothing yet": (lambda: np.zeros(0), None, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_noisy_level_does(case: str) -> None:
    late, finding, text = CASES[case]
    found = motion(Readings(np.concatenate((usual(), late())), BEFORE, "mm", 1.0))
    assert (None if found is None else found.finding) == finding
    if found is not None:
        assert re.match(text, found.text), found.text


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("case", ["rise", "jump up", "as usual"])
def test_missing_readings_change_nothing(case: str, gaps: float) -> None:
    late, finding, _ = CASES[case]
    values = np.concatenate((usual(), late()))
    missing = np.random.default_rng(3).random(len(values)) < gaps
    found = motion(Readings(np.where(missing, np.nan, values), BEFORE, "mm", 1.0))
    assert (None if found is None else found.finding) == finding


PUMP = np.concatenate([np.full(50, 0.0), np.full(50, 2.0)] * 2)
WAVE = 10.0 * np.sin(2 * np.pi * np.arange(240) / 40)


@pytest.mark.parametrize(
    ("values", "since", "text"),
    [
        (np.concatenate((PUMP[:80], np.full(5, 0.0))), 80, "switched from 2 to 0"),
        (np.concatenate((PUMP, np.full(40, 2.0))), 200, None),  # it has stood so long before
        (WAVE, 200, None),  # a wave repeats itself, and rises and falls, all the time
        (np.arange(240.0), 200, None),  # a counter counts
        (np.concatenate((np.arange(200.0), np.full(40, 199.0))), 200, "has stood still at 199 mm for 40 s"),
        (np.full(240, 5.0), 200, None),
        (np.full(240, np.nan), 200, None),
        (np.concatenate((np.full(230, np.nan), np.arange(10.0))), 235, None),  # nothing is known of before
    ],
    ids=["switch", "pump", "wave", "counter", "counter stops", "constant", "silent", "new"],
)
def test_what_other_sensors_do(values: np.ndarray, since: int, text: str | None) -> None:
    found = motion(Readings(values, since, "mm", 1.0))
    assert (None if found is None else found.text) == text


@pytest.mark.parametrize("period_s", [0.1, 1.0, 60.0, 3600.0])
def test_rates_follow_the_tick(period_s: float) -> None:
    found = motion(Readings(np.concatenate((usual(), ramp(4.0, 40))), BEFORE, "mm", period_s))
    assert found is not None
    assert found.text.startswith(
        {0.1: "rises 40 mm/s", 1.0: "rises 4 mm/s", 60.0: "rises 4 mm/min", 3600.0: "rises 4 mm/h"}[period_s]
    )
