"""Sensors whose neighbours are missing are expected less well, and so judged less sharply. Pure.

A model that may look at a neighbour expects a sensor to within a part of what it otherwise could. When that neighbour
is missing or bad, it is left out, and what remains is expected with the old certainty: scores of the sensors around a
dead one rise although nothing happens there. So scores are reduced by the attention that went to neighbours which are
not usable now, down to ``_FLOOR`` of them: a sensor that is plainly wrong stands out still.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Scores

_FLOOR = 0.3  # measured: squared residuals of a pair grow to about 3.3 times when the other one is gone


class Bereft:
    """Remembers how much attention went to each neighbour while all of a sensor's neighbours were usable."""

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._neighbour: NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._attention: NDArray[np.float32] = np.zeros((0, 0), np.float32)

    def allowance(self, snapshot: Snapshot, scores: Scores) -> NDArray[np.float32]:
        """Take one tick in; the factor [N] of each score, 1 where no neighbour is missing."""
        neighbour = scores.neighbour
        same = neighbour is self._neighbour or np.array_equal(neighbour, self._neighbour)
        if snapshot.sensors is not self._sensors or not same:
            # Indices mean others now. Who has just lost a neighbour is judged sharply until that comes back.
            self._sensors, self._neighbour = snapshot.sensors, neighbour
            self._attention = np.zeros(neighbour.shape, np.float32)
        if snapshot.usable.all():
            self._remember(scores.attention, scores.valid)
            return np.ones(len(snapshot), np.float32)
        missing = (neighbour >= 0) & ~snapshot.usable[neighbour]
        self._remember(scores.attention, ~missing.any(axis=1) & scores.valid)
        lost = np.where(missing, self._attention, 0.0).sum(axis=1)
        return np.asarray(1.0 - (1.0 - _FLOOR) * np.minimum(lost, 1.0), dtype=np.float32)

    def _remember(self, attention: NDArray[np.float32], known: NDArray[np.bool_]) -> None:
        np.copyto(self._attention, attention, where=known[:, None])
