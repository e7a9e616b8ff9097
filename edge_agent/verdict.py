"""What the detector says of one tick, and what is told to people: scores, incidents, events. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


MODEL = "model"
"""Name of the member of the ensemble that is the model of the bundle."""
SENSOR_MEMBERS = ("own history", "shared history", "relation", "persistence", MODEL)
"""Members of the ensemble that score single sensors, in the order of :attr:`Scores.member_scores`."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Output of a detector for one tick; arrays are aligned with the snapshot's sensors (N), neighbours K.

    ``score``: non-negative, about 1 on normal data, higher is more anomalous; 0 where ``valid`` is False.
    ``expected``, ``scale``: the value the detector expected and its usual deviation, in the sensor's unit.
    ``valid``: False where the sensor had no usable value or the detector is not ready for it yet.
    ``neighbour``, ``attention``: indices of the K neighbours and the weight given to each (rows sum to 1, or 0).
    ``plant``: log score of the whole plant by all members of the ensemble, about 0 on normal data; None where a single
    detector says nothing of it. ``members``: how far each member is above what is usual for it, in usual deviations.
    ``member_levels`` [M]: log score of each member, about 0 on normal data, NaN without a vote; None as ``plant``.
    ``member_scores`` [5, N]: scores by ``SENSOR_MEMBERS``; ``forecasts`` [3, N]: the value that the first three of them
    expected, in the sensor's unit. NaN where one says nothing; None as ``plant``.
    """

    score: Floats
    expected: Floats
    scale: Floats
    valid: Bools
    neighbour: Ints
    attention: Floats
    plant: float | None = None
    members: Mapping[str, float] = field(default_factory=dict)
    member_levels: NDArray[np.float64] | None = None
    member_scores: NDArray[np.float64] | None = None
    forecasts: NDArray[np.float64] | None = None


class Severity(StrEnum):
    """How urgent an incident is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class IncidentKind(StrEnum):
    """``process``: the plant behaves unlike itself. ``data_quality``: readings are missing or wrong. ``rule``: a
    rule of the user's holds, and no process incident that it belongs to is open."""

    PROCESS = "process"
    DATA_QUALITY = "data_quality"
    RULE = "rule"


class IncidentState(StrEnum):
    """Life of an incident; each change is one event."""

    OPEN = "open"
    UPDATED = "updated"
    CLOSED = "closed"


class Feedback(StrEnum):
    """What a person says of an incident."""

    TRUE_ALARM = "true_alarm"
    FALSE_ALARM = "false_alarm"


