"""Time as an argument: the daemon runs on :class:`SystemClock`, replay and tests on :class:`VirtualClock`.

Pipeline time is monotonic; wall time (UTC, ns since the epoch) only labels what happened, because a gateway
without a battery clock starts in 1970 and jumps when it first reaches a time server.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """What the pipeline needs to know about time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never go back; the zero point has no meaning."""
        ...

    def wall_ns(self) -> int:
        """UTC in nanoseconds since 1970; may jump."""
        ...

    async def sleep_until(self, monotonic_ns: int) -> None:
        """Return at ``monotonic_ns`` or at once if it has passed."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    async def sleep_until(self, monotonic_ns: int) -> None:
        await asyncio.sleep(max(0, monotonic_ns - time.monotonic_ns()) / NS_PER_S)


class VirtualClock:
    """A clock that stands still until it is told to move.

    ``set_wall_ns`` changes wall time alone, as a time server does. Sleepers wake when :meth:`advance_to` passes them.
    """

    def __init__(self, wall_ns: int = 0) -> None:
        self._monotonic_ns = 0
        self._wall_offset_ns = wall_ns
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._monotonic_ns + self._wall_offset_ns

    def set_wall_ns(self, wall_ns: int) -> None:
        """Make wall time jump to ``wall_ns``; monotonic time stays."""
        self._wall_offset_ns = wall_ns - self._monotonic_ns

    def advance(self, ns: int) -> None:
        """Move both clocks forward by ``ns`` and wake who was waiting for a time in between."""
        self.advance_to(self._monotonic_ns + ns)

    def advance_to(self, monotonic_ns: int) -> None:
        """Move to ``monotonic_ns``; going back is refused with :class:`ValueError`."""
        if monotonic_ns < self._monotonic_ns:
            raise ValueError(f"virtual clock: got {monotonic_ns}, which is before {self._monotonic_ns}")
        self._monotonic_ns = monotonic_ns
        waiting = self._sleepers
        self._sleepers = [(at, future) for at, future in waiting if at > monotonic_ns]
        for at, future in waiting:
            if at <= monotonic_ns and not future.done():
                future.set_result(None)

    async def sleep_until(self, monotonic_ns: int) -> None:
        if monotonic_ns <= self._monotonic_ns:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((monotonic_ns, future))
        await future


JUMP_NS = NS_PER_S
"""Wall time that moves against monotonic time by more than this has jumped; less is drift and followed quietly."""

_DRIFT_NS = 50_000_000
CLOCK_SET_NS = 1_577_836_800 * NS_PER_S
"""2020: a gateway that believes to be earlier has not been told the time yet."""


class Timeline:
    """Maps wall time to pipeline time, and lays the grid of ticks over it.

    Between two corrections the offset is constant, so that a source time that lies on a tick's wall time always falls
    into that very tick, whatever the clocks do in the nanoseconds between two calls.
    """

    def __init__(self, clock: Clock, period_ns: int) -> None:
        self.period_ns = period_ns
        self._clock = clock
        self._offset_ns = clock.wall_ns() - clock.monotonic_ns()

    def correct(self) -> int:
        """Compare the clocks; follow a drift or a jump. Returns the size of a jump in ns, else 0."""
        drift_ns = self._clock.wall_ns() - self._clock.monotonic_ns() - self._offset_ns
        if abs(drift_ns) > _DRIFT_NS:
            self._offset_ns += drift_ns
        return drift_ns if abs(drift_ns) > JUMP_NS else 0

    def now_ns(self) -> int:
        """Pipeline time now."""
        return self._clock.monotonic_ns()

    def wall_is_set(self) -> bool:
        """False while the gateway's wall clock is plainly wrong, as after a start without battery clock."""
        return self._clock.wall_ns() >= CLOCK_SET_NS

    def to_pipeline_ns(self, wall_ns: int) -> int:
        """Monotonic time at which wall time was (or will be) ``wall_ns``."""
        return wall_ns - self._offset_ns

    def to_wall_ns(self, pipeline_ns: int) -> int:
        """Wall time that labels ``pipeline_ns``."""
        return pipeline_ns + self._offset_ns

    def tick_after_ns(self, pipeline_ns: int) -> int:
        """The first tick strictly after ``pipeline_ns``; ticks lie on whole periods of wall time."""
        wall_ns = self.to_wall_ns(pipeline_ns)
        return self.to_pipeline_ns((wall_ns // self.period_ns + 1) * self.period_ns)

    def following_tick_ns(self, tick_ns: int) -> int:
        """The tick after the tick ``tick_ns``: a period later, or nearly so when the wall clock was set in between."""
        return self.tick_after_ns(tick_ns + self.period_ns // 2)
