"""Which sensors stand out, and which of them belong together. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

_TICKS = 5
_OUTSTANDING = 9.0  # three usual deviations, squared
_SMALLEST_SHARE = 0.15  # a group with less of the total is told as part of the largest one
_MOST_GROUPS = 4
_MANY, _LARGE_PART = 20, 0.2  # so many sensors that are such a part of the plant have one cause, connected or not
_WORST = 3  # sensors by which it is told whether something is over
_CALM, _FADED = 3.0, 0.5  # five-tick mean below which it may be, and that as a share of what has lasted


class Suspects:
    """The sensors' scores and the groups of sensors that stand out.

    ``mean``: five-tick mean or lasting score of each sensor (N), whichever is higher; ``recent``: the former alone.
    """

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._recent: deque[NDArray[np.float32]] = deque(maxlen=_TICKS)
        self._counted = 0
        self._average: NDArray[np.float32] = np.zeros(0, np.float32)
        self.mean: NDArray[np.float32] = np.zeros(0, np.float32)
        self.recent: NDArray[np.float32] = np.zeros(0, np.float32)

    def update(
        self,
        snapshot: Snapshot,
        scores: Scores,
        average: NDArray[np.float32],
        lasting: NDArray[np.float32],
        monitored: NDArray[np.bool_],
    ) -> None:
        """Take one tick in; ``average`` (N) is the mean score over a longer time, ``lasting`` it relative to usual."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        counts = scores.valid & monitored
        self._recent.append(np.where(counts, scores.score, 0.0).astype(np.float32))
        self._average = average
        self._counted = int(np.count_nonzero(counts))
        self.recent = np.mean(self._recent, axis=0, dtype=np.float32)
        self.mean = np.maximum(self.recent, np.where(counts, lasting, 0.0))

    def groups(self, snapshot: Snapshot) -> list[list[int]]:
        """Sensors that stand out, as connected parts of the graph, strongest first; a large part of all is one."""
        chosen = np.flatnonzero(self.mean > _OUTSTANDING)
        if not len(chosen):
            return []
        if self.wide(len(chosen)):
            return [chosen.tolist()]
        parts = _connected(chosen, snapshot.neighbour)
        strength = [float(self.mean[part].sum()) for part in parts]
        order = sorted(range(len(parts)), key=lambda i: -strength[i])
        total = sum(strength)
        groups: list[list[int]] = []
        for i in order:
            if groups and (strength[i] < _SMALLEST_SHARE * total or len(groups) >= _MOST_GROUPS):
                groups[0] += parts[i]
            else:
                groups.append(list(parts[i]))
        return groups

    def wide(self, sensors: int) -> bool:
        """Whether so many sensors are a large part of the plant."""
        return sensors >= max(_MANY, _LARGE_PART * self._counted)

    def over(self, sensors: Collection[str]) -> bool:
        """Whether what went on at ``sensors`` (names) is over: the worst are calm, and were not for long.

        Where scores have long been as they are now, the alarm is about that, and it goes on.
        """
        rows = np.array([i for i, name in enumerate(self._sensors) if name in sensors], np.int64)
        if not len(rows):
            return True
        worst = rows[np.argsort(self._average[rows])[-_WORST:]]
        now, before = float(self.recent[worst].mean()), float(self._average[worst].mean())
        return now < min(_CALM, _FADED * before)

    def worst(self) -> int:
        """The sensor with the highest score, for an alarm in which none stands out by itself."""
        return int(self.mean.argmax())

    def reset(self) -> None:
        """Forget the last ticks."""
        self._recent.clear()

    def _align(self, sensors: tuple[str, ...]) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        source = np.array([old.get(name, len(old)) for name in sensors], dtype=np.int64)
        self._recent = deque((np.append(row, np.float32(0))[source] for row in self._recent), maxlen=_TICKS)
        self._sensors = sensors


def _connected(chosen: NDArray[np.int64], neighbour: NDArray[np.int64]) -> list[list[int]]:
    """Parts of ``chosen`` that are linked by an edge in either direction, or by a common neighbour."""
    root = {int(i): int(i) for i in chosen}

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    shared: dict[int, int] = {}
    for i in root:
        for j in (int(j) for j in neighbour[i] if j >= 0):
            if j in root:
                root[find(i)] = find(j)
            else:
                root[find(i)] = find(shared.setdefault(j, i))
    parts: dict[int, list[int]] = {}
    for i in root:
        parts.setdefault(find(i), []).append(i)
    return list(parts.values())