class Finding(StrEnum):
    """What a sensor does that it should not, told from its readings and what was expected of them.

    ``repeats``: the very values of a stretch some time ago. ``above``, ``below``: only off what was expected.
    """

    RISES = "rises"
    FALLS = "falls"
    JUMPS_UP = "jumps_up"
    JUMPS_DOWN = "jumps_down"
    STANDS_STILL = "stands_still"
    REPEATS = "repeats"
    RESTLESS = "restless"
    CALM = "calm"
    ABOVE = "above"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Contribution:
    """One sensor's part in an incident. ``share`` is its part of the score (0 to 1); values in ``unit``.

    ``scale``: usual deviation from what is expected. ``finding``: a :class:`Finding`, or in a data-quality incident the
    name of the flag. ``judged_by``: member of the ensemble whose expectation is told, the one most surprised.
    """

    sensor: str
    share: float
    score: float
    seen: float | None
    expected: float | None
    unit: str | None
    reason: str
    scale: float | None = None
    finding: str | None = None
    judged_by: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """A graph edge that no longer holds: ``sensor`` was expected to follow ``neighbour`` with this weight."""

    sensor: str
    neighbour: str
    weight: float


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An operator has seen the incident: who, when (wall ns) and what they said."""

    by: str
    time_ns: int
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"by": self.by, "time": rfc3339(self.time_ns), "note": self.note}


@dataclass(frozen=True, slots=True)
class Step:
    """A step of how an incident spread: ``sensor`` first stood out at ``tick``, ``after_s`` seconds after the first."""

    sensor: str
    tick: int
    after_s: float


@dataclass(frozen=True, slots=True)
class PatternMatch:
    """A known attack or fault that the incident looks like.

    ``techniques``: ids of MITRE ATT&CK for ICS, empty for faults. ``confidence``: 0 to 1. ``stages``: names of the
    stages seen so far, in order.
    """

    pattern: str
    title: str
    techniques: tuple[str, ...]
    confidence: float
    stages: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "techniques": list(self.techniques), "stages": list(self.stages)}


@dataclass(frozen=True, slots=True)
class SimilarIncident:
    """An earlier incident that looked alike. ``similarity``: 0 to 1. ``feedback``: what a person said of it."""

    id: str
    opened_ns: int
    similarity: float
    summary: str
    feedback: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "opened": rfc3339(self.opened_ns),
            "similarity": self.similarity,
            "summary": self.summary,
            "feedback": self.feedback,
        }


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident as it stands. ``id`` is a ULID and stays the same from open to closed; times are wall ns.

    ``members``: at its worst, how far each member of the ensemble was above what is usual for it, in usual deviations.
    ``propagation``: in which order sensors began to stand out. ``rules``: names of the user's rules that hold.
    ``areas``: areas of the plant its sensors are in. ``suppressed``: why nobody is to be disturbed (a maintenance
    window, an operator's order), None otherwise. ``flapping``: it has opened and closed so often that only the
    flapping is told. ``reopened``: how often it opened again after it had closed. ``similar``: put in by the history,
    into what is told.

    ``series`` and ``expected_series``: what its worst sensors read, and what was expected of them, for plotting: values
    ``series_step_s`` apart, the first one at ``series_first_ns``.
    """

    id: str
    kind: IncidentKind
    state: IncidentState
    severity: Severity
    opened_ns: int
    updated_ns: int
    closed_ns: int | None
    first_tick: int
    last_tick: int
    p_value: float
    score: float
    summary: str
    contributions: tuple[Contribution, ...]
    first_mover: str | None = None
    broken_edges: tuple[Edge, ...] = ()
    series: dict[str, list[float | None]] = field(default_factory=dict)
    degraded: bool = False
    members: Mapping[str, float] = field(default_factory=dict)
    propagation: tuple[Step, ...] = ()
    rules: tuple[str, ...] = ()
    areas: tuple[str, ...] = ()
    patterns: tuple[PatternMatch, ...] = ()
    similar: tuple[SimilarIncident, ...] = ()
    acknowledged: Acknowledgement | None = None
    suppressed: str | None = None
    flapping: bool = False
    reopened: int = 0
    expected_series: dict[str, list[float | None]] = field(default_factory=dict)
    series_first_ns: int | None = None
    series_step_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times as RFC 3339 UTC text."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "state": self.state.value,
            "severity": self.severity.value,
            "opened": rfc3339(self.opened_ns),
            "updated": rfc3339(self.updated_ns),
            "closed": None if self.closed_ns is None else rfc3339(self.closed_ns),
            "first_tick": self.first_tick,
            "last_tick": self.last_tick,
            "p_value": self.p_value,
            "score": self.score,
            "summary": self.summary,
            "first_mover": self.first_mover,
            "degraded": self.degraded,
            "members": dict(self.members),
            "rules": list(self.rules),
            "areas": list(self.areas),
            "suppressed": self.suppressed,
            "flapping": self.flapping,
            "reopened": self.reopened,
            "acknowledged": None if self.acknowledged is None else self.acknowledged.to_dict(),
            "sensors": [asdict(part) for part in self.contributions],
            "broken_edges": [asdict(edge) for edge in self.broken_edges],
            "propagation": [asdict(step) for step in self.propagation],
            "patterns": [match.to_dict() for match in self.patterns],
            "similar": [other.to_dict() for other in self.similar],
            "series": self.series,
            "expected_series": self.expected_series,
            "series_first": None if self.series_first_ns is None else rfc3339(self.series_first_ns),
            "series_step_s": self.series_step_s,
        }


class EventKind(StrEnum):
    """What an event is about; sinks choose by it (option ``events``).

    ``digest``: summary of a period, for a sink with the option ``digest``.
    """

    INCIDENT = "incident"
    STATUS = "status"
    SCORES = "scores"
    READINGS = "readings"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True)
class Event:
    """One message for the sinks. ``body`` is JSON-ready; ``id`` lets a receiver drop a repeated delivery.

    ``replayed``: it is old and comes from the outbox after the sink was down; live events go first.
    """

    id: str
    kind: EventKind
    time_ns: int
    body: dict[str, Any]
    replayed: bool = False

    def message(self) -> dict[str, Any]:
        """The event as one JSON object, as sinks that have no format of their own send it."""
        message = {"id": self.id, "kind": self.kind.value, "time": rfc3339(self.time_ns), "body": self.body}
        return {**message, "replayed": True} if self.replayed else message


def rfc3339(wall_ns: int) -> str:
    """UTC text with milliseconds, such as ``2026-11-20T10:42:07.125Z`` (RFC 3339)."""
    return str(np.datetime_as_string(np.datetime64(wall_ns // 1_000_000, "ms"))) + "Z"
