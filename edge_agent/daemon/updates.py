"""Updates over the air in the daemon: builds the state machine and what it needs, starts and stops it, answers.

::

    uplinks, API ──▶ Updater ──▶ ChildTrust, ChildProber (processes that live for one order)
                        └──▶ AgentHost ──▶ Control.change ──▶ exchange between two ticks

Nothing of it is imported unless ``ota.root`` is set, and nothing of TUF is ever imported here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.contract import Hint
from edge_agent.daemon.compared import compared, in_words
from edge_agent.daemon.host import AgentHost
from edge_agent.errors import ControlError, OtaError
from edge_agent.ota.boot import Booted
from edge_agent.ota.options import gateway_name
from edge_agent.ota.probe import ChildProber
from edge_agent.ota.report import Report
from edge_agent.ota.ring import ModelTarget, Ring
from edge_agent.ota.state import InForce, OtaState, Phase
from edge_agent.ota.trust.child import ChildTrust
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.updater import Updater

if TYPE_CHECKING:
    from edge_agent.daemon.daemon import Daemon

_log = logging.getLogger("edge_agent.ota")

_STOP_S = 5.0
PARTS = ("updates", "status reports", "shadow")


class Updates:
    """Of one daemon whose pipeline is built. Order of calls: :meth:`begin`, :meth:`start`, :meth:`stop`."""

    def __init__(self, daemon: Daemon, rng: random.Random) -> None:
        config = daemon.config
        self._daemon = daemon
        self._options = config.ota
        self._host = AgentHost(daemon, config.ota.hardware)
        self._updater = Updater(
            config.ota,
            config.agent.data_dir,
            ChildTrust(Settings.of(config.ota, config.agent.data_dir)),
            ChildProber(),
            self._host,
            daemon.clock,
            rng,
            daemon.metrics,
            gateway=gateway_name(config.ota, config.agent.name),
        )
        self._told: Report | None = None

    async def begin(self, booted: Booted | None) -> None:
        """Go on from what the start of the process found."""
        done = await self._updater.boot(booted)
        self._introduce()
        for problem in done.problems:
            self._host.notice("update_start", problem)
        if done.ended is not None and done.state.outcome is not None:
            outcome = done.state.outcome
            self._host.notice(f"update_{outcome.result.value}", f"release {outcome.release}: {outcome.message}")

    def _introduce(self) -> None:
        """Reports name what runs and what ran before, whoever brought it."""
        models = self._daemon.control.model()
        for model in (models, models["previous"]):
            if model is not None and model["sha256"] is not None:
                self._updater.knows(model["sha256"], str(model["name"])[:64], str(model["version"] or "")[:64])

    def start(self) -> None:
        """Work on updates, and have the uplinks run."""
        daemon = self._daemon
        daemon.parts.start("updates", self._updater.run())
        daemon.runners.start_uplinks(daemon.config, self.look, self._next_report)

    async def stop(self) -> list[str]:
        """Stop, wherever it is: the next start goes on. Who did not stop in time is named."""
        parts = self._daemon.parts
        return await parts.cancel([*parts.running("uplink "), *PARTS], _STOP_S)

    def look(self, hint: Hint) -> None:
        """Somebody says that there are news."""
        self._updater.look(hint)

    async def give_way(self, actor: str) -> None:
        """An operator is about to exchange the model: a trial ends first. :raises StoreError: do not exchange it."""
        await self._updater.give_way(actor)

    # -- for the API -------------------------------------------------------------------------------------------

    @property
    def release(self) -> Ring | None:
        """The ring file of the release that is worked on."""
        return self._updater.state.release

    def brief(self) -> dict[str, Any]:
        """Where they stand in a few words, for the status of the agent."""
        release = None if self.release is None else self.release.release
        return {"ring": self._options.ring, "phase": self._updater.state.phase.value, "release": release}

    def describe(self) -> dict[str, Any]:
        """All there is to say, ready for JSON."""
        self._introduce()
        state, report = self._updater.state, self._updater.report()
        said = report.model_dump(mode="json", by_alias=True, exclude={"schema_", "release", "counter", "time"})
        comparison, trial = self._host.comparison, self._host.since_exchange()
        return {
            **said,
            "repository": self._options.repository,
            "release": None if state.release is None else _release(state.release, state),
            "in_force": self._host.in_force.model_dump(mode="json"),
            "before": None if state.before is None else state.before.model_dump(mode="json"),
            "comparison": None if comparison is None else asdict(comparison),
            "trial": None if trial is None or state.phase is not Phase.TRIAL else compared(*trial),
            "image": state.image,
            "denied": [item.model_dump(mode="json") for item in state.denied],
            "floors": {name: floor.counter for name, floor in state.floors.items()},
            "last_success_s": state.last_success_s,
        }

    async def check(self, actor: str) -> dict[str, Any]:
        """Look, as soon as the least time between two looks has passed."""
        if self._options.repository is None:
            raise ControlError("option ota.repository is not set: there is nowhere to look; sideload works")
        await self._updater.check_now(actor)
        return self.describe()

    async def activate(self, actor: str) -> dict[str, Any]:
        """Begin with what is staged."""
        return await self._asked(self._updater.activate(actor))

    async def roll_back(self, actor: str) -> dict[str, Any]:
        """Take back."""
        return await self._asked(self._updater.roll_back(actor))

    async def sideload(self, path: Path, actor: str) -> dict[str, Any]:
        """Look in a repository on this machine."""
        return await self._asked(self._updater.sideload(path.as_uri(), actor))

    async def _asked(self, work: Awaitable[object]) -> dict[str, Any]:
        try:
            await work
        except OtaError as error:
            raise ControlError(str(error), status=422 if error.reason in _NOT_TRUSTED else 409) from error
        return self.describe()

    # -- what people are told ----------------------------------------------------------------------------------

    async def _next_report(self) -> bytes:
        report = await self._updater.next_report()
        before, self._told = self._told, report
        self._tell(before, report)
        return report.to_json()

    def _tell(self, before: Report | None, now: Report) -> None:
        """Steps that are no end: of ends the state machine tells."""
        if now.metadata_expired and not (before is not None and before.metadata_expired):
            self._host.notice(
                "update_metadata_expired",
                "the repository's metadata have expired: nothing is installed until they are new; scoring goes on",
            )
        if before is None or now.phase is before.phase:
            return
        if now.phase is Phase.STAGED:
            self._host.notice("update_staged", f"release {now.release} is here and was tried; it waits for its moment")
        if now.phase is Phase.SHADOW:
            self._host.notice("update_shadow", f"release {now.release} scores beside the model in use")
        if before.phase is Phase.SHADOW and self._host.comparison is not None:
            self._host.notice("update_shadow_result", f"release {now.release}: {in_words(self._host.comparison)}")
        if now.phase is Phase.TRIAL:
            self._host.notice("update_trial", f"release {now.release} is on trial: it answers, and is watched")


_NOT_TRUSTED = frozenset({"signature", "mismatch", "rollback", "expired", "ring_file", "missing", "equivocation"})
"""Reasons that lie in the repository: another try with the same one changes nothing."""


def _release(release: Ring, state: OtaState) -> dict[str, Any]:
    model = release.model
    wanted = InForce(
        model=model.bundle if isinstance(model, ModelTarget) else None,
        config=None if release.config is None else release.config.sha256,
    )
    return {
        "release": release.release,
        "counter": release.counter,
        **wanted.model_dump(mode="json"),
        "activate": release.activate.model_dump(mode="json"),
        "activate_at_s": state.activate_at_s,
        "starts": state.starts,
    }
