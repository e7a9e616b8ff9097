"""What was expected of all sensors at the last ticks, and since when each stands out. Pure.

The latter is estimated as the change point of its scores by cumulative sums (E. S. Page, "Continuous inspection
schemes", Biometrika 41, 1954): the tick after the sum of scores less a reference value was zero last. The sum is
limited, so that it has forgotten what is over within ten ticks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision.blame import blame
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import MODEL, SENSOR_MEMBERS, Scores

TICKS = 240
_LEAST_TICKS = 20
_MOST_VALUES = 100_000  # sensors times ticks that are kept: thousands of sensors must not need tens of megabytes
_NORMAL, _REFERENCE = 1.0, 4.0  # scores: of a normal tick; two usual deviations, squared
_HIGHEST = 30.0  # sum; a normal tick takes about three of it


@dataclass(frozen=True, slots=True)
class _Row:
    tick: int
    blame: NDArray[Any]
    expected: NDArray[Any]
    forecasts: NDArray[Any] | None


class Trail:
    """Expectations of up to ``TICKS`` ticks; what the detector gave is kept as it is and not copied.

    ``onset`` (N): the tick since which each sensor stands out; for one that does not, the next tick.
    """

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._rows: deque[_Row] = deque()
        self._sum: NDArray[np.float32] = np.zeros(0, np.float32)
        self.onset: NDArray[np.int64] = np.zeros(0, np.int64)

    def update(self, snapshot: Snapshot, scores: Scores) -> None:
        """Take one tick in."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors, snapshot.tick)
        score = np.where(scores.valid, scores.score, np.float32(_NORMAL))
        self._sum = np.clip(self._sum + (score - np.float32(_REFERENCE)), 0.0, np.float32(_HIGHEST))
        self.onset = np.where(self._sum > 0.0, self.onset, snapshot.tick + 1)
        self._rows.append(_Row(snapshot.tick, blame(scores), scores.expected, scores.forecasts))
        while len(self._rows) > max(_LEAST_TICKS, min(TICKS, _MOST_VALUES // max(1, len(snapshot)))):
            self._rows.popleft()

    @property
    def newest_blame(self) -> NDArray[Any]:
        """Blame (N) of the tick taken in last."""
        return self._rows[-1].blame

    def blame(self, sensors: NDArray[np.int64], since: NDArray[np.int64]) -> NDArray[np.float64]:
        """Blame of ``sensors`` (M), summed from the tick ``since`` (M) on, as far as ticks are kept."""
        total = np.zeros(len(sensors))
        first = int(since.min())
        for row in reversed(self._rows):
            if row.tick < first:
                break
            total += np.where(row.tick >= since, np.nan_to_num(row.blame[sensors]), 0.0)
        return total

    def expected(self, sensor: int, member: str, ticks: range) -> NDArray[np.float64]:
        """What ``member`` expected of ``sensor`` at each of ``ticks``; NaN where nothing is known."""
        found = np.full(len(ticks), np.nan)
        expert = _expert(member)
        for row in reversed(self._rows):
            if row.tick < ticks.start:
                break
            if row.tick >= ticks.stop:
                continue
            if expert is None:
                found[row.tick - ticks.start] = row.expected[sensor]
            elif row.forecasts is not None:
                found[row.tick - ticks.start] = row.forecasts[expert, sensor]
        return found

    def _align(self, sensors: tuple[str, ...], tick: int) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        source = np.array([old.get(name, -1) for name in sensors], np.int64)  # -1: what is appended
        self._sum = np.append(self._sum, np.float32(0.0))[source]
        self.onset = np.append(self.onset, tick)[source]
        self._rows = deque(
            _Row(
                row.tick,
                _chosen(row.blame, source),
                _chosen(row.expected, source),
                None if row.forecasts is None else _chosen(row.forecasts, source),
            )
            for row in self._rows
        )
        self._sensors = sensors


def _chosen(values: NDArray[Any], source: NDArray[np.int64]) -> NDArray[Any]:
    return np.concatenate((values, np.full((*values.shape[:-1], 1), np.nan, values.dtype)), axis=-1)[..., source]


def _expert(member: str) -> int | None:
    """Row of the forecasts; persistence is about the shared history. None: the model."""
    if member == MODEL:
        return None
    return {"persistence": SENSOR_MEMBERS.index("shared history")}.get(member, SENSOR_MEMBERS.index(member))
