"""From judging the model alone to judging the ensemble, without a gap in between.

Companions join some hundred ticks after the start, and scores then mean something else. Calibration for the ensemble is
learned by a second decision beside the one in force, and taken over once it is ready. Where the one in force has not
begun to calibrate, it simply goes on with the ensemble.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.decision.decider import Decider, Decision
from edge_agent.decision.facts import SensorFacts
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores


class Transition:
    """``done``: the ensemble is judged. ``new_decider`` makes a decision like the one in force, without knowledge."""

    def __init__(self, new_decider: Callable[[], Decider]) -> None:
        self._new_decider = new_decider
        self._next: Decider | None = None
        self.done = False

    def step(
        self,
        decider: Decider,
        snapshot: Snapshot,
        ensemble: Scores,
        facts: SensorFacts,
        decision: Decision,
        *,
        trusted: bool,
    ) -> None:
        """One tick on which companions were heard and ``decider`` judged the model alone.

        ``trusted``: the tick is known to be normal.
        """
        if decider.calibration.progress == 0.0:
            decider.recalibrate(already_settled=True)
            self.done = True
            return
        if self._next is None:
            self._next = self._new_decider()
        self._next.decide(snapshot, ensemble, facts, alarmed=decision.alarm, trusted=trusted)
        if self._next.calibration.ready:
            decider.judge_as(self._next)
            self._next, self.done = None, True

    def start_again(self) -> None:
        """The model was exchanged: it alone is judged for now."""
        self._next, self.done = None, False
