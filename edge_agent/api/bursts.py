"""Much at once: how much of it is let through, and which of it is told of."""

from __future__ import annotations

from math import ceil


class Bursts:
    """A token bucket: ``most`` at once, of which one comes back every ``refill_s``.

    Times in seconds, of any clock that never goes back.
    """

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


class Onset:
    """Tells the first of a burst from the rest: one ends when nothing came for ``quiet_s`` (seconds, as above)."""

    def __init__(self, quiet_s: float) -> None:
        self._quiet_s = quiet_s
        self._last_s: float | None = None

    def begins(self, now_s: float) -> bool:
        """Note one; whether a burst begins with it."""
        last_s, self._last_s = self._last_s, now_s
        return last_s is None or now_s - last_s >= self._quiet_s
