"""What the local API asks of the daemon (see :class:`edge_agent.api.control.AgentControl`)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent import __version__
from edge_agent.api.control import HISTORY_NOT_TAKEN
from edge_agent.bundle import Bundle
from edge_agent.daemon.exchange import check_fits, go_live, load, named
from edge_agent.daemon.models import Model
from edge_agent.daemon.reload import apply_config
from edge_agent.errors import BundleError, ControlError, StoreError
from edge_agent.pipeline.engine import Pipeline, TickReport
from edge_agent.sample import Quality
from edge_agent.verdict import Feedback, IncidentState, rfc3339

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon
    from edge_agent.daemon.updates import Updates

_log = logging.getLogger(__name__)


class Control:
    """Answers about one daemon and changes it; changes never overlap."""

    def __init__(self, daemon: Daemon) -> None:
        self.metrics = daemon.metrics
        self._daemon = daemon
        self._changing = asyncio.Lock()
        self._change_made: asyncio.Task[dict[str, Any]] | None = None

    # -- reading -----------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        daemon = self._daemon
        pipeline, report = self._pipeline, self._pipeline.last_report
        decision = report.decision if report is not None else None
        ready, reasons = self.readiness()
        return {
            "agent": daemon.config.agent.name,
            "version": __version__,
            "pid": os.getpid(),
            "started": rfc3339(int(self.metrics.started.labels().value * 1e9)),
            "ready": ready,
            "reasons": reasons,
            "tick": {
                "period_s": daemon.config.tick.period,
                "count": pipeline.ticks,
                "missed": int(self.metrics.ticks_missed.labels().value),
                "last": None if report is None else rfc3339(report.time_ns),
                "last_ms": None if report is None else round(sum(report.stages_ns) / 1e6, 3),
            },
            "detection": {
                "warming_up": decision is None or decision.warming_up,
                "calibration": round(pipeline.decider.progress, 3),
                "score": None if decision is None else decision.plant_score,
                "p_value": None if decision is None else decision.p_value,
                "alarm": decision is not None and decision.alarm,
                "degraded": pipeline.detector.degraded,
                "incidents_open": len(pipeline.lifecycle.open_incidents()),
                "maintenance": decision is not None and decision.maintenance,
            },
            "budget": {**pipeline.decider.budget.status(), "stretch": round(pipeline.decider.stretch, 3)},
            "companions": None if pipeline.companions is None else pipeline.companions.status(),
            "drift": None if pipeline.drift is None else pipeline.drift.status(),
            "rules": pipeline.rules.status(),
            "sensors": {
                "known": len(pipeline.graph),
                "usable": 0 if report is None else int(report.snapshot.usable.sum()),
            },
            "model": self.model(),
            "updates": None if daemon.updates is None else daemon.updates.brief(),
            "sources": {
                name: {"type": runner.options.type, "state": runner.context.state, "waiting": len(runner.channel)}
                for name, runner in daemon.runners.sources.items()
            },
            "sinks": {
                name: {
                    "type": runner.options.type,
                    "state": runner.context.state,
                    "backlog": runner.backlog,
                    "backlog_bytes": runner.outbox.size,
                    "oldest_s": round(runner.outbox.age_s(), 1),
                    **daemon.telling.describe(name),
                }
                for name, runner in daemon.runners.sinks.items()
            },
            "uplinks": {
                name: {"type": runner.options.type, "state": runner.context.state}
                for name, runner in daemon.runners.uplinks.items()
            },
        }

    def sensors(self) -> list[dict[str, Any]]:
        report = self._pipeline.last_report
        return [] if report is None else [self._sensor(report, i) for i in range(len(report.snapshot))]

    def sensor(self, name: str) -> dict[str, Any] | None:
        report = self._pipeline.last_report
        if report is None or name not in report.snapshot.sensors:
            return None
        index = report.snapshot.sensors.index(name)
        neighbours = [
            {"sensor": report.snapshot.sensors[int(j)], "weight": round(float(weight), 4)}
            for j, weight in zip(report.scores.neighbour[index], report.scores.attention[index], strict=True)
            if j >= 0
        ]
        current = self._pipeline.graph.index.get(name)
        history = [] if current is None else self._pipeline.readings(np.array([current]), 120)[:, 0].tolist()
        return {**self._sensor(report, index), "neighbours": neighbours, "history": history}

    def graph(self) -> dict[str, Any]:
        weights: dict[tuple[str, str], float] = {}
        report = self._pipeline.last_report
        if report is not None:
            for i, name in enumerate(report.snapshot.sensors):
                for j, weight in zip(report.scores.neighbour[i], report.scores.attention[i], strict=True):
                    if j >= 0:
                        weights[name, report.snapshot.sensors[int(j)]] = round(float(weight), 4)
        edges = [
            {"sensor": sensor, "neighbour": neighbour, "weight": weights.get((sensor, neighbour)), "kind": kind}
            for sensor, neighbour, kind in self._pipeline.graph.edges()
        ]
        return {"nodes": [{"name": name} for name in self._pipeline.graph.sensors], "edges": edges}

    async def incidents(self, limit: int, state: str | None, since_ns: int | None) -> list[dict[str, Any]]:
        history = self._daemon.history
        if history is None:
            raise ControlError("incidents are not kept: history.enabled is false", status=404)
        return await history.incidents(limit, None if state is None else IncidentState(state), since_ns)

    async def incident(self, incident_id: str) -> dict[str, Any] | None:
        history = self._daemon.history
        return None if history is None else await history.incident(incident_id)

    async def judge_incident(self, incident_id: str, verdict: Feedback, note: str, actor: str) -> dict[str, Any] | None:
        return await self._daemon.operators.judge(self._pipeline, incident_id, verdict, note, actor)

    async def acknowledge_incident(self, incident_id: str, note: str, actor: str) -> dict[str, Any] | None:
        return await self._daemon.operators.acknowledge(self._pipeline, incident_id, note, actor)

    def orders(self) -> list[dict[str, Any]]:
        return [order.to_dict() for order in self._pipeline.lifecycle.orders]

    async def suppress(
        self, sensors: tuple[str, ...], areas: tuple[str, ...], duration_s: float, note: str, actor: str
    ) -> dict[str, Any]:
        return await self._daemon.operators.suppress(self._pipeline, sensors, areas, duration_s, note, actor)

    async def lift_order(self, order_id: str, actor: str) -> dict[str, Any] | None:
        return await self._daemon.operators.lift(self._pipeline, order_id, actor)

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        return await self._daemon.operators.audit(limit)

    async def note_refused(self, request: str, why: str, actor: str) -> None:
        await self._daemon.operators.tell("refused", actor, request=request, why=why)

    def model(self) -> dict[str, Any]:
        model = self._daemon.model
        assert model is not None
        return {**model.describe(), "previous": self._daemon.models.describe_previous()}

    def liveness(self) -> tuple[bool, list[str]]:
        overdue_s = self._daemon.overdue_s()
        return (True, []) if overdue_s <= 0 else (False, [f"the next tick is {overdue_s:.1f}s overdue"])

    def readiness(self) -> tuple[bool, list[str]]:
        daemon = self._daemon
        _, reasons = self.liveness()
        if self._pipeline.last_report is None:
            reasons.append("no tick yet")
        if self._pipeline.detector.degraded:
            reasons.append("the statistical fallback runs instead of a model")
        sources = list(daemon.runners.sources.values())
        if sources and not any(runner.ended or runner.context.state == "connected" for runner in sources):
            reasons += [f"source {runner.name}: {runner.context.state}" for runner in sources]
        reasons += self._unwritten()
        return not reasons, reasons

    def _unwritten(self) -> list[str]:
        """What the disk does not take: it is watched on, but power loss would cost something."""
        daemon = self._daemon
        reasons = [
            f"sink {name}: its outbox cannot be written: {runner.outbox.failing}"
            for name, runner in daemon.runners.sinks.items()
            if runner.outbox.failing is not None
        ]
        for reason, kept in (
            (HISTORY_NOT_TAKEN, daemon.history),
            ("the disk does not take: open incidents", daemon.open_incidents),
            ("the disk does not take: who was told what", daemon.telling),
            ("the disk does not take: what was learned", daemon.learned),
        ):
            if kept is not None and kept.failing:
                reasons.append(reason)
        return reasons

    # -- changing ----------------------------------------------------------------------------------------------

    async def swap_model(self, path: Path, actor: str) -> dict[str, Any]:
        _log.info("model swap to %s asked for by %s", path, actor)
        try:
            bundle = await self._daemon.models.prepare(path)
            check_fits(bundle, self._pipeline.graph.sensors)
        except BundleError as error:
            self.metrics.model_swaps.labels("refused").inc()
            _log.warning("model swap refused: %s", error)  # whoever asked is told, but it may not be the operator
            raise
        await self._daemon.operators.note("swap_model", actor, **_known_as(bundle))
        await self._updates_give_way(actor)
        return await self.change(partial(self._swap_model, bundle))

    async def rollback_model(self, actor: str) -> dict[str, Any]:
        _log.info("model rollback asked for by %s", actor)
        await self._updates_give_way(actor)
        return await self.change(partial(self._rollback_model, actor))

    async def reload(self, actor: str) -> dict[str, Any]:
        _ = self._pipeline  # refused while starting
        await self._daemon.operators.tell("reload", actor)
        return await self.change(self._reload)

    # -- updates -----------------------------------------------------------------------------------------------

    def ota(self) -> dict[str, Any]:
        return self._updates.describe()

    async def ota_check(self, actor: str) -> dict[str, Any]:
        return await self._updates.check(actor)

    async def ota_activate(self, actor: str) -> dict[str, Any]:
        return await self._updates.activate(actor)

    async def ota_rollback(self, actor: str) -> dict[str, Any]:
        return await self._updates.roll_back(actor)

    async def ota_sideload(self, path: Path, actor: str) -> dict[str, Any]:
        return await self._updates.sideload(path, actor)

    @property
    def _updates(self) -> Updates:
        updates = self._daemon.updates
        if updates is None:
            raise ControlError("updates over the air are off: the option ota.root is not set", status=404)
        return updates

    # -- one after the other -----------------------------------------------------------------------------------

    async def finish(self, timeout_s: float) -> list[str]:
        """Wait for the change that is being made; it is named and cancelled when it takes too long."""
        change = self._change_made
        if change is None:
            return []
        await asyncio.wait([change], timeout=max(timeout_s, 0.0))
        if change.done():
            return []
        change.cancel()
        _log.error("not finished in time and cancelled: %s", change.get_name())
        return [change.get_name()]

    async def change(self, make: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        """Make one change when those before it are made: as a whole, also when whoever asked does not wait for it.

        Operators, reloads and updates all come this way, so none of them overlaps another.
        """
        await self._changing.acquire()
        self._change_made = change = asyncio.create_task(make(), name="change")
        change.add_done_callback(self._changed)
        try:
            return await asyncio.shield(change)
        except asyncio.CancelledError:
            if not change.done():
                _log.warning("nobody waits for the change any more; it is made all the same")
                change.add_done_callback(_tell_outcome)
            raise

    # -- inside ------------------------------------------------------------------------------------------------

    def _changed(self, _change: asyncio.Task[dict[str, Any]]) -> None:
        self._change_made = None
        self._changing.release()

    async def _updates_give_way(self, actor: str) -> None:
        """What an operator does is not judged as a trial of something else. Not while changes wait for this one."""
        if self._daemon.updates is not None:
            await self._daemon.updates.give_way(actor)

    async def _swap_model(self, bundle: Bundle) -> dict[str, Any]:
        model = await load(self._daemon, bundle)
        return await self._go_live(model, "swapped", partial(self._daemon.models.install, model))

    async def _rollback_model(self, actor: str) -> dict[str, Any]:
        model = await load(self._daemon, await self._daemon.models.previous())
        await self._daemon.operators.note("rollback_model", actor, **_known_as(model.bundle))
        return await self._go_live(model, "rolled back", self._daemon.models.commit_rollback)

    async def _reload(self) -> dict[str, Any]:
        notifier = self._daemon.notifier
        notifier.reloading()
        try:
            return await apply_config(self._daemon)
        finally:
            notifier.ready()

    @property
    def _pipeline(self) -> Pipeline:
        pipeline = self._daemon.pipeline
        if pipeline is None:
            raise ControlError("the agent is still starting; ask again in a second", status=503)
        return pipeline

    async def _go_live(self, model: Model, what: str, keep: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        try:
            done = await go_live(self._daemon, self._pipeline, model, what, keep)
        except StoreError as error:
            self.metrics.model_swaps.labels("failed").inc()
            raise ControlError(f"{error}; the model in use stays", status=507) from error
        return {"model": self.model(), **done}

    def _sensor(self, report: TickReport, i: int) -> dict[str, Any]:
        snapshot, scores = report.snapshot, report.scores
        valid = bool(scores.valid[i])
        name = snapshot.sensors[i]
        flags = [str(flag.name).lower() for flag in Quality if flag and int(snapshot.quality[i]) & flag]
        index = self._pipeline.graph.index.get(name)
        return {
            "name": name,
            "value": float(snapshot.value[i]) if snapshot.usable[i] else None,
            "unit": self._pipeline.unit(index) if index is not None else None,
            "age_ticks": float(snapshot.age[i]),
            "quality": flags or ["good" if snapshot.usable[i] else "stale"],  # has not spoken since the start
            "expected": float(scores.expected[i]) if valid else None,
            "scale": float(scores.scale[i]) if valid else None,
            "score": round(float(scores.score[i]), 4) if valid else None,
        }


def _known_as(bundle: Bundle | None) -> dict[str, str]:
    """A model in the audit log."""
    return {"model": named(bundle), **({} if bundle is None else {"sha256": bundle.sha256})}


def _tell_outcome(change: asyncio.Task[dict[str, Any]]) -> None:
    if change.cancelled():
        return
    error = change.exception()
    if error is not None:
        _log.error("the change that nobody waited for failed: %s", error)
