"""The running agent as updates see it (see :class:`~edge_agent.ota.ports.Host`)."""

from __future__ import annotations

import asyncio
import logging
import platform
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import __version__
from edge_agent.bundle import Bundle, universal_bundle
from edge_agent.config.layers import OVER_THE_AIR
from edge_agent.daemon.exchange import go_live, load
from edge_agent.daemon.free_memory import free_memory_bytes
from edge_agent.daemon.models import Model
from edge_agent.daemon.overlay import put_overlay_in_force
from edge_agent.daemon.shadow import Shadow
from edge_agent.daemon.slices import in_slices
from edge_agent.daemon.vitals import VitalSigns
from edge_agent.ota.ports import Comparison, Facts, Vitals
from edge_agent.ota.state import InForce
from edge_agent.pipeline.engine import Pipeline, TickReport
from edge_agent.pipeline.rewarm import rewarming

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger("edge_agent.ota")

_SHADOW_ENDS_S = 5.0


class AgentHost:
    """Vitals, shadow and exchange over one daemon whose pipeline is built. All of it on the event loop."""

    def __init__(self, daemon: Daemon, hardware: tuple[str, ...]) -> None:
        self._daemon = daemon
        self._hardware = (platform.machine(), *hardware)
        self._vitals = VitalSigns(daemon.metrics, daemon.config.tick.period, self._troubles)
        self._shadow: Shadow | None = None
        self._comparison: Comparison | None = None
        self._exchanged: tuple[Vitals, Vitals] | None = None
        daemon.add_listener(self._ticked)

    @property
    def comparison(self) -> Comparison | None:
        """Of the shadow that runs, else of the last one; None when there was none since the start."""
        return self._comparison if self._shadow is None else self._shadow.comparison()

    @property
    def in_force(self) -> InForce:
        """What runs now."""
        model, overlay = self._daemon.model, self._daemon.config.layers.overlay
        return InForce(
            model=None if model is None else model.installed, config=None if overlay is None else overlay.sha256
        )

    def facts(self) -> Facts:
        """What this gateway is and runs, and what room it has; the system answers that from memory."""
        return Facts(
            agent=__version__,
            hardware=self._hardware,
            in_force=self.in_force,
            free_memory_bytes=free_memory_bytes(),
            free_disk_bytes=_free_disk_bytes(self._daemon.config.agent.data_dir),
        )

    def vitals(self) -> Vitals:
        """How it does."""
        return self._vitals.now()

    def since_exchange(self) -> tuple[Vitals, Vitals, Vitals] | None:
        """Just before the last exchange of models, right after it, and now; None: there was none since the start."""
        return None if self._exchanged is None else (*self._exchanged, self.vitals())

    # -- shadow ------------------------------------------------------------------------------------------------

    async def begin_shadow(self, bundle: Bundle) -> None:
        """Let ``bundle`` score beside the model in use. :raises BundleError: it cannot."""
        await self.end_shadow()
        pipeline = self._pipeline
        model = await load(self._daemon, bundle)
        await in_slices(rewarming(model.detector, pipeline.graph.replay()), self._daemon.pause)
        self._comparison = None
        self._shadow = Shadow(model, pipeline.new_decider, self._busy, self._daemon.pause, self._daemon.metrics)
        self._daemon.parts.start("shadow", self._shadow.run())

    def shadow(self) -> Comparison:
        """How the candidate compares so far."""
        return self.comparison or Comparison(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)

    async def end_shadow(self) -> None:
        """Stop it; also when none runs."""
        shadow = self._shadow
        if shadow is None:
            return
        self._comparison, self._shadow = shadow.comparison(), None
        await self._daemon.parts.cancel(["shadow"], _SHADOW_ENDS_S)

    def _busy(self) -> bool:
        """Whether this tick came to its end so late that the next one needs what is left of the time."""
        return self._daemon.late_s() > self._daemon.config.tick.period / 2

    def _troubles(self) -> list[str]:
        return [*self._daemon.control.readiness()[1], *self._daemon.config_health.troubles()]

    def _ticked(self, report: TickReport) -> None:
        self._vitals.ticked(report)
        if self._shadow is not None:
            self._shadow.ticked(report, self._pipeline.monitored.copy())

    # -- exchange ----------------------------------------------------------------------------------------------

    async def put_in_force(self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str) -> None:
        """Make ``wanted`` what runs, while no operator changes anything.

        :raises BundleError, ConfigError, OtaError, StoreError: it cannot; what ran before still runs.
        """
        await self._daemon.control.change(partial(self._put_in_force, wanted, bundle, overlay, why))

    async def _put_in_force(
        self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str
    ) -> dict[str, Any]:
        daemon, in_force = self._daemon, self.in_force
        _log.info("update: %s", why)
        # What may fail for long comes first, so that the configuration rarely has to be taken back.
        model = await self._loaded(wanted.model, bundle) if wanted.model != in_force.model else None
        layer = daemon.config.layers.overlay
        if wanted.config != in_force.config:
            await put_overlay_in_force(
                daemon, overlay, f"config of {why}" if why.startswith("release ") else OVER_THE_AIR
            )
        if model is not None:
            before = self.vitals()
            try:
                await go_live(daemon, self._pipeline, model, "updated", partial(daemon.models.put, model))
            except BaseException:
                if wanted.config != in_force.config:
                    await put_overlay_in_force(daemon, layer)
                raise
            self._vitals.exchanged()
            self._exchanged = before, self.vitals()
        elif daemon.model is not None and daemon.models.names()[0] != wanted.model:
            # It runs because what the slots name could not be loaded: the next start is not to try that again.
            await daemon.models.put(daemon.model)
        return {}

    async def _loaded(self, wanted: str | None, bundle: Bundle | None) -> Model:
        if wanted is None:
            bundle = await asyncio.to_thread(universal_bundle)
        elif bundle is None:
            bundle = await self._daemon.models.find(wanted)
        return await load(self._daemon, bundle)

    def notice(self, code: str, message: str) -> None:
        """Tell people, as a status event and in the log."""
        _log.warning("%s: %s", code, message)
        self._pipeline.notice(code, message)

    @property
    def _pipeline(self) -> Pipeline:
        pipeline = self._daemon.pipeline
        assert pipeline is not None
        return pipeline


def _free_disk_bytes(folder: Path) -> int:
    """None are free on a disk that does not answer."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
