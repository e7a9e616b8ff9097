"""Which incidents a sink is to be told of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from edge_agent.clock import CLOCK_SET_NS
from edge_agent.contract import SinkOptions
from edge_agent.schedule import Windows
from edge_agent.verdict import Severity

_ORDER = {severity.value: rank for rank, severity in enumerate(Severity)}


class HeldBack(StrEnum):
    """Why a sink was not told of an event at once."""

    KIND = "kind"
    AREA = "area"
    SENSOR = "sensor"
    SEVERITY = "severity"
    SUPPRESSED = "suppressed"
    SCHEDULE = "schedule"
    DIGEST = "digest"


def held_back(options: SinkOptions, incident: Mapping[str, Any]) -> HeldBack | None:
    """Why a sink with ``options`` is not told of ``incident`` (:meth:`~edge_agent.verdict.Incident.to_dict`).

    None: it is told of it.
    """
    if incident["kind"] not in options.kinds:
        return HeldBack.KIND
    if options.areas and not _any_matches(incident["areas"], options.areas):
        return HeldBack.AREA
    if options.sensors and not _any_matches(_named(incident), options.sensors):
        return HeldBack.SENSOR
    if not reaches(incident, options.severity):
        return HeldBack.SEVERITY
    if incident["suppressed"] is not None and not options.suppressed:
        return HeldBack.SUPPRESSED
    return None


def within_schedule(options: SinkOptions, wall_ns: int) -> bool:
    """Whether a sink with ``options`` is told at ``wall_ns``; always, while the wall clock was plainly never set."""
    if not options.schedule or wall_ns < CLOCK_SET_NS:
        return True
    return bool(Windows(options.schedule).open_at(wall_ns))


def reaches(incident: Mapping[str, Any], severity: Severity | None) -> bool:
    """Whether ``incident`` is at least this severe; nothing is as severe as None."""
    return severity is not None and _ORDER[incident["severity"]] >= _ORDER[severity]


def severity_rank(severity: str) -> int:
    """Place of ``severity`` in the order of :class:`~edge_agent.verdict.Severity`; higher is worse."""
    return _ORDER[severity]


def _named(incident: Mapping[str, Any]) -> Iterable[str]:
    yield from (part["sensor"] for part in incident["sensors"])
    yield from (step["sensor"] for step in incident["propagation"])


def _any_matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
