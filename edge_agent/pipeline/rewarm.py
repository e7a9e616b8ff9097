"""A detector gets to know the plant before it goes live: from what the graph remembers, or from a saved state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.detector import Detector, DetectorError

SETTLING_TICKS = 10
"""Usable ticks before a sensor is judged again: the plant went on meanwhile, and to a model it seems to have jumped."""


def unsettled(
    state: dict[str, NDArray[Any]], detector: Detector, settling_ticks: int = SETTLING_TICKS
) -> dict[str, NDArray[Any]]:
    """A detector's exported ``state``, with sensors that are judged again only after ``settling_ticks``."""
    if "seen" not in state:
        return state
    return state | {"seen": np.minimum(state["seen"], detector.warmup_ticks - settling_ticks)}


def rewarming(detector: Detector, past: Iterable[Snapshot]) -> Iterator[None]:
    """Run ``past`` through ``detector``, one tick a step. A failing tick ends it: live ones will tell why."""
    for snapshot in past:
        try:
            detector.score(snapshot)
        except DetectorError:
            return
        yield
