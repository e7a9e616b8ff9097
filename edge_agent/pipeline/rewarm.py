"""A new detector gets to know the plant from what the rolling graph remembers, before it goes live."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.detector import Detector, DetectorError


def rewarm(detector: Detector, past: Iterable[Snapshot]) -> int:
    """Run ``past`` through ``detector``; how many ticks it took. A failing tick ends it: live ones will tell why."""
    ticks = 0
    for snapshot in past:
        try:
            detector.score(snapshot)
        except DetectorError:
            break
        ticks += 1
    return ticks
