"""One look for news: trust is asked, the ring file judged, and what follows is done."""

from __future__ import annotations

import asyncio

from edge_agent.clock import NS_PER_S
from edge_agent.errors import OtaError
from edge_agent.ota import steps
from edge_agent.ota.force import Force
from edge_agent.ota.judge import DENIED, Judgement, Moment, News, Policy, Verdict, judge, read_news
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Host, Trust
from edge_agent.ota.record import Record
from edge_agent.ota.state import OtaState, Outcome, Phase, Result
from edge_agent.ota.work import TEMPORARY, Work

_MOST_ROUNDS = 5
_STALE_S = 3_600.0
_TOLD_AGAIN_NS = 3_600 * NS_PER_S
_MOST_TOLD = 20
_NO_RELEASE = frozenset({"rollback", "equivocation", "counter", "expired", "not_for_this_ring", "time_unconfirmed"})
"""Refusals that say nothing about a release of this gateway: its last outcome stays."""

_CONSEQUENCES = frozenset({DENIED, "halted"})
"""Refusals of a release that has failed here, under a newer ring file: that it failed is what its publisher counts."""


class Checker:
    """Looks for news. One at a time, and never while a step of the release is being done."""

    def __init__(self, options: OtaOptions, record: Record, trust: Trust, host: Host, work: Work, force: Force) -> None:
        self._options = options
        self._record = record
        self._trust = trust
        self._host = host
        self._work = work
        self._force = force
        self._told_ns: dict[str, int] = {}  # when what was told is forgotten
        self._policy = Policy(options.ring, bool(options.remote_config))

    async def check(self, by: str, sideloaded: str | None = None) -> Judgement:
        """Look in the repository, or in ``sideloaded`` (its URL). Returns what was decided last.

        :raises OtaError: trust says no, or cannot be asked; it was told of. :raises StoreError: the disk.
        """
        await self._work.interrupt()
        asking = asyncio.create_task(self.ask(sideloaded), name="updates: look")
        try:
            await asyncio.wait([asking])
        finally:
            asking.cancel()
        return await self.answer(asking, by, sideloaded)

    async def ask(self, sideloaded: str | None = None) -> News:
        """What trust says; changes nothing, and may be cancelled. :raises OtaError: it says no."""
        origin = sideloaded or self._options.repository or ""
        checked = await self._trust.check(origin, self._options.ring, self._record.time.now_s())
        self._record.time.learn(min(checked.signed_s, checked.expires_s))
        return read_news(checked, self._options.ring)

    async def answer(self, asked: asyncio.Task[News], by: str, sideloaded: str | None = None) -> Judgement:
        """Do what follows from what was ``asked``, which is done. Raises as :meth:`check`."""
        try:
            judgement = await self._follow(asked.result(), by, sideloaded)
        except OtaError as error:
            await self._failed(error, by)
            raise
        self._record.checked(judgement.verdict.value)
        if judgement.verdict is not Verdict.REFUSE:
            self._record.trouble(None)
        return judgement

    async def _failed(self, error: OtaError, by: str) -> None:
        self._record.checked(error.reason)
        if error.reason not in TEMPORARY:
            self._record.refuse(error.reason)
        if self._record.trouble(str(error)) and error.reason not in TEMPORARY and self._is_news(str(error)):
            await self._record.tell("check_refused", by, reason=error.reason, message=str(error))
            self._host.notice("update_refused", str(error))

    def _is_news(self, message: str) -> bool:
        """Not in the last hour: a server that shows now this, now that, must not flood people and audit log."""
        now_ns = self._record.clock.monotonic_ns()
        self._told_ns = {told: until_ns for told, until_ns in self._told_ns.items() if now_ns < until_ns}
        if message in self._told_ns or len(self._told_ns) >= _MOST_TOLD:
            return False
        self._told_ns[message] = now_ns + _TOLD_AGAIN_NS
        return True

    async def _follow(self, news: News, by: str, sideloaded: str | None) -> Judgement:
        held = await asyncio.to_thread(self._record.blobs.held)
        judgement, moment = Judgement(Verdict.NOTHING), self._record.time.moment()
        for _ in range(_MOST_ROUNDS):
            judgement = judge(news, self._record.state, self._host.facts(), self._policy, moment, held)
            if not await self._do(judgement, news, by, sideloaded):
                break
            # Its counter was compared with the one before it; in the next round it is its own floor.
            moment = Moment(moment.now_s)
        return judgement

    async def _do(self, judgement: Judgement, news: News, by: str, sideloaded: str | None) -> bool:
        """Do what was decided. Returns whether it must be judged again."""
        record, now_s = self._record, self._record.time.now_s()
        match judgement.verdict:
            case Verdict.REFUSE:
                await self._refuse(judgement, news, by)
            case Verdict.FETCH:
                await self._note(steps.taken_up(record.state, news, sideloaded), news, by)
            case Verdict.ADOPT:
                await self._note(steps.adopted(record.state, news), news, by)
                await self._change_place(sideloaded)
            case Verdict.ALREADY:
                await self._note(steps.already(record.state, news, now_s), news, by)
            case Verdict.NOTHING:
                if self._says_more(steps.noted(record.state, news)):
                    await self._note(steps.noted(record.state, news), news, by)
                await self._change_place(sideloaded)
            case Verdict.GIVE_UP:
                result = Result.HALTED if judgement.reason != DENIED else Result.QUARANTINED
                await self._note(steps.noted(record.state, news), news, by)
                await self._work.give_up(result, judgement.reason, judgement.message)
                return True
            case Verdict.ROLL_BACK:
                await self._note(steps.noted(record.state, news), news, by)
                await self._force.drop_denied(judgement.reason, judgement.message)
                return True
        return False

    async def _change_place(self, sideloaded: str | None) -> None:
        """Fetch from the stick that was brought; and from the network again once the stick is gone."""
        state = self._record.state
        brought = sideloaded is not None or self._work.failing
        if state.phase is Phase.DOWNLOADING and state.origin != sideloaded and brought:
            await self._record.write(steps.step(state, origin=sideloaded))
            self._work.retry()

    async def _refuse(self, judgement: Judgement, news: News, by: str) -> None:
        self._record.refuse(judgement.reason)
        state, outcome = self._record.state, self._record.state.outcome
        if judgement.reason in _CONSEQUENCES and _failed_before(outcome, news):
            await self._note(steps.noted(state, news), news, by)
        elif judgement.reason not in _NO_RELEASE:
            now_s = self._record.time.now_s()
            refused = steps.refused(state, news, judgement.reason, judgement.message, now_s)
            known = (news.ring.counter, Result.REFUSED, judgement.reason)
            if outcome is None or (outcome.counter, outcome.result, outcome.reason) != known:
                await self._note(refused, news, by)
        message = f"release {news.ring.release} is refused: {judgement.message}"
        if self._record.trouble(message):
            details = {"release": news.ring.release, "counter": news.ring.counter, "reason": judgement.reason}
            await self._record.tell("refuse", by, **details, message=judgement.message)
            self._host.notice("update_refused", message)

    async def _note(self, state: OtaState, news: News, by: str) -> None:
        """Write what was seen. The audit log remembers floors too, should the state be lost."""
        before = self._record.state
        await self._record.write(state)
        ring = news.ring
        if state.floors.get(ring.ring) != before.floors.get(ring.ring):
            await self._record.tell(
                "release",
                by,
                release=ring.release,
                ring=ring.ring,
                counter=ring.counter,
                ring_sha256=news.sha256,
                signed_s=news.signed_s,
            )

    def _says_more(self, state: OtaState) -> bool:
        """Whether ``state`` is worth a write: not each look changes what must survive."""
        old = self._record.state
        if (state.floors, state.denied, state.expires_s) != (old.floors, old.denied, old.expires_s):
            return True
        return self._record.time.floor_s() > old.time_floor_s + _STALE_S


def _failed_before(outcome: Outcome | None, news: News) -> bool:
    failed = outcome is not None and outcome.result in (Result.ROLLED_BACK, Result.QUARANTINED)
    return failed and outcome is not None and outcome.release == news.ring.release
