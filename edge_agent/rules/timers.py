"""When conditions become findings and when those end, for all conditions at once. Pure.

A condition is true, false or unknown in a tick. It holds once it has been true for ``lasting``; time in which it is
unknown does not count, and does not begin it anew. It ends once it has been false for ``clear_after``, counted in the
same way. So what is unknown neither raises nor clears anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRUE, FALSE, UNKNOWN = 1, 0, -1
_SLACK = 1e-6  # relative; times are sums of ticks


@dataclass(frozen=True, slots=True)
class Saved:
    """Where one condition stands; seconds are -1 where it is not counted."""

    holds: bool = False
    true_for_s: float = -1.0
    false_for_s: float = -1.0
    before: int = UNKNOWN


FRESH = Saved()
HELD = Saved(holds=True)


class Timers:
    """One entry for each condition; entries are added at the end. Times are in seconds."""

    def __init__(self) -> None:
        self.holds: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._lasting: NDArray[np.float64] = np.zeros(0)
        self._clear_after: NDArray[np.float64] = np.zeros(0)
        self._true_for: NDArray[np.float64] = np.zeros(0)
        self._false_for: NDArray[np.float64] = np.zeros(0)
        self._before: NDArray[np.int8] = np.zeros(0, np.int8)

    def __len__(self) -> int:
        return len(self.holds)

    @property
    def pending(self) -> NDArray[np.bool_]:
        """True where a condition is true and does not hold yet."""
        return np.asarray(~self.holds & (self._true_for >= 0))

    def extend(self, lasting_s: list[float], clear_after_s: list[float], saved: list[Saved]) -> None:
        """More conditions, each with where it stood before (``FRESH``: nowhere)."""
        self.holds = np.append(self.holds, np.array([one.holds for one in saved], np.bool_))
        self._lasting = np.append(self._lasting, np.array(lasting_s) * (1 - _SLACK))
        self._clear_after = np.append(self._clear_after, np.array(clear_after_s) * (1 - _SLACK))
        self._true_for = np.append(self._true_for, [one.true_for_s for one in saved])
        self._false_for = np.append(self._false_for, [one.false_for_s for one in saved])
        self._before = np.append(self._before, np.array([one.before for one in saved], np.int8))

    def saved(self, entry: int) -> Saved:
        """Where a condition stands."""
        return Saved(
            bool(self.holds[entry]),
            float(self._true_for[entry]),
            float(self._false_for[entry]),
            int(self._before[entry]),
        )

    def end(self, entries: NDArray[np.bool_]) -> None:
        """Let conditions end at once, as those of sensors that are gone."""
        self.holds &= ~entries
        self._true_for[entries] = self._false_for[entries] = -1.0

    def update(self, truth: NDArray[np.int8], elapsed_s: float) -> NDArray[np.int64]:
        """One tick, ``elapsed_s`` after the last one; which entries began or ceased to hold."""
        before = self.holds
        self._true_for = self._counted(self._true_for, truth, TRUE, elapsed_s)
        self._false_for = self._counted(self._false_for, truth, FALSE, elapsed_s)
        self._before = truth
        begins = (truth == TRUE) & (self._true_for >= self._lasting)
        ends = (truth == FALSE) & (self._false_for >= self._clear_after)
        self.holds = np.where(before, ~ends, begins)
        return np.flatnonzero(self.holds != before)

    def _counted(
        self, seconds: NDArray[np.float64], truth: NDArray[np.int8], wanted: int, elapsed_s: float
    ) -> NDArray[np.float64]:
        """Seconds for which ``wanted`` was seen, -1 where it is not: from its first tick on, without unknown ones."""
        more = np.where(self._before == wanted, elapsed_s, 0.0)
        return np.where(truth == wanted, np.maximum(seconds, 0.0) + more, np.where(truth == UNKNOWN, seconds, -1.0))
