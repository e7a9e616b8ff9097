"""The daemon: what runs, in which order it starts and stops, and what holds it together.

Start: model, learned state, API, sinks, sources, ticks. Stop: sources, what they had handed over, one last tick, sinks,
API. At the deadline, who is left is named and cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import __version__
from edge_agent.clock import NS_PER_S, Clock, SystemClock
from edge_agent.config.prepared import pipeline_options
from edge_agent.config.schema import AgentConfig
from edge_agent.contract import SinkOptions, SourceOptions
from edge_agent.counted import counted
from edge_agent.daemon.beat import Beat
from edge_agent.daemon.config_health import ConfigHealth
from edge_agent.daemon.control import Control
from edge_agent.daemon.learned_state import LearnedState
from edge_agent.daemon.measurements import Measurements
from edge_agent.daemon.memory import release_memory
from edge_agent.daemon.models import Model, Models
from edge_agent.daemon.open_incidents import OpenIncidents
from edge_agent.daemon.operators import Operators
from edge_agent.daemon.parts import Parts
from edge_agent.daemon.runners import Runners
from edge_agent.daemon.sole_use import make_data_folder
from edge_agent.daemon.telling import Telling
from edge_agent.daemon.tracing import Tracer
from edge_agent.decision.decider import Decider
from edge_agent.errors import StoreError
from edge_agent.export.otlp import OtlpExporter
from edge_agent.export.systemd import Notifier
from edge_agent.history import History, StateFile
from edge_agent.inference import StatisticalDetector
from edge_agent.intake.intake import SourcePort
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, TickReport
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch
from edge_agent.verdict import Event, EventKind, Incident

if TYPE_CHECKING:
    from edge_agent.api.server import ApiServer
    from edge_agent.daemon.updates import Updates
    from edge_agent.ota.boot import Booted

_log = logging.getLogger(__name__)

_STATUS_EVERY_S = 5.0
_LAST_S = 2.0
_SETTLED_S = 5.0  # by then everything that is loaded late has been loaded

Similar = Mapping[str, list[dict[str, Any]]]
"""By the id of an incident: earlier ones that looked like it, ready for JSON."""


class Daemon:
    """One running agent, built from one configuration."""

    def __init__(
        self,
        config: AgentConfig,
        clock: Clock | None = None,
        *,
        seed: int | None = None,
        booted: Booted | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.notifier = Notifier()
        self.history: History | None = None
        self.model: Model | None = None
        self.pipeline: Pipeline | None = None
        self.parts = Parts()
        self.control = Control(self)
        self.config_health = ConfigHealth(self)
        data_dir = config.agent.data_dir
        self.models = Models(config.model, data_dir)
        self.otlp = OtlpExporter(config.telemetry, self.metrics, config.agent.name, __version__)
        self._rng = rng = random.Random(seed)
        self.runners = Runners(config, self.parts, self.clock, self.metrics, rng)
        self._new_id = UlidMaker(rng)
        self.learned = LearnedState(StateFile(data_dir / "learned.npz"), self.metrics)
        self._beat = Beat(self.clock, config.tick.lateness, self.metrics)
        file = StateFile(data_dir / "notify.json")
        self.telling = Telling(config.sinks, self.runners.sinks, self.clock, self.metrics, file, config.agent.name)
        self.measurements = Measurements(self.runners.sinks, self._new_id)
        self.operators = Operators(self)
        self.open_incidents: OpenIncidents | None = None
        self.updates: Updates | None = None
        self._booted = booted
        self._listeners: list[Callable[[TickReport], None]] = []
        self._tracer = Tracer(self.otlp)
        self._publish: Callable[[Event], None] | None = None

    # -- for the owner of the daemon ---------------------------------------------------------------------------

    def add_listener(self, listener: Callable[[TickReport], None]) -> None:
        """Call ``listener`` after every tick, on the event loop; it must not block."""
        self._listeners.append(listener)

    def stop(self) -> None:
        """Begin an orderly stop; a second call cuts it short."""
        self.parts.stop()

    async def open(self) -> None:
        """Choose the model and build the pipeline; :meth:`run` does it when it was not done before."""
        if self.pipeline is not None:
            return
        make_data_folder(self.config.agent.data_dir)
        if self.config.ota.root is not None and self._booted is None:
            from edge_agent.ota.boot import boot

            self._booted = await asyncio.to_thread(boot, self.config.agent.data_dir, self.clock)
        self.model = await self.models.choose()
        self.pipeline = self._build_pipeline(self.model)
        for problem in self.models.problems:
            self.pipeline.notice("model", problem)
        left_out = self.config.layers.left_out
        if left_out is not None:
            _log.error("%s; left out, the gateway's own file is in use", left_out)
            self.pipeline.notice("config", f"{left_out}; left out, the gateway's own file is in use")
        self.pipeline.calibrate(self.model.calibration)
        self._use(self.model)
        await self._open_updates()
        await self.learned.restore(self.pipeline)
        await self._restore_incidents(self.pipeline)
        options = self.config.history
        if options.enabled:
            path = self.config.agent.data_dir / options.path
            self.history = await History.open(path, options, self.metrics, self.clock)
            watched = {incident.id for incident in self.pipeline.lifecycle.open_incidents()}
            ended = await self.history.end_unwatched(watched)
            if ended:
                _log.warning("%d incidents were open before the restart and are not known any more: closed", ended)

    async def _open_updates(self) -> None:
        if self.config.ota.root is None:
            return
        from edge_agent.daemon.updates import Updates

        self.updates = Updates(self, random.Random(self._rng.random()))
        await self.updates.begin(self._booted)

    def warm_up(self, values: NDArray[np.floating], sensors: tuple[str, ...], period_s: float) -> None:
        """Run normal history [T, N] through the pipeline before going live; nothing of it is reported."""
        assert self.pipeline is not None
        period_ns = round(period_s * NS_PER_S)
        port = self.pipeline.port("history", SourceOptions(type="history"))
        first_ns = self.clock.monotonic_ns() - len(values) * period_ns
        self.pipeline.trusting = True
        for k, row in enumerate(np.asarray(values, dtype=np.float64)):
            tick_ns = first_ns + k * period_ns
            self.pipeline.take(port, Batch(sensors, row, tick_ns))
            self.pipeline.tick(tick_ns)
        self.pipeline.trusting = False
        if self.pipeline.companions is not None:
            self.pipeline.companions.consolidate()
        self.pipeline.intake.close_port("history")

    async def run(self) -> int:
        """Run until :meth:`stop`; the exit code: 0, or 1 when something failed or could not be stopped in time."""
        await self.open()
        self.metrics.started.labels().set(self.clock.wall_ns() / 1e9)
        server = None
        try:
            self.otlp.start()
            if self.otlp.log_handler is not None:
                logging.getLogger("edge_agent").addHandler(self.otlp.log_handler)
            server = await self._start_api()
            assert self.pipeline is not None
            self._beat.begin(self.pipeline.timeline)
            async with self.parts as parts:
                for name, sink in self.config.sinks.items():
                    self.start_sink(name, sink)
                watched = {incident.id for incident in self.pipeline.lifecycle.open_incidents()}
                await self.telling.restore(self.history, watched)
                for name, source in self.config.sources.items():
                    self.start_source(name, source)
                parts.start("ticks", self._tick_loop())
                parts.start("watchdog", self._watchdog())
                parts.start("old outboxes", self.runners.tidy_outboxes())
                parts.start("notifications", self.telling.run())
                parts.start("notified state", self.telling.keep())
                if self.open_incidents is not None:
                    parts.start("open incidents", self.open_incidents.run())
                parts.start("learned state", self._save_learned())
                parts.start("memory", _release_memory_soon())
                if self.updates is not None:
                    self.updates.start()
                self.notifier.ready(self.one_line())
                await parts.stopping.wait()
                self.notifier.stopping()
                await self._wind_down()
        finally:
            if server is not None:
                await server.stop()
            if self.otlp.log_handler is not None:
                logging.getLogger("edge_agent").removeHandler(self.otlp.log_handler)
            await self.otlp.stop()
            if self.history is not None:
                await self.history.close()
        if self.parts.failure is not None:
            _log.error("stopped because of a failure: %s", self.parts.failure)
        return 1 if self.parts.failure is not None or self.parts.stuck else 0

    # -- sources and sinks -------------------------------------------------------------------------------------

    def start_source(self, name: str, options: SourceOptions) -> None:
        """Start the source ``name``; the pipeline takes what it reads."""
        assert self.pipeline is not None
        take = partial(self._take, self.pipeline, self.pipeline.port(name, options))
        self.runners.start_source(name, options, take)

    async def stop_source(self, name: str) -> None:
        """Stop the source ``name``; what it has accepted is still scored."""
        try:
            await self.runners.stop_source(name)
        finally:
            if self.pipeline is not None:
                self.pipeline.intake.close_port(name)

    def start_sink(self, name: str, options: SinkOptions) -> None:
        """Start the sink ``name``."""
        self.runners.start_sink(name, options, partial(self.telling.told, name))

    async def replace_sink(self, name: str, options: SinkOptions) -> None:
        """Go on with the sink ``name`` under other options."""
        await self.runners.replace_sink(name, options, partial(self.telling.told, name))

    # -- ticks -------------------------------------------------------------------------------------------------

    def overdue_s(self) -> float:
        """How long ago the next tick should have been finished; negative while there is time."""
        return self._beat.overdue_s()

    def late_s(self) -> float:
        """How late the tick that is being made, or comes next, is by now; negative while there is time."""
        return self._beat.late_s()

    async def pause(self, wanted_s: float) -> None:
        """Wait until the next tick is ``wanted_s`` away; with ticks closer together, until one has just ended."""
        await self._beat.pause(wanted_s)

    @asynccontextmanager
    async def between_ticks(self, wanted_s: float) -> AsyncIterator[None]:
        """Have the time until the next tick, ``wanted_s`` if ticks are so far apart; it waits until this is left."""
        await self._beat.pause(wanted_s)
        async with self._beat.alone:
            yield

    def use_model(self, model: Model, knowledge: Decider | None) -> None:
        """Exchange the model between two ticks: one reference changes, no tick is lost.

        ``knowledge``: what the pipeline made of the scores that its bundle brought.
        """
        assert self.pipeline is not None
        self.model = model
        self.pipeline.replace_detector(model.detector, knowledge)
        self._use(model)

    def _use(self, model: Model) -> None:
        assert self.pipeline is not None
        self.pipeline.graph.set_trained_edges(model.edges)
        for labels, gauge in self.metrics.model_info.series():
            gauge.set(0)
            self.metrics.model_info.remove(*labels)
        description = model.describe()
        self.metrics.model_info.labels(description["name"], description["version"], description["sha256"] or "").set(1)

    async def _tick_loop(self) -> None:
        pipeline = self.pipeline
        assert pipeline is not None
        while not self.parts.stopping.is_set():
            tick_ns = await self._beat.next()
            async with self._beat.alone:
                await self._tick(pipeline, tick_ns)
            self._beat.done()

    async def _tick(self, pipeline: Pipeline, tick_ns: int) -> None:
        for runner in self.runners.sources.values():
            runner.hand_over_all()
        report = pipeline.tick(tick_ns)
        similar = await self._record(report.decision.changed)
        for event in report.events:
            self._tell(event, similar)
        if self.open_incidents is not None:
            self.open_incidents.ticked()
        self.learned.ticked(warming_up=report.decision.warming_up)
        if self.history is not None:
            decision = report.decision
            alarm = decision.incident is not None
            self.history.observe(report.snapshot, alarm=alarm)
            self.history.observe_scores(
                report.snapshot, report.scores, decision.plant_score, decision.p_value, alarm=alarm
            )
            for event in report.events:
                if event.kind is EventKind.STATUS:
                    await self.history.record_event(event)
        for event, takers in self.measurements.events(report, pipeline.unit):
            event.body["agent"] = self.config.agent.name
            if self._publish is not None:
                self._publish(event)
            for sink in takers:
                sink.offer(event)
        for listener in self._listeners:
            listener(report)
        self._tracer.ticked(report)

    def _take(self, pipeline: Pipeline, port: SourcePort, batch: Batch) -> None:
        pipeline.take(port, batch)
        self._tracer.taken(pipeline, port, batch)

    async def tell_incidents(self, pipeline: Pipeline, changed: Sequence[Incident]) -> None:
        """Tell of incidents that an operator has changed between two ticks, and have them on the disk.

        :raises StoreError: what is open cannot be written.
        """
        similar = await self._record(changed)
        for event in pipeline.tell(changed):
            self._tell(event, similar)
        if self.open_incidents is not None:
            await self.open_incidents.save()

    async def _record(self, changed: Sequence[Incident]) -> Similar:
        """Keep incidents as they now stand; which earlier ones look like each of them."""
        if self.history is None:
            return {}
        return {incident.id: await self.history.record(incident) for incident in changed}

    def _tell(self, event: Event, similar: Similar) -> None:
        if event.kind is EventKind.INCIDENT and event.body["id"] in similar:
            event.body["similar"] = similar[event.body["id"]]
        event.body.setdefault("agent", self.config.agent.name)
        if self._publish is not None:
            self._publish(event)
        self.telling.tell(event)

    # -- inside ------------------------------------------------------------------------------------------------

    def _build_pipeline(self, model: Model) -> Pipeline:
        options = pipeline_options(self.config)
        return Pipeline(options, model.detector, StatisticalDetector, self.clock, self.metrics, self._new_id)

    async def _start_api(self) -> ApiServer | None:
        options, data_dir = self.config.api, self.config.agent.data_dir
        if not options.enabled:
            return None
        from edge_agent.api.server import ApiServer
        from edge_agent.api.token import load_or_create_token
        from edge_agent.export.prometheus import PrometheusRenderer

        token = None
        try:
            token = await asyncio.to_thread(load_or_create_token, data_dir / "api-token")
        except StoreError as error:  # no reason not to watch
            _log.error("%s; until the next start changes by the API need the token of option api.token", error)
        server = ApiServer(
            options,
            self.control,
            render_metrics=PrometheusRenderer(self.metrics).render,
            upload_dir=data_dir / "uploads",
            local_token=token,
        )
        await server.start()
        self._publish = server.publish
        return server

    async def _wind_down(self) -> None:
        """Sources, what they handed over, the last ticks, sinks: in this order, within the deadline."""
        parts, now = self.parts, asyncio.get_running_loop().time
        deadline = now() + self.config.agent.stop_timeout
        if self.updates is not None:
            parts.stuck += await self.updates.stop()
        parts.stuck += await parts.cancel(parts.running("source "), self.config.agent.stop_timeout)
        parts.stuck += await parts.cancel(["ticks", "memory"], _LAST_S)
        self._beat.end()
        await self._last_ticks()
        await parts.cancel(["notifications", "notified state"], _LAST_S)
        await self.telling.save()
        await parts.cancel(["open incidents"], _LAST_S)
        await self._save_incidents()
        await parts.finish(["learned state"], max(deadline - now(), _LAST_S))
        await self.save_learned()
        parts.stuck += await self.control.finish(max(deadline - now(), _LAST_S))
        parts.stuck += await self.runners.finish_sinks(deadline - now())
        await parts.cancel(["watchdog", "old outboxes"], _LAST_S)

    async def _last_ticks(self) -> None:
        """Score what was accepted; with a `lateness` it may belong to several ticks."""
        pipeline = self.pipeline
        assert pipeline is not None
        while pipeline.intake.pending and not self.parts.hurry.is_set():
            await self._tick(pipeline, self._beat.tick_ns)
            self._beat.done_at_once()
            await asyncio.sleep(0)  # a second signal is heard in between

    async def _watchdog(self) -> None:
        """Tell systemd that ticks go on; when they do not, be silent, and systemd restarts the agent."""
        interval_s = min((self.notifier.watchdog_interval_s or 2 * _STATUS_EVERY_S) / 2, _STATUS_EVERY_S)
        while True:
            await asyncio.sleep(interval_s)
            if self.pipeline is not None:
                self.pipeline.check_clock()
            if self.overdue_s() <= 0:
                self.notifier.watchdog()
            self.notifier.status(self.one_line())

    def one_line(self) -> str:
        """State in one line, for `systemctl status`."""
        pipeline = self.pipeline
        if pipeline is None or pipeline.last_report is None:
            return "starting"
        decision = pipeline.last_report.decision
        state = "warming up" if decision.warming_up else "watching"
        sensors, sources = counted(len(pipeline.graph), "sensor"), counted(len(self.runners.sources), "source")
        incidents = counted(len(pipeline.lifecycle.open_incidents()), "incident")
        up = sum(runner.context.state == "connected" for runner in self.runners.sources.values())
        return f"{state} {sensors}, {up} of {sources} connected, {incidents} open, tick {pipeline.ticks}"

    async def _restore_incidents(self, pipeline: Pipeline) -> None:
        file = StateFile(self.config.agent.data_dir / "incidents.json")
        self.open_incidents = OpenIncidents(pipeline.lifecycle, file, self.clock, self.metrics)
        count = await self.open_incidents.restore()
        if count:
            _log.info("open before the restart and watched on: %s", counted(count, "incident"))

    async def _save_incidents(self) -> None:
        if self.open_incidents is not None:
            try:
                await self.open_incidents.save()
            except StoreError as error:
                _log.error("%s; open incidents are not known after the next start", error)

    async def _save_learned(self) -> None:
        """Now and then until the stop, after which :meth:`_wind_down` saves once more."""
        stopping = self.parts.stopping
        while not stopping.is_set():
            await self.learned.until_due(self.config.model.save_state_every, stopping)
            if not stopping.is_set():
                await self.save_learned()

    async def save_learned(self) -> None:
        """Write what was learned to disk, in one piece. What the fallback learned is of no use to the model."""
        pipeline, model = self.pipeline, self.model
        if pipeline is None or model is None or pipeline.last_report is None:
            return
        if pipeline.detector is model.detector:
            await self.learned.save(pipeline)


async def _release_memory_soon() -> None:
    await asyncio.sleep(_SETTLED_S)
    await asyncio.to_thread(release_memory)
