"""When the next tick is, and which ones were missed."""

from __future__ import annotations

import asyncio

from edge_agent.clock import NS_PER_S, Clock, Timeline
from edge_agent.metrics import Metrics

_CATCH_UP_NS = NS_PER_S  # ticks overdue by less are made up for: what the model carries should not miss one
_GRACE_PERIODS = 2
_LEAST_GRACE_NS = 5 * NS_PER_S


class Beat:
    """Ticks in order, each ``lateness_s`` after its time. :meth:`begin` comes first."""

    def __init__(self, clock: Clock, lateness_s: float, metrics: Metrics) -> None:
        self.tick_ns = 0
        """Pipeline time of the next tick."""
        self._clock = clock
        self._lateness_ns = round(lateness_s * NS_PER_S)
        self._missed = metrics.ticks_missed.labels()
        self._timeline: Timeline | None = None
        self._pause: asyncio.Future[None] | None = None
        self._ended = False
        self.alone = asyncio.Lock()
        """Held during each tick, and by what must not run beside one."""

    def begin(self, timeline: Timeline) -> None:
        """The next tick is the first of ``timeline`` from now on."""
        self._timeline = timeline
        self.tick_ns = timeline.tick_after_ns(self._clock.monotonic_ns() - self._lateness_ns)

    def overdue_s(self) -> float:
        """How long ago the next tick should have been finished; negative while there is time."""
        if self._timeline is None:
            return -1.0
        grace_ns = max(_GRACE_PERIODS * self._timeline.period_ns, _LEAST_GRACE_NS)
        return (self._clock.monotonic_ns() - self.tick_ns - self._lateness_ns - grace_ns) / NS_PER_S

    def late_s(self) -> float:
        """How late the tick that is being made, or comes next, is by now; negative while there is time."""
        return (self._clock.monotonic_ns() - self.tick_ns - self._lateness_ns) / NS_PER_S

    async def next(self) -> int:
        """Wait until the next tick is due; its pipeline time."""
        await self._clock.sleep_until(self.tick_ns + self._lateness_ns)
        return self.tick_ns

    async def pause(self, wanted_s: float) -> None:
        """Until the next tick is ``wanted_s`` away; with ticks closer together, until one has just ended."""
        timeline = self._timeline
        if timeline is None:
            return
        wanted_ns = min(round(wanted_s * NS_PER_S), timeline.period_ns // 2)
        while self.tick_ns + self._lateness_ns - self._clock.monotonic_ns() < wanted_ns and not self._ended:
            if self._pause is None:
                self._pause = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._pause)

    def end(self) -> None:
        """No more ticks come; nobody need wait for them."""
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)
        self._pause = None

    def done(self) -> None:
        """Go on to the following tick; those that are overdue by much are left out and counted."""
        assert self._timeline is not None
        self._wake()
        self.done_at_once()
        period_ns = self._timeline.period_ns
        behind_ns = self._clock.monotonic_ns() - self._lateness_ns - self.tick_ns
        missed = behind_ns // period_ns if behind_ns > max(period_ns, _CATCH_UP_NS) else 0
        self._missed.inc(missed)
        self.tick_ns += missed * period_ns

    def done_at_once(self) -> None:
        """Go on to the very next tick."""
        assert self._timeline is not None
        self.tick_ns = self._timeline.following_tick_ns(self.tick_ns)
