"""Times at which a rule applies: they begin as a crontab says, and last for a while. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.schedule import CLOCK_SET_NS, last_before, next_after


@dataclass(frozen=True, slots=True)
class Window:
    """One line of a schedule: from each time of ``begins`` on for ``duration_s``."""

    begins: str
    duration_s: float
    timezone: str


class Schedule:
    """Answers whether one of ``windows`` is open; without any it always is, and so it is while the wall clock is unset:
    a rule too many is better than one too few. Looks at the calendar at changes only."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = tuple(windows)
        self._open = True
        self._valid_ns = (0, 0)

    def open_at(self, wall_ns: int) -> bool:
        """Whether the rule applies at this wall time."""
        if not self._windows or wall_ns < CLOCK_SET_NS:
            return True
        since_ns, until_ns = self._valid_ns
        if not since_ns <= wall_ns < until_ns:
            self._look(wall_ns)
        return self._open

    def _look(self, wall_ns: int) -> None:
        changes_ns = 2**63
        self._open = False
        for window in self._windows:
            last_ns = last_before(window.begins, window.timezone, wall_ns)
            next_ns = next_after(window.begins, window.timezone, wall_ns)
            ends_ns = 0 if last_ns is None else last_ns + round(window.duration_s * 1e9)
            if wall_ns < ends_ns:
                self._open = True
                changes_ns = min(changes_ns, ends_ns)
            changes_ns = changes_ns if next_ns is None else min(changes_ns, next_ns)
        self._valid_ns = (wall_ns, changes_ns)
