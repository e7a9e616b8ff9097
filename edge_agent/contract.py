"""What an adapter has to do, and what it is given.

An adapter is announced by an entry point in the group ``edge_agent.sources``, ``edge_agent.sinks`` or
``edge_agent.uplinks`` that names a :class:`SourceAdapter`, :class:`SinkAdapter` or :class:`UplinkAdapter`. Loading the
entry point must not import the client library: only ``build`` may, so that ``edge-agent check`` works without it and
memory is paid only for what is configured.

Checking options and connecting are different steps: wrong options stop the start (``ConfigError``), a dead device
need not. The agent, not the adapter, retries, backs off, names, filters, counts and judges.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, Self, runtime_checkable

from pydantic import Field, model_validator

from edge_agent.channel import Full
from edge_agent.clock import Clock
from edge_agent.metrics import Metrics
from edge_agent.options import ByteSize, Duration, Options
from edge_agent.sample import Batch
from edge_agent.schedule import WindowOptions, check_times
from edge_agent.verdict import Event, EventKind, IncidentKind, Severity


class StartBehaviour(StrEnum):
    """What the agent does when an adapter cannot start."""

    RETRY = "retry"
    FAIL = "fail"
    IGNORE = "ignore"


class SourceOptions(Options):
    """Options every source has; an adapter's own class derives from this one."""

    type: str = Field(description="Adapter to use; `edge-agent adapters list` names them.")
    start: StartBehaviour = Field(
        default=StartBehaviour.RETRY,
        description="When the source cannot start: `retry` for ever, `fail` the whole agent, or `ignore` it.",
    )
    prefix: str = Field(default="", description="Text put in front of every sensor name of this source.")
    include: tuple[str, ...] = Field(
        default=("*",), description="Sensors to take, as shell-style patterns (after `prefix`)."
    )
    exclude: tuple[str, ...] = Field(default=(), description="Sensors to leave out, as shell-style patterns.")
    rename: dict[str, str] = Field(
        default={}, description="New names for sensors, by the name after `prefix`: `{old: new}`."
    )
    when_full: Full | None = Field(
        default=None,
        description="When the agent cannot keep up: `block` the source or `drop_oldest` (counted). "
        "Default: what suits the protocol (block where the far side can wait, drop_oldest where it cannot).",
    )
    retry_max: Duration = Field(default=60.0, description="Longest pause between two attempts to start.")


class EscalationOptions(Options):
    """Who is told next when nobody acknowledges an incident."""

    after: Duration = Field(gt=0, description="How long an incident may stay open without being acknowledged.")
    to: str = Field(description="Name of the sink that is told then, whatever its own severity, areas or digest say.")
    severity: Severity = Field(default=Severity.LOW, description="Least severity that is escalated.")


