"""What the state machine keeps: state on disk, audit log, metrics and the status report. Blocks only in threads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge_agent.clock import Clock
from edge_agent.errors import StoreError
from edge_agent.metrics import Metrics
from edge_agent.ota.blobs import Blobs
from edge_agent.ota.boot import AUDIT, Booted
from edge_agent.ota.chain import ChainedLog
from edge_agent.ota.judge import configurations
from edge_agent.ota.known_time import KnownTime
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Facts
from edge_agent.ota.report import InUse, Report
from edge_agent.ota.state import OtaState, Phase, Result
from edge_agent.ota.state_store import StateStore
from edge_agent.verdict import rfc3339

_CUT = 1_000
_UNSAVED_BITS = 16  # reports differ also without a write: they are counted below the serial of the state


class Record:
    """The state and all that is told of it. One task at a time changes it.

    ``described``: name and version of the models of this gateway by their sha256, as far as they are known.
    """

    def __init__(self, options: OtaOptions, gateway: str, data_dir: Path, clock: Clock, metrics: Metrics) -> None:
        self.clock = clock
        self.data_dir = data_dir
        self.blobs = Blobs(data_dir / "ota")
        self.described: dict[str, tuple[str, str]] = {}
        self.checking = False
        self._options = options
        self._gateway = gateway
        self._store = StateStore(data_dir / "ota", clock)
        self._audit = ChainedLog(data_dir / "ota" / AUDIT)
        self._metrics = metrics
        self._head: str | None = None
        self._state = OtaState()
        self._time = KnownTime(clock)
        self._problem: str | None = None
        self._changed = asyncio.Event()
        self._changes = 0
        self._unsaved = 0

    @property
    def state(self) -> OtaState:
        """As it is on the disk."""
        return self._state

    @property
    def time(self) -> KnownTime:
        """What time it is at least."""
        return self._time

    async def begin(self, booted: Booted) -> None:
        """Go on from what the start found."""
        self._state = booted.state
        self._time.learn(booted.state.time_floor_s)
        self._problem = booted.problems[-1][:_CUT] if booted.problems else None
        if booted.ended is not None:
            self._metrics.ota_rollbacks.labels(booted.ended).inc()
        try:
            self._head = await asyncio.to_thread(self._audit.head)
        except StoreError as error:
            self._problem = str(error)[:_CUT]
        self._show()

    async def write(self, state: OtaState) -> None:
        """Make ``state`` the one that holds; durable on return. :raises StoreError: the one before it still holds."""
        floor_s = self._time.floor_s() if state.floors else state.time_floor_s
        state = state.model_copy(update={"time_floor_s": max(state.time_floor_s, floor_s)})
        written = await asyncio.to_thread(self._saved, state)
        self._metrics.store_bytes.labels("ota").inc(written)
        before, self._state, self._unsaved = self._state, state, -1
        self._time.learn(state.time_floor_s)
        self._count(before)
        self._show()
        for denied in set(state.denied) - set(before.denied):
            await self.tell("deny", sha256=denied.sha256, reason=denied.reason)

    async def tell(self, action: str, by: str = "agent", **details: Any) -> None:
        """Add to the audit log. What cannot be written there is a problem, but keeps nothing from being done."""
        entry = {"time": rfc3339(self.clock.wall_ns()), "by": by, "action": action, **details}
        try:
            await asyncio.to_thread(self._append, entry)
        except StoreError as error:
            self._metrics.store_failures.labels("ota").inc()
            self.trouble(str(error))

    async def must_tell(self, action: str, by: str, **details: Any) -> None:
        """As :meth:`tell`, before an operator's action. :raises StoreError: it could not be written; do nothing."""
        entry = {"time": rfc3339(self.clock.wall_ns()), "by": by, "action": action, **details}
        await asyncio.to_thread(self._append, entry)

    def trouble(self, problem: str | None) -> bool:
        """Say why no release can be installed now; None: nothing keeps them. Returns whether that is new."""
        problem = None if problem is None else problem[:_CUT]
        if problem == self._problem:
            return False
        self._problem = problem
        self._show()
        return True

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self._metrics.ota_refusals.labels(reason).inc()

    def checked(self, outcome: str) -> None:
        """Count a check."""
        self._metrics.ota_checks.labels(outcome).inc()

    def downloaded(self, count: int) -> None:
        """Count bytes of a target that came whole."""
        self._metrics.ota_downloaded_bytes.labels().inc(count)

    def expired(self) -> bool:
        """Whether the metadata that were seen last have expired."""
        return self._state.expires_s is not None and self._state.expires_s <= self._time.now_s()

    # -- reports -----------------------------------------------------------------------------------------------

    def report(self, facts: Facts) -> Report:
        """State of updates now."""
        state, outcome = self._state, self._state.outcome
        checking = self.checking and state.phase is Phase.IDLE
        before = state.before
        return Report(
            fleet=self._options.fleet,
            ring=self._options.ring,
            gateway=self._gateway,
            serial=(state.serial << _UNSAVED_BITS) + min(self._unsaved, (1 << _UNSAVED_BITS) - 1),
            time=datetime.fromtimestamp(self._time.now_s(), UTC),
            agent=facts.agent[:64],
            hardware=facts.hardware,
            phase=Phase.CHECKING if checking else state.phase,
            release=state.release.release if state.release else outcome.release if outcome else None,
            counter=state.release.counter if state.release else outcome.counter if outcome else 0,
            model=self._in_use(facts.in_force.model),
            previous=self._in_use(before.model) if before is not None else None,
            outcome=outcome,
            problem=self._problem,
            metadata_expired=self.expired(),
            time_unconfirmed=self._time.unconfirmed(),
            audit_head=self._head,
        )

    async def wait_for_change(self, since: int) -> int:
        """Wait until there was a change after number ``since``; the number of the latest."""
        while self._changes <= since:
            await self._changed.wait()
        return self._changes

    def _in_use(self, model: str | None) -> InUse:
        if model is None:
            return InUse(name="universal", version="")
        name, version = self.described.get(model, ("", ""))
        return InUse(name=name, version=version, sha256=model)

    def _show(self) -> None:
        """Metrics and reports follow the state."""
        metrics, state = self._metrics, self._state
        for phase in Phase:
            metrics.ota_phase.labels(phase.value).set(float(phase is state.phase))
        floor = state.floors.get(self._options.ring)
        metrics.ota_counter.labels().set(floor.counter if floor is not None else 0)
        metrics.ota_last_success.labels().set(state.last_success_s or 0.0)
        metrics.ota_expires.labels().set(state.expires_s or 0.0)
        metrics.ota_time_unconfirmed.labels().set(float(self._time.unconfirmed()))
        self._changes += 1
        self._unsaved += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def _count(self, before: OtaState) -> None:
        outcome = self._state.outcome
        if outcome is None or outcome == before.outcome:
            return
        if outcome.result is Result.ROLLED_BACK:
            self._metrics.ota_rollbacks.labels(outcome.reason).inc()

    # -- in a thread -------------------------------------------------------------------------------------------

    def _append(self, entry: dict[str, Any]) -> None:
        self._audit.append(entry)
        self._head = self._audit.head()

    def _saved(self, state: OtaState) -> int:
        try:
            return self._store.save(state)
        except StoreError:
            # The disk may be full of what can be fetched again.
            keep = configurations(state) | set(self._needed(state))
            self.blobs.collect(keep, free_bytes=0, most=0)
            return self._store.save(state)

    @staticmethod
    def _needed(state: OtaState) -> list[str]:
        release = state.release
        if release is None or state.phase not in (Phase.STAGED, Phase.SHADOW, Phase.VERIFIED, Phase.PROBED):
            return []
        return [] if release.model is None or isinstance(release.model, str) else [release.model.sha256]
