"""Puts a release in force and takes it back: shadow, trial, commit, rollback. One task at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edge_agent.bundle import Bundle
from edge_agent.clock import NS_PER_S
from edge_agent.errors import BundleError, ConfigError, OtaError, StoreError
from edge_agent.ota import steps
from edge_agent.ota.baseline import Baseline
from edge_agent.ota.effects import find_bundle
from edge_agent.ota.gates import shadow_failure
from edge_agent.ota.judge import configurations, safe_before, targets, wanted
from edge_agent.ota.ports import Host
from edge_agent.ota.record import Record
from edge_agent.ota.ring import Limits, ModelTarget, Ring
from edge_agent.ota.state import InForce, Phase, Result
from edge_agent.ota.watch import NOTHING_YET, Watch

_LOOK_EVERY_NS = NS_PER_S
_RETRY_NS = 10 * NS_PER_S
_SHADOW_MEMORY_FACTOR = 3
"""A second model in memory: its weights as they are read, as ONNX Runtime copies them, and what it computes with."""


class Force:
    """What runs because of a release."""

    def __init__(self, record: Record, host: Host, *, shadow: bool) -> None:
        self._record = record
        self._host = host
        self._shadow = shadow
        self._baseline = Baseline(record.data_dir / "ota", record.clock)
        self._watch: Watch | None = None
        self._shadowed: tuple[Limits, int] | None = None  # limits of the candidate, when it began

    async def begin(self) -> None:
        """Begin with what is staged: in shadow if it may, else on trial. :raises StoreError: it stays staged."""
        release = self._release()
        try:
            bundle = await self._bundle(release)
        except BundleError as error:
            await self.give_up(Result.QUARANTINED, "damaged", str(error))
            return
        if bundle is None or not self._may_shadow(release):
            await self._enter_trial(release, bundle)
            return
        await self._record.write(steps.moved(self._record.state, Phase.SHADOW))
        await self._record.tell("shadow", release=release.release)
        try:
            await self._host.begin_shadow(bundle)
        except BundleError as error:
            await self.give_up(Result.QUARANTINED, "shadow", str(error))
            return
        self._shadowed = (_limits(release, bundle), self._now_ns())

    async def step(self) -> int:
        """Do what is to be done now in phases from SHADOW on; when to come again. :raises StoreError: the disk."""
        match self._record.state.phase:
            case Phase.SHADOW:
                return await self._look_at_shadow()
            case Phase.TRIAL:
                return await self._look_at_trial()
            case Phase.ROLLED_BACK:
                return await self._go_back()
        await self._tidy()
        await self._record.write(steps.idle(self._record.state))
        return self._now_ns()

    async def give_up(self, result: Result, reason: str, message: str) -> None:
        """End the release wherever it is. :raises StoreError: it goes on."""
        if self._record.state.phase is Phase.TRIAL:
            await self._take_back(result, reason, message)
            return
        release, now_s = self._release(), self._record.time.now_s()
        was_shadow = self._record.state.phase is Phase.SHADOW
        await self._record.write(steps.given_up(self._record.state, result, reason, message, now_s))
        action = "quarantine" if result is Result.QUARANTINED else "give_up"
        await self._record.tell(action, release=release.release, reason=reason, message=message)
        if was_shadow:
            await self._end_shadow()
        if result is Result.QUARANTINED:
            names = [target.sha256 for target in targets(release)]
            await asyncio.to_thread(self._record.blobs.remove, names)
        self._host.notice(f"update_{result.value}", f"release {release.release}: {message}")

    async def roll_back(self, by: str) -> None:
        """Back to what was before, because an operator wants it. :raises OtaError: there is nothing to go back to."""
        state, message = self._record.state, f"taken back by {by}"
        if state.phase is Phase.TRIAL:
            await self._take_back(Result.ROLLED_BACK, "operator", message)
            return
        if state.before is None or state.phase is not Phase.IDLE:
            raise OtaError("no_previous", "there is no update to take back, expected one on trial or committed")
        in_force = self._host.in_force
        denied = {in_force.model, in_force.config} - {state.before.model, state.before.config, None}
        await self.replace(state.before, [sha256 for sha256 in denied if sha256 is not None], "operator", message)

    async def drop_denied(self, reason: str, message: str) -> None:
        """What is in force was denied: something else comes instead at once."""
        await self.replace(safe_before(self._record.state, self._host.in_force), [], reason, message)

    async def replace(self, target: InForce, denied: list[str], reason: str, message: str) -> None:
        """``target`` instead of what is in force. :raises StoreError: nothing changed."""
        now_s = self._record.time.now_s()
        await self._record.write(steps.replaced(self._record.state, target, denied, reason, message, now_s))
        await self._record.tell("rollback", reason=reason, message=message)
        await self._go_back()

    async def give_way(self, by: str) -> None:
        """An operator is about to change the model by hand: a trial ends, and what was before it comes back."""
        if self._record.state.phase is Phase.TRIAL:
            await self._take_back(Result.HALTED, "operator", f"{by} puts another model in force")

    # -- shadow ------------------------------------------------------------------------------------------------

    def _may_shadow(self, release: Ring) -> bool:
        if not self._shadow or release.shadow.seconds == 0 or not isinstance(release.model, ModelTarget):
            return False
        if release.model.bundle == self._host.in_force.model:  # only the configuration changes
            return False
        return self._host.facts().free_memory_bytes >= _SHADOW_MEMORY_FACTOR * release.model.bytes

    async def _look_at_shadow(self) -> int:
        if self._shadowed is None:  # it could not be begun
            await self._record.write(steps.moved(self._record.state, Phase.STAGED))
            return self._now_ns() + _RETRY_NS
        release, seen, (limits, since_ns) = self._release(), self._host.shadow(), self._shadowed
        failure = shadow_failure(release.trial, seen, limits)
        if failure is not None:
            await self.give_up(Result.QUARANTINED, *failure)
            return self._now_ns()
        if self._now_ns() - since_ns < release.shadow.seconds * NS_PER_S or seen.ticks < release.shadow.ticks:
            return self._now_ns() + _LOOK_EVERY_NS
        if self._record.expired():
            self._record.trouble("the repository's metadata have expired; the candidate stays in shadow")
            return self._now_ns() + _RETRY_NS
        try:
            bundle = await self._bundle(release)
        except BundleError as error:
            await self.give_up(Result.QUARANTINED, "damaged", str(error))
            return self._now_ns()
        await self._end_shadow()
        await self._enter_trial(release, bundle)
        return self._now_ns()

    async def _end_shadow(self) -> None:
        self._shadowed = None
        await self._host.end_shadow()

    # -- trial -------------------------------------------------------------------------------------------------

    async def _enter_trial(self, release: Ring, bundle: Bundle | None) -> None:
        before, in_force = self._host.vitals(), self._host.in_force
        target = wanted(release, in_force)
        await asyncio.to_thread(self._baseline.save, before)
        await self._record.write(steps.on_trial(self._record.state, in_force))
        await self._record.tell("activate", release=release.release, model=target.model, config=target.config)
        try:
            await self._put(target, bundle, f"release {release.release} on trial")
        except OtaError as error:
            await self._take_back(Result.ROLLED_BACK, error.reason, str(error))
            return
        except StoreError as error:  # the release is not to blame: it is tried again at a later look
            self._record.refuse("disk")
            await self._take_back(Result.REFUSED, "disk", str(error))
            return
        except (BundleError, ConfigError) as error:
            reason = "activation" if isinstance(error, BundleError) else "config"
            await self._take_back(Result.ROLLED_BACK, reason, str(error))
            return
        self._watch = Watch(release.trial, _limits(release, bundle), before, self._host.vitals(), self._now_ns())

    async def _look_at_trial(self) -> int:
        release, vitals = self._release(), self._host.vitals()
        fresh = self._watch is None
        if await self._is_replaced(release, fresh=fresh):
            return self._now_ns()
        if self._watch is None:
            self._watch = await self._resumed(release)
        self._watch.trial = release.trial  # a newer ring file may say something else
        failure = self._watch.failure(vitals, self._now_ns())
        if failure is not None:
            await self._take_back(Result.ROLLED_BACK, *failure)
        elif self._watch.passed(vitals, self._now_ns()):
            await self._commit(release)
        else:
            return self._now_ns() + _LOOK_EVERY_NS
        return self._now_ns()

    async def _resumed(self, release: Ring) -> Watch:
        """After a restart the trial begins anew; only the starts are counted on."""
        before = await asyncio.to_thread(self._baseline.load)
        try:
            bundle = await self._bundle(release)
        except BundleError:
            bundle = None
        return Watch(release.trial, _limits(release, bundle), before, NOTHING_YET, self._now_ns())

    async def _is_replaced(self, release: Ring, *, fresh: bool) -> bool:
        """Whether something else runs than the trial wants: it could not be loaded, or an operator took another."""
        before = self._record.state.before or InForce()
        target, found = wanted(release, before), self._host.in_force
        if found == target:
            return False
        if found.model == target.model:
            await self._take_back(Result.ROLLED_BACK, "config", "the configuration on trial is not in use")
        elif fresh:
            await self._take_back(Result.ROLLED_BACK, "unusable", "the model on trial could not be loaded at the start")
        else:
            kept = InForce(model=found.model, config=before.config)
            await self._take_back(Result.HALTED, "operator", "another model was put in its place by hand", kept)
        return True

    async def _commit(self, release: Ring) -> None:
        await self._record.write(steps.committed(self._record.state, self._record.time.now_s()))
        self._watch = None
        await self._record.tell("commit", release=release.release)
        self._host.notice("update_committed", f"release {release.release} is in use for good")

    # -- back --------------------------------------------------------------------------------------------------

    async def _take_back(self, result: Result, reason: str, message: str, target: InForce | None = None) -> None:
        release, now_s = self._release(), self._record.time.now_s()
        state = steps.taken_back(self._record.state, _taken(result), reason, message, now_s, target)
        await self._record.write(state)
        self._watch = None
        await self._record.tell("rollback", release=release.release, reason=reason, message=message)
        self._host.notice("update_rolled_back", f"release {release.release} was taken back: {message}")
        await self._go_back()

    async def _go_back(self) -> int:
        """What the state says was before; else the model that came with the agent, which no update can damage."""
        target = self._record.state.before or InForce()
        for choice in dict.fromkeys((target, InForce(config=target.config), InForce())):
            try:
                bundle = await asyncio.to_thread(find_bundle, self._record.data_dir, choice.model)
                await self._put(choice, bundle, "taken back")
            except StoreError as error:
                self._record.trouble(str(error))
                return self._now_ns() + _RETRY_NS
            except (BundleError, ConfigError, OtaError) as error:
                await self._record.tell("rollback_failed", model=choice.model, message=str(error))
                continue
            await self._tidy()
            await self._record.write(steps.idle(steps.step(self._record.state, config=choice.config)))
            return self._now_ns()
        return self._now_ns() + _RETRY_NS

    async def _put(self, target: InForce, bundle: Bundle | None, why: str) -> None:
        overlay: Path | None = None
        if target.config is not None:
            if not await asyncio.to_thread(self._record.blobs.intact, target.config):
                raise ConfigError(f"configuration {target.config} is not on this gateway any more")
            overlay = self._record.blobs.path(target.config)
        same = target.model == self._host.in_force.model
        await self._host.put_in_force(target, None if same else bundle, overlay, why)

    # -- small -------------------------------------------------------------------------------------------------

    async def _bundle(self, release: Ring) -> Bundle | None:
        """The bundle that the release brings, None when it brings none. :raises BundleError: it is damaged."""
        model = release.model
        if not isinstance(model, ModelTarget):
            return None
        bundle = await asyncio.to_thread(find_bundle, self._record.data_dir, model.bundle, model.sha256)
        if bundle is not None:
            self._record.described[bundle.sha256] = (bundle.manifest.name, bundle.manifest.version)
        return bundle

    async def _tidy(self) -> None:
        state, free = self._record.state, self._host.facts().free_disk_bytes
        keep = set(configurations(state))
        if state.release is not None:
            keep |= {target.sha256 for target in targets(state.release)}
        await asyncio.to_thread(self._record.blobs.collect, keep, free)
        if state.phase is not Phase.TRIAL:
            await asyncio.to_thread(self._baseline.forget)

    def _release(self) -> Ring:
        release = self._record.state.release
        if release is None:
            raise ValueError(f"phase {self._record.state.phase} without a release")
        return release

    def _now_ns(self) -> int:
        return self._record.clock.monotonic_ns()


def _limits(release: Ring, bundle: Bundle | None) -> Limits:
    """What the release says, else what the bundle says of itself."""
    if bundle is None:
        return release.limits
    own = bundle.manifest.limits
    return Limits(
        p99_ms=own.p99_ms if release.limits.p99_ms is None else release.limits.p99_ms,
        rss_mb=own.rss_mb if release.limits.rss_mb is None else release.limits.rss_mb,
    )


def _taken(result: Result) -> Result:
    """Whatever ends a trial takes it back; a halt, and a disk that did not take the release, do not deny it."""
    return result if result in (Result.HALTED, Result.REFUSED) else Result.ROLLED_BACK
