"""The sources, sinks and uplinks that run: started, stopped and replaced one by one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial

from edge_agent.clock import Clock
from edge_agent.config.schema import AgentConfig
from edge_agent.contract import AdapterContext, AdapterKind, Hint, SinkOptions, SourceOptions, UplinkOptions
from edge_agent.daemon.parts import Parts
from edge_agent.delivery import SinkRunner
from edge_agent.metrics import Metrics
from edge_agent.ota.options import gateway_name
from edge_agent.ota.uplinks import Switchboard, UplinkRunner
from edge_agent.outbox import Outbox, folder_of, tidy
from edge_agent.registry import build_sink, build_source, build_uplink, sink_adapter, source_adapter, uplink_adapter
from edge_agent.sample import Batch
from edge_agent.supervisor import SourceRunner
from edge_agent.verdict import Event

_log = logging.getLogger(__name__)

_DAY_S = 86400.0
_LAST_S = 2.0  # for the disk, when a sink has taken all the time there was


class Runners:
    """All sources, sinks and uplinks of one daemon; each is one of its parts.

    ``sources``, ``sinks`` and ``uplinks`` have those that were started and not stopped, with the options they run with;
    one that has ended by itself stays among them. ``switchboard``: None as long as there are no updates.
    """

    def __init__(self, config: AgentConfig, parts: Parts, clock: Clock, metrics: Metrics, rng: random.Random) -> None:
        self.sources: dict[str, SourceRunner] = {}
        self.sinks: dict[str, SinkRunner] = {}
        self.uplinks: dict[str, UplinkRunner] = {}
        self.switchboard: Switchboard | None = None
        self._parts = parts
        self._clock = clock
        self._metrics = metrics
        self._rng = rng
        self._capacity = config.intake.capacity
        self._stop_timeout_s = config.agent.stop_timeout
        self._outboxes = config.agent.data_dir / "outbox"

    # -- sources -----------------------------------------------------------------------------------------------

    def start_source(self, name: str, options: SourceOptions, take: Callable[[Batch], None]) -> None:
        """Start the source ``name``; ``take`` is given what it reads."""
        adapter = source_adapter(options.type)
        context = self._context(name, "source")
        runner = SourceRunner(
            name,
            partial(build_source, adapter, options, context),
            options,
            adapter.when_full,
            context,
            self._metrics,
            take,
            self._capacity,
        )
        self.sources[name] = runner
        self._parts.start(f"source {name}", runner.run())

    async def stop_source(self, name: str) -> None:
        """Stop the source ``name``, if it runs; what it has read was taken."""
        try:
            await self._parts.cancel([f"source {name}"], self._stop_timeout_s)
        finally:  # also when nobody waits for it any more, or it would be taken for running
            self.sources.pop(name, None)

    # -- sinks -------------------------------------------------------------------------------------------------

    def start_sink(
        self, name: str, options: SinkOptions, told: Callable[[], list[Event]], outbox: Outbox | None = None
    ) -> None:
        """Start the sink ``name``, with the outbox of another one or that on the disk.

        ``told`` gives the open incidents it was told.
        """
        adapter = sink_adapter(options.type)
        context = self._context(name, "sink")
        context.open_incidents = told
        build = partial(build_sink, adapter, options, context)
        if outbox is None:
            outbox = Outbox(name, folder_of(self._outboxes, name), options.buffer, self._clock)
        runner = SinkRunner(name, build, options, context, self._metrics, outbox)
        self.sinks[name] = runner
        self._parts.start(f"sink {name}", runner.run())

    async def replace_sink(self, name: str, options: SinkOptions, told: Callable[[], list[Event]]) -> None:
        """Go on with the sink ``name`` under other options; what the old one had not delivered, the new one does.

        New events wait in the outbox that both have.
        """
        runner = self.sinks[name]
        try:
            await self._parts.cancel([f"sink {name}"], self._stop_timeout_s)
        finally:  # also when nobody waits for it any more, or the old one would be taken for running
            self.start_sink(name, options, told, runner.outbox)

    async def stop_sink(self, name: str) -> None:
        """Let the sink ``name`` deliver what is new, for the stop timeout at most; the rest is kept on the disk."""
        runner = self.sinks[name]
        runner.finish()
        await self._parts.finish([f"sink {name}"], self._stop_timeout_s)
        try:
            await runner.close()
        finally:
            del self.sinks[name]

    async def finish_sinks(self, timeout_s: float) -> list[str]:
        """Let all sinks deliver what is new, and have the rest on the disk; who could not in time, is named."""
        now = asyncio.get_running_loop().time
        deadline = now() + timeout_s
        for runner in self.sinks.values():
            runner.finish()
        stuck = await self._parts.finish(self._parts.running("sink "), timeout_s)
        try:
            async with asyncio.timeout(max(deadline - now(), _LAST_S)):
                await asyncio.gather(*(runner.close() for runner in self.sinks.values()))
        except TimeoutError:
            stuck.append("outbox")
            _log.error("the disk does not answer: events that were not delivered may be lost")
        return stuck

    # -- uplinks -----------------------------------------------------------------------------------------------

    def start_uplinks(
        self, config: AgentConfig, look: Callable[[Hint], None], next_report: Callable[[], Awaitable[bytes]]
    ) -> None:
        """Start all uplinks of ``config``: their hints go to ``look``, and what ``next_report`` gives goes to each."""
        ota = config.ota
        self.switchboard = Switchboard(ota.fleet, ota.ring, gateway_name(ota, config.agent.name), look)
        self._parts.start("status reports", self.switchboard.follow(next_report))
        for name, options in config.uplinks.items():
            self.start_uplink(name, options)

    def start_uplink(self, name: str, options: UplinkOptions) -> None:
        """Start the uplink ``name``; nothing happens as long as there are no updates."""
        if self.switchboard is None:
            return
        context = self._context(name, "uplink")
        build = partial(build_uplink, uplink_adapter(options.type), options, context)
        runner = UplinkRunner(name, build, options, context, self._metrics, self.switchboard)
        self.uplinks[name] = runner
        self._parts.start(f"uplink {name}", runner.run())

    async def stop_uplink(self, name: str) -> None:
        """Stop the uplink ``name``, if it runs."""
        await self._parts.cancel([f"uplink {name}"], self._stop_timeout_s)
        self.uplinks.pop(name, None)

    def _context(self, name: str, kind: AdapterKind) -> AdapterContext:
        return AdapterContext(name, self._clock, random.Random(self._rng.random()), self._metrics, kind=kind)

    async def tidy_outboxes(self) -> None:
        """Once a day: whose outbox is that, and for how long?"""
        told: set[str] = set()
        while True:
            await asyncio.to_thread(tidy, self._outboxes, set(self.sinks), self._clock.wall_ns(), told)
            await asyncio.sleep(_DAY_S)
