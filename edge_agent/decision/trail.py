"""What was scored and expected of all sensors at the last ticks, for explaining what began some time ago. Pure.

Since when a sensor stands out is estimated as the change point of its scores by cumulative sums (E. S. Page,
"Continuous inspection schemes", Biometrika 41, 1954): the tick after the lowest sum of scores less a reference value.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import MODEL, SENSOR_MEMBERS, Scores

TICKS = 240
_LEAST_TICKS = 20
_MOST_VALUES = 100_000  # sensors times ticks that are kept: thousands of sensors must not need tens of megabytes
_REFERENCE = 4.0  # two usual deviations, squared: between a normal score (1) and one that stands out (9)
_LARGEST = 30.0  # so that the sum has forgotten a single glitch within ten ticks

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Row:
    tick: int
    score: NDArray[np.float32]
    expected: NDArray[np.float32]
    forecasts: Floats | None


class Trail:
    """Up to ``TICKS`` ticks; what the detector gave is kept as it is and not copied."""

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._rows: deque[_Row] = deque()

    def update(self, snapshot: Snapshot, scores: Scores) -> None:
        """Take one tick in."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        score = np.where(scores.valid, scores.score, np.float32(1.0))
        self._rows.append(_Row(snapshot.tick, score, scores.expected, scores.forecasts))
        while len(self._rows) > max(_LEAST_TICKS, min(TICKS, _MOST_VALUES // max(1, len(snapshot)))):
            self._rows.popleft()

    def onsets(self, sensors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Since which tick each of ``sensors`` (M) stands out."""
        ticks = np.array([row.tick for row in self._rows])
        score = np.array([row.score[sensors] for row in self._rows])
        sums = np.cumsum(np.minimum(score, _LARGEST) - _REFERENCE, axis=0)
        before = np.concatenate((np.zeros((1, len(sensors))), sums[:-1]))
        height = sums - np.minimum.accumulate(before, axis=0)
        peak = height.argmax(0)
        later = np.arange(len(ticks))[:, None] > peak
        return np.asarray(ticks[np.where(later, np.inf, before).argmin(0)], np.int64)

    def expected(self, sensor: int, member: str, ticks: range) -> list[float | None]:
        """What ``member`` expected of ``sensor`` at each of ``ticks``; None where nothing is known."""
        found: dict[int, float] = {}
        expert = _expert(member)
        for row in self._rows:
            if row.tick in ticks:
                value = row.expected[sensor] if expert is None else _value(row, expert, sensor)
                if value is not None and np.isfinite(value):
                    found[row.tick] = float(value)
        return [found.get(tick) for tick in ticks]

    def _align(self, sensors: tuple[str, ...]) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        source = np.array([old.get(name, -1) for name in sensors], np.int64)  # -1: the entry appended
        self._rows = deque(
            _Row(
                row.tick,
                np.append(row.score, np.float32(1.0))[source],
                np.append(row.expected, np.float32(np.nan))[source],
                None
                if row.forecasts is None
                else np.pad(row.forecasts, ((0, 0), (0, 1)), constant_values=np.nan)[:, source],
            )
            for row in self._rows
        )
        self._sensors = sensors


def _expert(member: str) -> int | None:
    """Row of the forecasts; persistence is about the shared history. None: the model."""
    if member == MODEL:
        return None
    return {"persistence": SENSOR_MEMBERS.index("shared history")}.get(member, SENSOR_MEMBERS.index(member))


def _value(row: _Row, expert: int, sensor: int) -> float | None:
    return None if row.forecasts is None else float(row.forecasts[expert, sensor])
