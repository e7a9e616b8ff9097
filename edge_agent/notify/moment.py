"""Time as the router needs it: how long something has lasted, and what to call it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on two clocks: ``monotonic_ns`` measures how long, ``wall_ns`` (UTC) only labels and may jump."""

    monotonic_ns: int
    wall_ns: int

    def wall_at(self, monotonic_ns: int) -> int:
        """Wall time at ``monotonic_ns``, as the clocks stand now."""
        return self.wall_ns + monotonic_ns - self.monotonic_ns

    def monotonic_at(self, wall_ns: int, longest_ns: int) -> int:
        """Monotonic time of a wall time that was kept over a restart.

        Not before now and at most ``longest_ns`` from now, whatever the wall clock has been set to in between.
        """
        return self.monotonic_ns + min(max(wall_ns - self.wall_ns, 0), longest_ns)
