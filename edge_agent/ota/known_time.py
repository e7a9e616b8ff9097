"""What time it is at least, on gateways without a battery clock."""

from __future__ import annotations

from edge_agent.clock import CLOCK_SET_NS, NS_PER_S, Clock
from edge_agent.ota.judge import Moment

_TOLERANCE_S = 60.0  # the publisher's clock and ours may differ a little
_ELAPSED_S = CLOCK_SET_NS / NS_PER_S


class KnownTime:
    """A moment that is known to have passed, and what has passed since then by the monotonic clock.

    Wall time is never learned: a clock that once was years ahead must not make all metadata look expired for good.
    """

    def __init__(self, clock: Clock, floor_s: float = 0.0) -> None:
        self._clock = clock
        self._floor_s = max(floor_s, _ELAPSED_S)
        self._since_ns = clock.monotonic_ns()

    def learn(self, moment_s: float) -> None:
        """``moment_s`` (s since 1970) has passed: somebody trusted signed something then."""
        if moment_s > self.floor_s():
            self._floor_s, self._since_ns = moment_s, self._clock.monotonic_ns()

    def floor_s(self) -> float:
        """The latest moment that is known to have passed, s since 1970."""
        return self._floor_s + (self._clock.monotonic_ns() - self._since_ns) / NS_PER_S

    def now_s(self) -> float:
        """The larger of wall time and floor, s since 1970."""
        return max(self._clock.wall_ns() / NS_PER_S, self.floor_s())

    def unconfirmed(self) -> bool:
        """Whether the wall clock is behind what is known to have passed."""
        return self._clock.wall_ns() / NS_PER_S < self.floor_s() - _TOLERANCE_S

    def moment(self) -> Moment:
        """For the judgement."""
        return Moment(self.now_s(), self.unconfirmed())