class DigestOptions(Options):
    """One summary for each period instead of each event."""

    every: Duration | None = Field(
        default=None, ge=60, description="Length of the period that one digest covers. This or `at`."
    )
    at: str | None = Field(
        default=None,
        description="When digests are sent, as in a crontab: minute, hour, day of month, month, day of week.",
        examples=["0 7 * * *"],
    )
    timezone: str = Field(
        default="UTC", description="Time zone of `at`, as in the IANA database.", examples=["Europe/Berlin"]
    )
    at_once: Severity | None = Field(
        default=Severity.CRITICAL,
        description="Least severity of incidents that are told at once all the same; `null`: none are.",
    )
    empty: bool = Field(default=False, description="Send a digest also when nothing has happened, as a sign of life.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.every is None) == (self.at is None):
            given = "neither `every` nor `at`" if self.at is None else "both `every` and `at`"
            raise ValueError(f"got {given}, expected one of them, such as `every: 1h` or `at: '0 7 * * *'`")
        if self.at is not None:
            check_times("at", self.at, self.timezone)
        return self


class WhenFull(StrEnum):
    """Which events go when there is no more room for all that a sink has not taken."""

    DROP_OLDEST = "drop_oldest"
    DROP_NEWEST = "drop_newest"
    REDUCE = "reduce"


class BufferOptions(Options):
    """How events are kept that a sink has not taken yet: in memory, and on the disk once they have waited."""

    max_bytes: ByteSize = Field(default=256_000_000, ge=100_000, description="Most disk space for events of this sink.")
    max_age: Duration = Field(
        default=30 * 86400.0, ge=60, description="Events that could not be delivered for so long are given up."
    )
    when_full: WhenFull = Field(
        default=WhenFull.REDUCE,
        description="What goes when there is no more room: `drop_oldest`, `drop_newest`, or `reduce`: first scores and "
        "readings, then status events and updates of incidents, last digests and what opens, closes or escalates "
        "incidents; of each the oldest first. All counted.",
    )
    memory: ByteSize = Field(
        default=4_000_000, ge=10_000, description="Most memory for events that the disk does not take either."
    )
    spill_after: Duration = Field(
        default=2.0,
        gt=0,
        le=600,
        description="How long an event may wait in memory alone; then it is written to the disk, with all others that "
        "wait. Power loss takes what is younger.",
    )
    replay_rate: float = Field(
        default=200.0,
        gt=0,
        le=100_000,
        description="Most events a second that are delivered late, when the sink is back; new ones go first.",
    )


class SinkOptions(Options):
    """Options every sink has; an adapter's own class derives from this one."""

    type: str = Field(description="Adapter to use; `edge-agent adapters list` names them.")
    start: StartBehaviour = Field(
        default=StartBehaviour.RETRY,
        description="When the sink cannot start: `retry` for ever, `fail` the whole agent, or `ignore` it.",
    )
    events: tuple[EventKind, ...] = Field(
        default=(EventKind.INCIDENT, EventKind.STATUS), description="Kinds of event to deliver to this sink."
    )
    every: Duration | None = Field(
        default=None,
        gt=0,
        description="How often scores and readings are delivered, if `events` names them; those in between are not "
        "sent. Default: at each tick.",
    )
    severity: Severity = Field(
        default=Severity.LOW,
        description="Least severity of incidents told. One that rises to it later is told then; the end of an "
        "incident that was told is always told.",
    )
    areas: tuple[str, ...] = Field(
        default=(),
        description="Only incidents with a sensor in one of these areas (`sensors.*.area`), as shell-style patterns; "
        "none: any.",
    )
    sensors: tuple[str, ...] = Field(
        default=(), description="Only incidents that name one of these sensors, as shell-style patterns; none: any."
    )
    kinds: tuple[IncidentKind, ...] = Field(
        default=tuple(IncidentKind),
        description="Kinds of incident told. An empty list: only what other sinks escalate to this one.",
    )
    suppressed: bool = Field(
        default=False,
        description="Tell also incidents that are suppressed by a maintenance window or an operator.",
    )
    schedule: tuple[WindowOptions, ...] = Field(
        default=(),
        description="When it is told; an incident still open when such a time begins is told then, the end of one "
        "that was told always. Default: always.",
    )
    escalate: EscalationOptions | None = Field(
        default=None, description="Whom to tell when nobody acknowledges an incident that this sink was told."
    )
    digest: DigestOptions | None = Field(
        default=None, description="Tell one summary a period instead of each incident and status event."
    )
    buffer: BufferOptions = Field(
        default=BufferOptions(), description="How events are kept while the sink does not take them."
    )
    retry_max: Duration = Field(default=60.0, description="Longest pause between two deliveries that failed.")

    @property
    def told(self) -> tuple[EventKind, ...]:
        """Kinds of event that reach the sink: ``events``, and its digest."""
        return self.events if self.digest is None else (*self.events, EventKind.DIGEST)


class Emitter(Protocol):
    """Takes what a source has read. Accepted means: it will be scored even if the agent is told to stop now."""

    def offer(self, batch: Batch) -> bool:
        """Take ``batch`` without waiting; False when full and the source's policy is to block."""
        ...

    async def send(self, batch: Batch) -> None:
        """Take ``batch``, waiting for room. Return means accepted: only now acknowledge to the far side."""
        ...


@runtime_checkable
class Source(Protocol):
    """Reads from outside. Made once for each attempt; :meth:`run` is called once."""

    async def run(self, emit: Emitter) -> None:
        """Connect, read and emit until cancelled; release everything in ``finally``.

        Returning means the source has ended by itself (a file was read to its end).
        :raises RetryableAdapterError: cannot go on now. :raises AdapterError: a retry will not help.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Delivers events. Calls never overlap: ``open``, then ``deliver`` any number of times, then ``close``."""

    async def open(self) -> None:
        """Connect. :raises RetryableAdapterError, AdapterError: as for a source."""
        ...

    async def deliver(self, events: Sequence[Event]) -> None:
        """Return when the far side has acknowledged every event; otherwise raise, and all are delivered again."""
        ...

    async def close(self) -> None:
        """Release everything; also called after a failed ``open``."""
        ...


AdapterKind = Literal["source", "sink", "uplink"]
"""What an adapter instance is to the agent."""


class AdapterContext:
    """What the agent gives to one adapter instance: name, time, randomness, log, and where to report.

    ``random`` is seeded by the agent: adapters take jitter from it and from nowhere else.
    """

    def __init__(
        self, name: str, clock: Clock, rng: random.Random, metrics: Metrics, *, kind: AdapterKind = "source"
    ) -> None:
        self.name = name
        self.clock = clock
        self.random = rng
        self.metrics = metrics
        self.log = logging.getLogger(f"edge_agent.{kind}.{name}")
        self.state = "starting"
        self.carried: Any = None
        """What the adapter wants to find again when it is built anew after a failure; the agent does not look at it."""
        self.batch = 100
        """Most events that one :meth:`Sink.deliver` is given; a sink that is slow at each asks for fewer."""
        self.open_incidents: Callable[[], Sequence[Event]] = tuple
        """For sinks that repeat: the open incidents that this one was told, each by the latest event about it."""
        self.ever_connected = False
        ups = {"source": metrics.source_up, "sink": metrics.sink_up, "uplink": metrics.uplink_up}
        self._up = ups[kind].labels(name)
        self._rejected = metrics.uplink_rejected if kind == "uplink" else metrics.rejected
        self._far_side = name
        self._doubted = False
        self._quiet_until: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def connected(self, what: str) -> None:
        """Say that the far side ``what`` (an address, without secrets) is reached.

        Of a sink whose last delivery failed this is not believed before an event is acknowledged.
        """
        self._far_side = what
        if self._doubted:
            return
        self._up.set(1)
        self.ever_connected = True
        if self.state != "connected":
            self.log.info("connected to %s", what)
        self.state = "connected"

    def disconnected(self, reason: str) -> None:
        """Say that the far side is gone and why; a source that reconnects by itself goes on."""
        self._up.set(0)
        if self.state != f"disconnected: {reason}":
            self.log.warning("disconnected: %s", reason)
        self.state = f"disconnected: {reason}"

    @property
    def is_up(self) -> bool:
        """Nothing is known against the far side: it is reached, or not needed yet."""
        return self.state in ("connected", "ready")

    def opened(self) -> None:
        """Say that a sink is prepared, which may not have reached its far side yet; used by the agent only."""
        self.ever_connected = True
        if self.state == "starting":
            self._up.set(1)
            self.state = "ready"

    def delivery_failed(self) -> None:
        """Believe nothing but :meth:`delivered` from now on; used by the agent only."""
        self._doubted = True

    def delivered(self) -> None:
        """Say that the far side of a sink has answered to an event; used by the agent only."""
        self._doubted = False
        self.connected(self._far_side)

    def ended(self, state: str) -> None:
        """Say that the adapter runs no more, and why; used by the agent only."""
        self._up.set(0)
        self.state = state

    def reject(self, reason: str, message: str, count: int = 1) -> None:
        """Count ``count`` frames that could not be understood; log at most one a minute for each ``reason``.

        ``reason`` is a fixed word (it becomes a metric label); ``message`` says what was found and expected.
        """
        self._rejected.labels(self.name, reason).inc(count)
        self._warn_rarely(reason, "rejected", message, count)

    def template_failed(self, option: str, message: str) -> None:
        """Count that the template of ``option`` failed; log ``message`` at most once a minute for each option."""
        self.metrics.template_failures.labels(self.name, option).inc()
        self._warn_rarely(f"template {option}", "template", message, 1)

    def parts_lost(self, reason: str, message: str, count: int = 1) -> None:
        """Count ``count`` parts of events that cannot be delivered; log at most one a minute for each ``reason``.

        For a sink whose far side takes a part of what it is given; ``reason`` and ``message`` as for :meth:`reject`.
        """
        self.metrics.sink_parts_lost.labels(self.name, reason).inc(count)
        self._warn_rarely(reason, "not delivered", message, count)

    def _warn_rarely(self, reason: str, what: str, message: str, count: int) -> None:
        now = time.monotonic()
        if now < self._quiet_until.get(reason, 0.0):
            self._suppressed[reason] = self._suppressed.get(reason, 0) + count
            return
        self._quiet_until[reason] = now + 60.0
        more = self._suppressed.pop(reason, 0)
        self.log.warning("%s: %s%s", what, message, f" (and {more} more since the last such message)" if more else "")


class UplinkOptions(Options):
    """Options every uplink has; an adapter's own class derives from this one."""

    type: str = Field(description="Adapter to use; `edge-agent adapters list` names them.")
    retry_max: Duration = Field(default=60.0, description="Longest pause between two attempts to connect.")


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody says that there is news. It is not believed: it only makes the gateway look.

    ``counter``: of the newest ring file, if it was said. ``spread_s``: over how long the fleet is to look, at most an
    hour counts.
    """

    counter: int | None = None
    spread_s: float = 0.0


class UplinkPort(Protocol):
    """What an uplink is given: who this gateway is, where hints go, and what is to be told."""

    fleet: str
    ring: str
    gateway: str

    def look(self, hint: Hint) -> None:
        """Pass a hint on; never blocks. However many come, looks are coalesced and rate-limited behind it."""
        ...

    async def next_report(self) -> bytes:
        """Wait for a status report (JSON) newer than the one got last; at first the latest there is."""
        ...


@runtime_checkable
class Uplink(Protocol):
    """Carries hints to the gateway and its status reports away. Trust is elsewhere: it may lie or be silent."""

    async def run(self, port: UplinkPort) -> None:
        """Connect, pass hints on and reports away until cancelled; release everything in ``finally``.

        :raises RetryableAdapterError: cannot go on now. :raises AdapterError: a retry will not help.
        """
        ...


@runtime_checkable
class Fleet(Protocol):
    """The publisher's end of an uplink."""

    async def nudge(self, fleet: str, ring: str, hint: Hint) -> None:
        """Tell all gateways of ``ring`` now, and those that connect later. :raises AdapterError: not reached."""
        ...

    async def reports(self, fleet: str) -> list[bytes]:
        """The latest status report of each gateway. :raises AdapterError: not reached."""
        ...


@dataclass(frozen=True, slots=True)
class UplinkAdapter:
    """Announces an uplink. ``fleet`` builds the publisher's end, where the protocol has one."""

    name: str
    summary: str
    options: type[UplinkOptions]
    build: Callable[[Any, AdapterContext], Uplink]
    fleet: Callable[[Any], Fleet] | None = None
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class SourceAdapter:
    """Announces a source. ``when_full`` is the protocol's default policy; ``extra`` the pip extra it needs, if any."""

    name: str
    summary: str
    options: type[SourceOptions]
    build: Callable[[Any, AdapterContext], Source]
    when_full: Full = Full.BLOCK
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class SinkAdapter:
    """Announces a sink."""

    name: str
    summary: str
    options: type[SinkOptions]
    build: Callable[[Any, AdapterContext], Sink]
    extra: str | None = None


Adapter = SourceAdapter | SinkAdapter | UplinkAdapter
