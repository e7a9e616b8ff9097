"""Whether the model still fits the plant: evidence that residuals are larger than they used to be.

Each block's residual level gets a conformal p-value among the blocks before it, and p-values are bets against
exchangeability (V. Vovk et al., "Retrain or not retrain: conformal test martingales for change-point detection", 2021).
The bets are multiplied and never fall below 1 (J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework
for sequential change detection", 2024): a plant that did not change reaches ``evidence`` c after c blocks on average,
or later, whatever the distribution, if what a block is compared with is drawn anew. Here it is the same past for many
blocks, so the promise holds nearly, not exactly. Blocks wait before they join the past: a change must not hide itself.
"""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np
from numpy.typing import NDArray

_MEMORY = 512
_WAITING = 12
_DOUBTFUL = 10.0  # evidence from which on a block does not join the past


class Staleness:
    """O(1): the last 512 normal blocks. ``stale`` from ``evidence >= convincing`` until the evidence is gone again."""

    def __init__(self, least_blocks: int, convincing: float = 10_000.0) -> None:
        self._least = least_blocks
        self._convincing = convincing
        self._past: NDArray[np.float64] = np.zeros(0)
        self._waiting: deque[float] = deque()
        self.evidence = 1.0
        self.stale = False

    def add(self, residual: float) -> bool:
        """Take in the residual level of one block without an incident; True when the model has just become stale."""
        before = self.stale
        if len(self._past) >= self._least:
            p = (1.0 + np.count_nonzero(self._past >= residual)) / (len(self._past) + 1.0)
            self.evidence = min(max(self.evidence, 1.0) * bet(p), self._convincing)
            self.stale = self.evidence >= self._convincing or (self.stale and self.evidence > 1.0)
        self._waiting.append(residual)
        if len(self._past) < self._least or len(self._waiting) > _WAITING:
            oldest = self._waiting.popleft()
            if self.evidence < _DOUBTFUL:
                self._past = np.append(self._past, oldest)[-_MEMORY:]
        return self.stale and not before

    def forget(self) -> None:
        """Begin anew: the model is another one, or the plant is known to have changed."""
        self._past, self.evidence, self.stale = np.zeros(0), 1.0, False
        self._waiting.clear()

    def export(self) -> NDArray[np.float64]:
        """The past, and the evidence last."""
        return np.append(self._past, self.evidence)

    def restore(self, saved: NDArray[np.float64]) -> None:
        """Take over what :meth:`export` gave."""
        self._past, self.evidence = saved[:-1].astype(np.float64), float(saved[-1])
        self.stale = self.evidence >= self._convincing


def bet(p: float) -> float:
    """What a bet on small p-values pays: the mean of e p^(e-1) over all e from 0 to 1; its mean over uniform p is 1."""
    return (1.0 - p + p * log(p)) / (p * log(p) ** 2) if p < 1.0 - 1e-6 else 0.5
