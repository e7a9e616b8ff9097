"""Some calls at once, and then one now and then (token bucket)."""

from __future__ import annotations

from math import ceil


class Bursts:
    """``most`` at once, of which one comes back every ``refill_s``. Times in seconds, of any clock that never goes
    back."""

    def __init__(self, most: int, refill_s: float) -> None:
        self._most = most
        self._refill_s = refill_s
        self._left = float(most)
        self._at_s: float | None = None

    def take(self, now_s: float) -> int:
        """Take one: 0, or after how many whole seconds to come again when none is left."""
        if self._at_s is not None:
            self._left = min(float(self._most), self._left + (now_s - self._at_s) / self._refill_s)
        self._at_s = now_s
        if self._left >= 1.0:
            self._left -= 1.0
            return 0
        return max(1, ceil((1.0 - self._left) * self._refill_s))
