"""When to look for news: by the clock, with chance in it, and when somebody says that there are some."""

from __future__ import annotations

import random

from edge_agent.backoff import full_jitter
from edge_agent.clock import NS_PER_S, Clock
from edge_agent.contract import Hint

MOST_SPREAD_S = 3_600.0
_JITTER = 0.2
_ATTEMPTS_BEHIND = 3


class Looks:
    """Decides when the next look is due. However many hints come, one waits at most, and each costs some comparisons.

    ``poll_s``: between two looks, a fifth of it at random. ``not_within_s``: least time between two looks.
    """

    def __init__(self, clock: Clock, rng: random.Random, poll_s: float, not_within_s: float) -> None:
        self._clock = clock
        self._rng = rng
        self._poll_s = poll_s
        self._not_within_s = not_within_s
        self._failures = 0
        self._earliest_ns = clock.monotonic_ns()
        # A fleet that gets its power back at the same moment does not ask at the same moment.
        self._poll_ns = self._in(rng.uniform(0.0, min(poll_s, 60.0)))
        self._hint_ns: int | None = None
        self._hint_spread_s = 0.0

    def hint(self, hint: Hint, known_counter: int) -> bool:
        """Somebody says that there are news. Returns whether that changes when the next look is due."""
        if hint.counter is not None and hint.counter <= known_counter:
            return False
        spread_s = min(max(hint.spread_s, 0.0), MOST_SPREAD_S)
        if self._hint_ns is not None and spread_s >= self._hint_spread_s:
            return False
        self._hint_spread_s = spread_s
        self._hint_ns = self._in(self._rng.uniform(0.0, spread_s))
        return True

    def ask(self) -> None:
        """An operator wants a look as soon as the least time between two has passed."""
        self._hint_spread_s, self._hint_ns = 0.0, self._clock.monotonic_ns()

    def due_ns(self) -> int:
        """When the next look is due (monotonic)."""
        hint_ns = self._poll_ns if self._hint_ns is None else self._hint_ns
        return max(min(self._poll_ns, hint_ns), self._earliest_ns)

    def begin(self) -> None:
        """A look begins now; hints from now on are for the next one."""
        self._hint_ns = None
        self._earliest_ns = self._in(self._not_within_s)

    def end(self, *, reached: bool) -> None:
        """It is over. The repository could not be ``reached``: soon again, then less and less often."""
        if reached:
            self._failures = 0
            pause_s = self._poll_s * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER)
        else:
            self._failures += 1
            pause_s = self._not_within_s + full_jitter(self._rng, self._failures + _ATTEMPTS_BEHIND, self._poll_s)
        self._poll_ns = self._in(pause_s)

    def _in(self, seconds: float) -> int:
        return self._clock.monotonic_ns() + int(seconds * NS_PER_S)
