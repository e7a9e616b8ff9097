"""The state machine of updates on one gateway.

::

    uplinks, operators ──look──▶ Looks ─▶ Checker ─▶ judge ─▶ Work (fetch, gate, probe, stage)
                                             │                  │
                                           Trust                └▶ Force (shadow, trial, commit, rollback) ─▶ Host
                             Record: state, audit log, metrics, status report
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.contract import Hint
from edge_agent.errors import OtaError, StoreError
from edge_agent.metrics import Metrics
from edge_agent.ota import steps
from edge_agent.ota.boot import Booted, boot
from edge_agent.ota.checking import Checker
from edge_agent.ota.force import Force
from edge_agent.ota.judge import News, Verdict
from edge_agent.ota.looks import Looks
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Host, Prober, Trust
from edge_agent.ota.record import Record
from edge_agent.ota.report import Report
from edge_agent.ota.state import OtaState, Result
from edge_agent.ota.work import TEMPORARY, Work

_log = logging.getLogger("edge_agent.ota")

_RETRY_NS = 10 * NS_PER_S
_KEEP_TIME_NS = 3_600 * NS_PER_S
_NEVER_NS = 2 * _KEEP_TIME_NS


class Updater:
    """Updates over the air of one gateway. ``gateway``: its name in reports.

    Call :meth:`boot` first, then :meth:`run`; the other methods may be called at any time after :meth:`boot`, on the
    event loop that :meth:`run` is on. Time is that of ``clock``, chance that of ``rng``.
    """

    def __init__(
        self,
        options: OtaOptions,
        data_dir: Path,
        trust: Trust,
        prober: Prober,
        host: Host,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        *,
        gateway: str,
    ) -> None:
        self._options = options
        self._data_dir = data_dir
        self._host = host
        self._clock = clock
        self._record = Record(options, gateway, data_dir, clock, metrics)
        self._force = Force(self._record, host, shadow=options.shadow)
        self._work = Work(options, self._record, trust, prober, host, self._force, rng)
        self._checker = Checker(options, self._record, trust, host, self._work, self._force)
        self._looks = Looks(clock, rng, options.poll_every, options.check_not_within)
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._asked: list[asyncio.Future[None]] = []
        self._answered: list[asyncio.Future[None]] = []
        self._asked_by = "agent"
        self._asking: asyncio.Task[News] | None = None
        self._reported = 0
        self._keep_time_ns = clock.monotonic_ns() + _KEEP_TIME_NS

    async def boot(self, booted: Booted | None = None) -> Booted:
        """Finish or take back what was cut off, and count the start; before a model or an overlay is chosen.

        ``booted``: what :func:`edge_agent.ota.boot.boot` gave, if that was called already. Never fails.
        """
        done = await asyncio.to_thread(boot, self._data_dir, self._clock) if booted is None else booted
        await self._record.begin(done)
        return done

    async def run(self) -> None:
        """Look for news, work on releases, until cancelled.

        Nothing that goes wrong with updates ends it: the agent ends with any of its parts.
        """
        try:
            while True:
                self._wake.clear()
                async with self._turn:
                    until_ns = await self._go_on()
                await self._wait(until_ns)
        finally:
            await self._stop_asking()
            await self._work.interrupt()
            for future in self._asked:
                future.cancel()

    def look(self, hint: Hint) -> None:
        """Somebody says that there are news; never blocks, and any number of hints causes one look at most."""
        floor = self._record.state.floors.get(self._options.ring)
        if self._looks.hint(hint, floor.counter if floor is not None else -1):
            self._wake.set()

    async def check_now(self, actor: str) -> Report:
        """Look as soon as the least time between two looks has passed; the report after it.

        :raises OtaError: there is no repository to look in.
        """
        if self._options.repository is None:
            raise OtaError("no_repository", "option ota.repository is not set: there is nowhere to look")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append(future)
        self._asked_by = actor
        self._looks.ask()
        self._wake.set()
        try:
            await future
        finally:
            with suppress(ValueError):
                self._asked.remove(future)
        return self.report()

    async def activate(self, actor: str) -> Report:
        """Begin with what is staged. :raises OtaError: nothing is, or it may not. :raises StoreError: the disk."""
        async with self._acting("activate_asked", actor):
            await self._work.activate()
        return self.report()

    async def roll_back(self, actor: str) -> Report:
        """Take back what is on trial, or what was committed last; it is not tried again.

        :raises OtaError: reason ``no_previous``. :raises StoreError: the disk; nothing changed.
        """
        async with self._acting("rollback_asked", actor):
            await self._force.roll_back(actor)
        return self.report()

    async def sideload(self, origin: str, actor: str) -> Report:
        """Take the release in the repository at ``origin`` (``file:///…``); the same trust and floors as ever.

        It is fetched from there afterwards. :raises OtaError: it was refused. :raises StoreError: the disk.
        """
        async with self._acting("sideload_asked", actor, origin=origin):
            await self._stop_asking()
            judgement = await self._checker.check(actor, origin)
        if judgement.verdict is Verdict.REFUSE:
            raise OtaError(judgement.reason, judgement.message)
        return self.report()

    async def give_way(self, actor: str) -> None:
        """An operator is about to swap the model by hand: a trial ends first, halted, and what was before comes back.

        :raises StoreError: the trial goes on; do not swap.
        """
        async with self._acting("swap_asked", actor):
            await self._force.give_way(actor)

    def knows(self, sha256: str, name: str, version: str) -> None:
        """What reports call the bundle ``sha256``, for one that no release of ours brought."""
        self._record.described[sha256] = (name, version)

    @property
    def state(self) -> OtaState:
        """As it is on the disk."""
        return self._record.state

    def report(self) -> Report:
        """State of updates now."""
        return self._record.report(self._host.facts())

    async def next_report(self) -> Report:
        """At first the latest report, then each time one that is newer than the last."""
        self._reported = await self._record.wait_for_change(self._reported)
        return self.report()

    # -- inside ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _acting(self, action: str, actor: str, **details: str) -> AsyncIterator[None]:
        async with self._turn:
            await self._record.must_tell(action, actor, phase=self._record.state.phase.value, **details)
            yield
        self._wake.set()

    async def _leave_other_ring(self) -> None:
        """The gateway was given another ring while it was working on a release of the one before."""
        release = self._record.state.release
        if release is not None and release.ring != self._options.ring:
            message = f"the ring is {self._options.ring!r} now"
            await self._work.give_up(Result.HALTED, "not_for_this_ring", message)

    async def _go_on(self) -> int:
        """One look, or one step. Returns when to come again (monotonic ns)."""
        try:
            await self._leave_other_ring()
            if self._asking is not None and self._asking.done():
                await self._end_look(self._asking)
            if self._asking is None and self._look_ns() <= self._clock.monotonic_ns():
                await self._begin_look()
            await self._keep_time()
            step_ns = await self._work.step()
        except StoreError as error:
            self._record.trouble(str(error))
            step_ns = self._clock.monotonic_ns() + _RETRY_NS
        except Exception as error:  # whatever it is: detection goes on, and so must this
            if self._record.trouble(f"updates: not expected: {error!r}; tried again"):
                _log.exception("updates: not expected; tried again")
            step_ns = self._clock.monotonic_ns() + _RETRY_NS
        look_ns = self._look_ns() if self._asking is None else step_ns
        return min(step_ns, look_ns, self._keep_time_ns)

    def _look_ns(self) -> int:
        """When to look; without a repository nobody does unasked."""
        if self._options.repository is None:
            return self._clock.monotonic_ns() + _NEVER_NS
        due_ns = self._looks.due_ns()
        return due_ns if self._asked else max(due_ns, self._work.busy_until_ns)

    async def _begin_look(self) -> None:
        """Ask trust beside everything else: a repository that does not answer must not keep a trial from its end."""
        self._looks.begin()
        await self._work.interrupt()
        self._answered, self._asked = self._asked, []
        self._work.waits = self._record.checking = True
        self._asking = asyncio.create_task(self._checker.ask(), name="updates: look")

    async def _end_look(self, asking: asyncio.Task[News]) -> None:
        answered, self._answered, self._asking = self._answered, [], None
        by, self._asked_by = self._asked_by if answered else "agent", "agent"
        self._work.waits = self._record.checking = reached = False
        try:
            if answered:
                await self._record.tell("check_asked", by)
            await self._checker.answer(asking, by)
            reached = True
        except OtaError as error:
            reached = error.reason not in TEMPORARY
        finally:
            self._looks.end(reached=reached)
            for future in answered:
                if not future.done():
                    future.set_result(None)

    async def _stop_asking(self) -> None:
        """Trust does one thing at a time. The look is made up for."""
        asking, self._asking = self._asking, None
        self._work.waits = self._record.checking = False
        if asking is not None:
            self._asked, self._answered = [*self._answered, *self._asked], []
            self._looks.ask()
            asking.cancel()
            await asyncio.wait([asking])

    async def _keep_time(self) -> None:
        """Once an hour, what has passed is kept: a gateway without a battery clock starts from there."""
        if self._clock.monotonic_ns() < self._keep_time_ns:
            return
        self._keep_time_ns = self._clock.monotonic_ns() + _KEEP_TIME_NS
        if self._record.state.floors:
            await self._record.write(steps.step(self._record.state))

    async def _wait(self, until_ns: int) -> None:
        """Until then, until somebody calls, or until what is being fetched or asked is here."""
        waiting: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._clock.sleep_until(until_ns), name="updates: until the next step"),
            asyncio.create_task(self._wake.wait(), name="updates: until called"),
        ]
        busy = [task for task in (self._work.fetching, self._asking) if task is not None]
        try:
            await asyncio.wait([*waiting, *busy], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
