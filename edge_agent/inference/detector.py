"""What a detector is, whatever runs inside it."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from edge_agent.errors import EdgeAgentError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores


class DetectorError(EdgeAgentError):
    """A tick could not be scored (the model failed or gave non-finite numbers). The carried state is untouched."""


class Detector(Protocol):
    """Scores one tick after the other and carries its own state between them.

    Sensors may appear, leave or change place between two calls (``snapshot.topology`` tells); state of sensors that
    stay is kept by name. ``name`` and ``version`` identify it in events; ``degraded`` is True for the fallback.
    ``neighbours`` is K. ``warmup_ticks`` is how many ticks a sensor must have been seen before its score is valid.
    """

    name: str
    version: str
    degraded: bool
    neighbours: int
    warmup_ticks: int

    def score(self, snapshot: Snapshot) -> Scores:
        """Score the tick and move the state on. Same inputs from the same state give the same bits.

        :raises DetectorError: the tick cannot be scored; the state stays as it was before.
        """
        ...

    def reset(self) -> None:
        """Forget the carried state, as after a change of run in a recording."""
        ...

    def export_state(self) -> dict[str, NDArray[Any]]:
        """The carried state: ``sensors`` (unicode [N]) and one array with N rows for each state. Copies."""
        ...

    def import_state(self, state: dict[str, NDArray[Any]]) -> bool:
        """Take over an exported state; False (and nothing changed) when it does not fit this detector."""
        ...
