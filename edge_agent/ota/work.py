"""Carries one release through its phases: fetch, gate, probe, stage. What is in force: :mod:`edge_agent.ota.force`.

Every method is called by one task at a time; each writes the next phase before its effect.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

from edge_agent.backoff import full_jitter
from edge_agent.clock import NS_PER_S
from edge_agent.errors import OtaError, StoreError
from edge_agent.ota import steps
from edge_agent.ota.force import Force
from edge_agent.ota.judge import configurations, targets
from edge_agent.ota.options import OtaOptions
from edge_agent.ota.ports import Host, Prober, Trust
from edge_agent.ota.record import Record
from edge_agent.ota.ring import Activation, ModelTarget, Ring
from edge_agent.ota.state import Phase, Result

TEMPORARY = frozenset({"unreachable", "slow", "timeout", "disk", "internal", "starved"})
"""Reasons for which a later attempt may succeed with the same release."""
_NEVER_NS = 24 * 3_600 * NS_PER_S
_LOOK_AT_CLOCK_NS = 10 * NS_PER_S  # wall time may be set at any moment
_RETRY_S = 10.0
_UNDISTURBED_NS = 60 * NS_PER_S
"""A look costs a slow line some seconds: whoever may call for looks must not keep it from ever getting a model."""


class Work:
    """The release that is being worked on. ``waits``: trust is busy with something else, so nothing is fetched."""

    def __init__(
        self,
        options: OtaOptions,
        record: Record,
        trust: Trust,
        prober: Prober,
        host: Host,
        force: Force,
        rng: random.Random,
    ) -> None:
        self.fetching: asyncio.Task[None] | None = None
        self.waits = False
        self._options = options
        self._record = record
        self._trust = trust
        self._prober = prober
        self._host = host
        self._force = force
        self._rng = rng
        self._failures = 0
        self._retry_ns = 0
        self._fetching_ns = 0
        self._begin: tuple[float, int] | None = None

    async def step(self) -> int:
        """Do what is to be done now; when to come again (monotonic ns). :raises StoreError: the disk."""
        match self._record.state.phase:
            case Phase.DOWNLOADING:
                return await self._download()
            case Phase.VERIFIED:
                return await self._gate()
            case Phase.PROBED:
                return await self._probe()
            case Phase.STAGED:
                return await self._staged()
            case Phase.SHADOW | Phase.TRIAL | Phase.COMMITTED | Phase.ROLLED_BACK | Phase.QUARANTINED:
                return await self._force.step()
        return self._in_ns(_NEVER_NS)

    async def interrupt(self) -> None:
        """Stop fetching; what is there stays and is gone on with."""
        task, self.fetching = self.fetching, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, OtaError, StoreError):
                await task

    @property
    def busy_until_ns(self) -> int:
        """Until when what is being fetched should not be interrupted (monotonic), 0 when nothing is."""
        return 0 if self.fetching is None else self._fetching_ns + _UNDISTURBED_NS

    @property
    def failing(self) -> bool:
        """Whether the last attempt to fetch it has failed."""
        return self._failures > 0

    def retry(self) -> None:
        """Fetch at once, whatever failed before."""
        self._failures, self._retry_ns = 0, 0

    async def give_up(self, result: Result, reason: str, message: str) -> None:
        """End the release wherever it is. :raises StoreError: it goes on."""
        await self.interrupt()
        self.retry()
        await self._force.give_up(result, reason, message)

    async def activate(self) -> None:
        """Begin with what is staged. :raises OtaError: nothing is, or it may not begin now."""
        if self._record.state.phase is not Phase.STAGED:
            raise OtaError("not_staged", f"no release is staged; the phase is {self._record.state.phase.value}")
        if self._record.expired():
            raise OtaError("expired", "the repository's metadata have expired; nothing is installed until they are new")
        await self._force.begin()

    # -- fetching ----------------------------------------------------------------------------------------------

    async def _download(self) -> int:
        if self.waits:
            return self._in_ns(_NEVER_NS)
        if self.fetching is None:
            if self._now_ns() < self._retry_ns:
                return self._retry_ns
            self._fetching_ns = self._now_ns()
            self.fetching = asyncio.create_task(self._fetch(self._release()), name="updates: download")
        if not self.fetching.done():
            return self._in_ns(_NEVER_NS)
        task, self.fetching = self.fetching, None
        try:
            await task
        except OtaError as error:
            return await self._not_fetched(error)
        self._failures = 0
        await self._record.write(steps.moved(self._record.state, Phase.VERIFIED))
        await self._record.tell("download", release=self._release().release)
        return self._now_ns()

    async def _fetch(self, release: Ring) -> None:
        blobs, origin = self._record.blobs, self._record.state.origin or self._options.repository or ""
        keep = configurations(self._record.state) | {target.sha256 for target in targets(release)}
        free = self._host.facts().free_disk_bytes
        await asyncio.to_thread(blobs.collect, keep, free)
        for target in targets(release):
            if await asyncio.to_thread(blobs.intact, target.sha256):
                continue
            await self._trust.fetch(origin, target, self._record.time.now_s(), blobs.path(target.sha256))
            try:
                await asyncio.to_thread(blobs.seal, target.sha256)
            except StoreError as error:
                raise OtaError("disk", str(error)) from error
            self._record.downloaded(target.bytes)

    async def _not_fetched(self, error: OtaError) -> int:
        message = f"release {self._release().release} cannot be fetched: {error}"
        if error.reason not in TEMPORARY:
            self._record.refuse(error.reason)
            await self.give_up(Result.REFUSED, error.reason, message)
            return self._now_ns()
        return await self._later(error.reason, message)

    async def _later(self, reason: str, message: str) -> int:
        if self._record.trouble(message):
            await self._record.tell("download_failed", release=self._release().release, reason=reason)
        self._failures += 1
        pause_s = _RETRY_S + full_jitter(self._rng, self._failures, self._options.poll_every)
        self._retry_ns = self._in_ns(int(pause_s * NS_PER_S))
        return self._retry_ns

    # -- looking at it -----------------------------------------------------------------------------------------

    async def _gate(self) -> int:
        release = self._release()
        for target in targets(release):
            if not await asyncio.to_thread(self._record.blobs.intact, target.sha256):
                await self._record.write(steps.moved(self._record.state, Phase.DOWNLOADING))
                return self._now_ns()
        if isinstance(release.model, ModelTarget):
            try:
                bundle = await self._prober.gate(self._record.blobs.path(release.model.sha256))
                if bundle != release.model.bundle:
                    raise OtaError("gate", f"got bundle {bundle}, expected {release.model.bundle} as released")
            except OtaError as error:
                return await self._bad(error)
        await self._record.write(steps.moved(self._record.state, Phase.PROBED))
        await self._record.tell("gate", release=release.release)
        return self._now_ns()

    async def _probe(self) -> int:
        release = self._release()
        found: dict[str, Any] = {}
        if isinstance(release.model, ModelTarget):
            if not await asyncio.to_thread(self._record.blobs.intact, release.model.sha256):
                await self._record.write(steps.moved(self._record.state, Phase.DOWNLOADING))
                return self._now_ns()
            try:
                probed = await self._prober.probe(self._record.blobs.path(release.model.sha256), release.limits)
            except OtaError as error:
                return await self._bad(error)
            found = {"p99_ms": round(probed.p99_ms, 3), "rss_mb": round(probed.rss_mb, 1)}
        await self._record.write(steps.moved(self._record.state, Phase.STAGED))
        await self._record.tell("probe", release=release.release, **found)
        return self._now_ns()

    async def _bad(self, error: OtaError) -> int:
        """The candidate must not be used; or it could not be looked at, and that may pass."""
        if error.reason in ("gate", "probe"):
            self._record.refuse(error.reason)
            await self.give_up(Result.QUARANTINED, error.reason, str(error))
            return self._now_ns()
        return await self._later(error.reason, str(error))

    # -- waiting for its moment --------------------------------------------------------------------------------

    async def _staged(self) -> int:
        activate, time = self._release().activate, self._record.time
        if activate.mode is Activation.STAGE:
            return self._in_ns(_NEVER_NS)
        if self._record.state.activate_at_s is None:
            at_s = time.now_s() if activate.at is None else activate.at.timestamp()
            at_s += self._rng.uniform(0.0, activate.spread_s)
            await self._record.write(steps.step(self._record.state, activate_at_s=at_s))
        left_ns = self._left_ns()
        if left_ns > 0:
            return self._in_ns(min(left_ns, _LOOK_AT_CLOCK_NS))
        if self._record.expired():
            self._record.trouble("the repository's metadata have expired; what is staged waits until they are new")
            return self._in_ns(_LOOK_AT_CLOCK_NS)
        await self._force.begin()
        return self._now_ns()

    def _left_ns(self) -> int:
        """How long until the staged release begins. ``at`` follows the clock that people set, ``now`` does not."""
        activate, at_s = self._release().activate, self._record.state.activate_at_s or 0.0
        left_s = at_s - self._record.time.now_s()
        if activate.mode is Activation.AT:
            return int(left_s * NS_PER_S)
        if self._begin is None or self._begin[0] != at_s:
            self._begin = (at_s, self._in_ns(int(min(max(left_s, 0.0), activate.spread_s) * NS_PER_S)))
        return self._begin[1] - self._now_ns()

    def _release(self) -> Ring:
        release = self._record.state.release
        if release is None:
            raise ValueError(f"phase {self._record.state.phase} without a release")
        return release

    def _now_ns(self) -> int:
        return self._record.clock.monotonic_ns()

    def _in_ns(self, pause_ns: int) -> int:
        return self._now_ns() + pause_ns
