"""Runs the uplinks: hints of all of them go to the updater, its latest status report to each of them.

::

    Uplink.run ◀─▶ Port ──▶ Switchboard.look ──▶ the updater, which coalesces and limits
                   Port ◀── Switchboard.tell ◀── the updater
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.contract import AdapterContext, Hint, Uplink, UplinkOptions
from edge_agent.errors import RetryableAdapterError
from edge_agent.metrics import Counter, Metrics
from edge_agent.supervisor import Lives


class Switchboard:
    """Between the updater and any number of uplinks, on one event loop.

    ``look`` must not block. A report that was not fetched before the next one is told is skipped: only the latest
    counts.
    """

    def __init__(self, fleet: str, ring: str, gateway: str, look: Callable[[Hint], None]) -> None:
        self.fleet = fleet
        self.ring = ring
        self.gateway = gateway
        self.look = look
        self._latest: bytes | None = None
        self._number = 0
        self._told = asyncio.Event()

    def tell(self, report: bytes) -> None:
        """Have every uplink get ``report`` (JSON), also those that come later."""
        self._latest = report
        self._number += 1
        self._told.set()
        self._told = asyncio.Event()

    async def follow(self, next_report: Callable[[], Awaitable[bytes]]) -> None:
        """Tell whatever ``next_report`` gives, until cancelled."""
        while True:
            self.tell(await next_report())

    async def newer(self, than: int) -> tuple[int, bytes]:
        """Number and text of the latest report, once its number is above ``than``; the first one has 1."""
        while self._latest is None or self._number <= than:
            await self._told.wait()
        return self._number, self._latest


class Port:
    """One uplink's side of the switchboard (see :class:`~edge_agent.contract.UplinkPort`)."""

    def __init__(self, switchboard: Switchboard, hints: Counter) -> None:
        self.fleet = switchboard.fleet
        self.ring = switchboard.ring
        self.gateway = switchboard.gateway
        self._switchboard = switchboard
        self._hints = hints
        self._got = 0

    def look(self, hint: Hint) -> None:
        """Count it and pass it on."""
        self._hints.inc()
        self._switchboard.look(hint)

    async def next_report(self) -> bytes:
        """The latest report, once it is newer than the one got last."""
        self._got, report = await self._switchboard.newer(self._got)
        return report


class UplinkRunner:
    """Runs one uplink for as long as the daemon lives. What it fails of is told and tried again."""

    def __init__(
        self,
        name: str,
        build: Callable[[], Uplink],
        options: UplinkOptions,
        context: AdapterContext,
        metrics: Metrics,
        switchboard: Switchboard,
    ) -> None:
        self.name = name
        self.options = options
        self.context = context
        self._build = build
        self._switchboard = switchboard
        self._hints = metrics.uplink_hints.labels(name)
        self._lives = Lives(f"uplink {name}", context, metrics.uplink_restarts.labels(name), options.retry_max)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                error = await self._lives.live(self._life)
                await self._lives.rest(error or RetryableAdapterError("it has ended by itself"))
        finally:
            self.context.ended("stopped")

    async def _life(self) -> None:
        # A port of its own: what an earlier life had fetched may not have arrived.
        await self._build().run(Port(self._switchboard, self._hints))
