"""P-values kept honest while the plant changes slowly. Pure.

P-values are calibrated on one stretch of normal operation. As soon as the plant runs a little differently, all of them
are too small: with recordings of servers a fixed threshold alarmed on four fifths of the normal ticks. So the 90 %
quantile of surprise (``-ln p``; ``ln 10`` for honest p-values) is tracked tick by tick, and surprise is divided by how
much it is above that: quantile tracking as in adaptive conformal inference (I. Gibbs, E. Candes, "Adaptive Conformal
Inference Under Distribution Shift", NeurIPS 2021), at a level where there is something to count every few ticks.

What an attacker can gain by it is bounded: surprise is divided by three at most, never multiplied, moves by less than
a thousandth a tick in the long run, and stands still while an incident is open (the caller does not call
:meth:`Stretch.learn` then).
"""

from __future__ import annotations

import math

from edge_agent.decision.calibration import Judgement

_LEVEL = 0.1
_HONEST = -math.log(_LEVEL)
_MOST = 3.0
_GAIN = 1.0 / _LEVEL  # one over the density of honest surprise at its quantile: the fastest that settles
_FIRST, _LONGEST = 200.0, 5_000.0  # ticks over which the quantile is tracked: in the beginning, in the long run
_LARGEST = 10.0 * _HONEST  # surprise beyond this is no news of what is usual


class Stretch:
    """How many times more surprising normal operation is than it should be: ``factor``, 1 to 3."""

    def __init__(self) -> None:
        self._quantile = _HONEST
        self._ticks = 0.0

    @property
    def factor(self) -> float:
        """What surprise is divided by."""
        return min(max(self._quantile / _HONEST, 1.0), _MOST)

    def honest(self, judgement: Judgement) -> Judgement:
        """``judgement`` with its surprise divided by :attr:`factor`."""
        share = 1.0 / self.factor
        return Judgement(judgement.p_value**share, judgement.event_rate**share)

    def learn(self, p_value: float) -> None:
        """Take in the p-value of a tick without an alarm, as it was before :meth:`honest`.

        A known history counts as well: the longer it was, the less the first minutes after it can move.
        """
        self._ticks = min(self._ticks + 1.0, _LONGEST - _FIRST)
        surprise = min(-math.log(max(p_value, 1e-300)), _LARGEST)
        above = 1.0 - _LEVEL if surprise > self._quantile else -_LEVEL
        moved = self._quantile + _GAIN / (self._ticks + _FIRST) * above
        self._quantile = min(max(moved, _HONEST / _MOST), _MOST * _HONEST)

    def export(self) -> list[float]:
        """What was learned, for saving: two numbers."""
        return [self._quantile, self._ticks]

    def restore(self, saved: list[float]) -> None:
        """Take over what :meth:`export` gave. :raises ValueError: it has another form."""
        if len(saved) != 2 or not all(math.isfinite(number) and number >= 0 for number in saved):
            raise ValueError(f"saved stretch: got {saved}, expected two numbers")
        self._quantile = min(max(saved[0], _HONEST / _MOST), _MOST * _HONEST)
        self._ticks = min(saved[1], _LONGEST - _FIRST)
