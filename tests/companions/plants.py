"""A small plant with relations, and its ticks as the companions see them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions import CompanionOptions, Companions
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

Floats = NDArray[np.float64]


def plant(ticks: int, sensors: int = 8, seed: int = 0) -> Floats:
    """Readings [T, N]: two slow drives, each sensor follows both of them, with its own unit and noise."""
    random = np.random.default_rng(seed)
    drive = np.zeros((ticks, 2))
    for tick in range(1, ticks):
        drive[tick] = 0.95 * drive[tick - 1] + random.normal(0, 0.3, 2)
    mix = np.random.default_rng(99).normal(0, 1, (2, sensors))
    unit = 10.0 ** np.arange(sensors).clip(0, 4)
    return unit * (20.0 + drive @ mix + random.normal(0, 0.1, (ticks, sensors)))


def snapshot(tick: int, values: Floats, names: tuple[str, ...], known: NDArray[np.bool_] | None = None) -> Snapshot:
    """One tick; where not ``known`` nothing has ever been heard."""
    usable = np.isfinite(values) if known is None else known
    count = len(values)
    neighbour = np.full((count, 8), -1, np.int64)
    return Snapshot(
        tick,
        0,
        1,
        names,
        np.where(usable, values, 0.0),
        np.where(usable, 0.0, 100.0).astype(np.float32),
        np.zeros(count, np.int32),
        usable,
        neighbour,
    )


def model_scores(view: Snapshot) -> Scores:
    """A model that finds everything usual."""
    count = len(view)
    ones = np.ones(count, np.float32)
    return Scores(ones, ones, ones, view.usable, view.neighbour, np.zeros((count, 8), np.float32))


class Rig:
    """Companions fed with rows; every tick counts as normal unless told otherwise."""

    def __init__(self, sensors: int = 8, options: CompanionOptions | None = None) -> None:
        self.companions = Companions(options or CompanionOptions())
        self.names = tuple(f"s{i}" for i in range(sensors))
        self._tick = 0

    def feed(
        self,
        rows: Floats,
        *,
        alarm: bool = False,
        suspicious: bool = False,
        delay: int = 0,
        names: tuple[str, ...] | None = None,
        incident: str | None = None,
    ) -> list[Scores]:
        found = []
        for row in rows:
            view = snapshot(self._tick, row, names or self.names)
            found.append(self.companions.score(view, model_scores(view), np.ones(len(row), np.bool_)))
            self.companions.settle(view, alarm=alarm, suspicious=suspicious, delay=delay, incident=incident)
            self._tick += 1
        return found
