"""What the state machine of updates needs of others: trust, probe and the running agent. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edge_agent.bundle import Bundle
from edge_agent.ota.ring import Limits, Target
from edge_agent.ota.state import InForce


@dataclass(frozen=True, slots=True)
class Checked:
    """A ring file whose signatures hold. ``signed_s``: moment (s since 1970) that its freshest signature proves past;
    ``expires_s``: when the first of the metadata that vouch for it expires. ``version``: of the timestamp metadata."""

    ring_file: bytes
    signed_s: float
    expires_s: float
    version: int


class Trust(Protocol):
    """Fetches and verifies by TUF. May be cancelled at any time; what is on the disk then is still right.

    ``now_s``: the moment for expiry, s since 1970: the larger of the clock and of what is known to have passed.
    ``origin``: base URL of the repository (``https://…``, ``file:///…``), with ``metadata/`` and ``targets/`` in it.
    All raise :class:`~edge_agent.errors.OtaError` with a fixed ``reason``: ``unreachable`` (try later), ``expired``,
    ``rollback``, ``signature``, ``mismatch`` (length or hash), ``too_large``, ``slow``, ``missing`` (no such target),
    ``disk``, ``timeout``, ``damaged_trust`` (local root cannot be used), ``internal``.
    """

    async def check(self, origin: str, ring: str, now_s: float) -> Checked:
        """Refresh the metadata and get the file of ``ring``."""
        ...

    async def fetch(self, origin: str, target: Target, now_s: float, into: Path) -> None:
        """Download and verify ``target`` into the file ``into``; durable on return. Goes on where it was cut off."""
        ...


@dataclass(frozen=True, slots=True)
class Probed:
    """What a candidate did in its own limited process. Times in ms, memory in MB (10**6 bytes)."""

    bundle: str
    p50_ms: float
    p99_ms: float
    rss_mb: float
    deviation: float


class Prober(Protocol):
    """Opens a candidate where it can do no harm."""

    async def gate(self, path: Path) -> str:
        """Read the tar at ``path`` and check all that can be checked without running it; the bundle's sha256.

        :raises OtaError: reason ``gate``; it must not be used. ``internal``, ``starved``: it could not be tried now.
        """
        ...

    async def probe(self, path: Path, limits: Limits) -> Probed:
        """Load and run it on its golden ticks under limits of memory, time, files and processes.

        :raises OtaError: reason ``probe``; it must not be used. ``internal``, ``starved``: it could not be tried now.
        """
        ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether a release is for this gateway. ``in_force``: as of :class:`Host`."""

    agent: str
    hardware: tuple[str, ...]
    in_force: InForce
    free_memory_bytes: int
    free_disk_bytes: int


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the agent does, since it was started or since the model in use went live. Counters only grow.

    ``alarms``: process incidents opened, in ``alarm_seconds`` of ticks at which one could be (not while warming up).
    ``scores``: of recent ticks (newest last, bounded), without the level that each model has of its own, so that those
    of two models may be compared. ``tick_ms``: processor time of the detector in recent ticks.
    """

    ticks: int
    detector_failures: int
    alarms: int
    alarm_seconds: float
    rss_mb: float
    scores: Sequence[float]
    tick_ms: Sequence[float]
    troubles: tuple[str, ...] = ()
    """Reasons why the agent does not do its work now (as of readiness), each one sentence."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate in shadow beside the model in use, over ``ticks``. ``distance``: Kolmogorov-Smirnov, 0 to 1."""

    ticks: int
    failures: int
    distance: float
    alarms: float
    alarms_in_use: float
    p99_ms: float
    p99_ms_in_use: float
    details: Mapping[str, Any] = field(default_factory=dict)


class Host(Protocol):
    """The running agent, as updates see it. Called on its event loop; nothing blocks it."""

    @property
    def in_force(self) -> InForce:
        """What runs now. Cheap: it is asked for again and again."""
        ...

    def facts(self) -> Facts:
        """What this gateway is and runs, and what room it has."""
        ...

    def vitals(self) -> Vitals:
        """How it does."""
        ...

    async def begin_shadow(self, bundle: Bundle) -> None:
        """Let ``bundle`` score beside the model in use; nothing it says counts. :raises BundleError: it cannot run."""
        ...

    def shadow(self) -> Comparison:
        """How the candidate compares so far."""
        ...

    async def end_shadow(self) -> None:
        """Stop it; also when none runs."""
        ...

    async def put_in_force(self, wanted: InForce, bundle: Bundle | None, overlay: Path | None, why: str) -> None:
        """Make ``wanted`` what runs, between two ticks: the model ``bundle`` (None: leave, or universal when
        ``wanted.model`` is None), the configuration overlay (None: none). Durable in the model slots on return.

        :raises BundleError, ConfigError, StoreError: it cannot; what ran before still runs. OtaError, reason
            ``restart_required``: the configuration cannot be taken into use while the agent runs.
        """
        ...

    def notice(self, code: str, message: str) -> None:
        """Tell people, as a status event and in the log."""
        ...
