"""What the API asks of the daemon, and nothing more of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edge_agent.metrics import Metrics
from edge_agent.verdict import Feedback

HISTORY_NOT_TAKEN = "the disk does not take: history"
"""The reason of readiness that says: a part of the history is in memory only."""


class AgentControl(Protocol):
    """The running agent. Called on its event loop; answers are ready for JSON (numpy numbers and arrays may be in it).

    Reading methods answer at once from what is in memory (``incidents`` may look into the history). Changing methods
    never overlap. They raise :class:`~edge_agent.errors.ControlError` (its ``status`` becomes the answer),
    :class:`~edge_agent.errors.BundleError` or :class:`~edge_agent.errors.ConfigError` (both 422: what was given must
    not be used) and may be cancelled when the time for changes is over: then the old state has to stay.
    ``actor`` says who asked, for the log.
    """

    metrics: Metrics

    def status(self) -> dict[str, Any]:
        """What `edge-agent status` shows; the page shows every key, nested ones too."""
        ...

    def sensors(self) -> list[dict[str, Any]]:
        """One entry a sensor, with ``name`` at least; the page knows ``value, unit, expected, score, quality``."""
        ...

    def sensor(self, name: str) -> dict[str, Any] | None:
        """One sensor in full, or None."""
        ...

    def graph(self) -> dict[str, Any]:
        """``nodes`` (each with ``name``) and ``edges`` (``sensor, neighbour, weight, kind: declared|learned``)."""
        ...

    async def incidents(self, limit: int, state: str | None, since_ns: int | None) -> list[dict[str, Any]]:
        """Newest first, as :meth:`edge_agent.verdict.Incident.to_dict` gives them.

        ``state`` is ``open`` (updated ones included), ``closed`` or None for both; ``since_ns``: updated at or after.
        """
        ...

    async def incident(self, incident_id: str) -> dict[str, Any] | None:
        """One incident, or None."""
        ...

    def model(self) -> dict[str, Any]:
        """The bundle in use (``name, version, sha256, …``) and under ``previous`` what a rollback would bring back."""
        ...

    async def judge_incident(self, incident_id: str, verdict: Feedback, note: str, actor: str) -> dict[str, Any] | None:
        """Keep what a person says of an incident (``incident, verdict, note, by, time``); None: there is none such.

        Said again it changes nothing.
        """
        ...

    async def acknowledge_incident(self, incident_id: str, note: str, actor: str) -> dict[str, Any] | None:
        """Note that somebody has seen an open incident; the incident as it is now, None: there is none such."""
        ...

    def orders(self) -> list[dict[str, Any]]:
        """Suppression orders in force (``id, sensors, areas, created, until, by, note``)."""
        ...

    async def suppress(
        self, sensors: tuple[str, ...], areas: tuple[str, ...], duration_s: float, note: str, actor: str
    ) -> dict[str, Any]:
        """Have incidents of these patterns disturb nobody for a while; the order, with ``matches``: sensors now."""
        ...

    async def lift_order(self, order_id: str, actor: str) -> dict[str, Any] | None:
        """End an order before its time; the order, None: there is none such."""
        ...

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        """The last actions of operators (``time, by, action`` and what it was about), newest first."""
        ...

    async def note_refused(self, request: str, why: str, actor: str) -> None:
        """Note in the audit log that requests are being refused; ``request`` (method and path) is the first of them."""
        ...

    async def swap_model(self, path: Path, actor: str) -> dict[str, Any]:
        """Put the bundle at ``path`` into use. An uploaded file is deleted after the call: install what is kept."""
        ...

    async def rollback_model(self, actor: str) -> dict[str, Any]:
        """Bring back the bundle before this one."""
        ...

    async def reload(self, actor: str) -> dict[str, Any]:
        """Read the configuration again and apply what changed."""
        ...

    def ota(self) -> dict[str, Any]:
        """Where updates stand: state, release, comparison, outcome, what is refused. :raises ControlError: 404, off."""
        ...

    async def ota_check(self, actor: str) -> dict[str, Any]:
        """Have the updater look, soon; coalesced with looks that are due anyway. What :meth:`ota` says now."""
        ...

    async def ota_activate(self, actor: str) -> dict[str, Any]:
        """Begin to use what is staged. :raises ControlError: nothing is."""
        ...

    async def ota_rollback(self, actor: str) -> dict[str, Any]:
        """Take back the release that is on trial, or else the last one. :raises ControlError: there is none."""
        ...

    async def ota_sideload(self, path: Path, actor: str) -> dict[str, Any]:
        """Look in a repository on this machine. :raises ControlError: it is none, or nothing in it is for us."""
        ...

    def liveness(self) -> tuple[bool, list[str]]:
        """Whether the process should be left running; reasons if not."""
        ...

    def readiness(self) -> tuple[bool, list[str]]:
        """Whether the agent does its work (sources up, model in use, ticks on time); reasons if not."""
        ...
