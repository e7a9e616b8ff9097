"""What a detector is, whatever runs inside it."""

from __future__ import annotations

from typing import Protocol

from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores


class Detector(Protocol):
    """Scores one tick after the other and carries its own state between them.

    Sensors may appear, leave or change place between two calls (``snapshot.topology`` tells); state of sensors that
    stay is kept by name. ``name`` and ``version`` identify it in events; ``degraded`` is True for the fallback.
    ``warmup_ticks`` is how many ticks a sensor must have been seen before its score is valid.
    """

    name: str
    version: str
    degraded: bool
    neighbours: int
    warmup_ticks: int

    def score(self, snapshot: Snapshot) -> Scores:
        """Score the tick and move the state on. Same inputs from the same state give the same bits."""
        ...

    def reset(self) -> None:
        """Forget the carried state, as after a change of run in a recording."""
        ...
