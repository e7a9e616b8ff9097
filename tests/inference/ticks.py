"""Ticks for the detectors: independent noise around 20, seeded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from bundle_factory import ring

from edge_agent.graph.snapshot import Snapshot

NAMES = tuple(f"s{row}" for row in range(8))


def tick(
    value: Any,
    sensors: Sequence[str] = NAMES,
    number: int = 0,
    topology: int = 0,
    neighbour: np.ndarray | None = None,
    **changes: Any,
) -> Snapshot:
    count = len(sensors)
    return replace(
        Snapshot(
            tick=number,
            time_ns=number * 10**9,
            topology=topology,
            sensors=tuple(sensors),
            value=np.broadcast_to(np.asarray(value, np.float64), (count,)).copy(),
            age=np.zeros(count, np.float32),
            quality=np.zeros(count, np.int32),
            usable=np.ones(count, np.bool_),
            neighbour=ring(count) if neighbour is None else neighbour,
        ),
        **changes,
    )


def noise(ticks: int, sensors: Sequence[str] = NAMES, seed: int = 0, **changes: Any) -> Iterator[Snapshot]:
    rng = np.random.default_rng(seed)
    for number in range(ticks):
        yield tick(20 + rng.normal(size=len(sensors)), sensors, number, **changes)
