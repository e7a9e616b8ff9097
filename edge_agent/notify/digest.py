"""What has happened in a period, to be told in one summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_agent.clock import CLOCK_SET_NS, NS_PER_S
from edge_agent.contract import DigestOptions
from edge_agent.counted import counted
from edge_agent.notify.choice import severity_rank
from edge_agent.notify.moment import Moment
from edge_agent.schedule import next_after
from edge_agent.verdict import IncidentState, Severity, rfc3339

_MOST_INCIDENTS = 1_000
_MOST_LISTED = 10
_MOST_MESSAGES = 20
_NO_AREA = "no area"
_KEPT = ("id", "kind", "severity", "state", "summary", "opened", "closed")


@dataclass(slots=True)
class Digest:
    """One sink's digest of the period that began at ``began_ns`` (wall).

    ``due_ns``: when it is told (monotonic); under the option ``at`` the wall clock decides, and this is None.
    Of more than 1,000 incidents a period the rest is only counted (``more``).
    """

    began_ns: int
    due_ns: int | None
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)
    more: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, options: DigestOptions, now: Moment) -> Digest:
        """The digest of the period that begins now."""
        return cls(now.wall_ns, _due_ns(options, now))

    def follow(self, options: DigestOptions, now: Moment) -> None:
        """Go on with other options: never later than a period that begins now would end."""
        latest_ns = _due_ns(options, now)
        self.due_ns = latest_ns if latest_ns is None or self.due_ns is None else min(self.due_ns, latest_ns)

    def is_due(self, options: DigestOptions, now: Moment) -> bool:
        """Whether the period is over. A wall clock that is set for the first time, or back, begins it anew."""
        if self.began_ns > now.wall_ns or self.began_ns < CLOCK_SET_NS <= now.wall_ns:
            self.began_ns = now.wall_ns
        return now.wall_ns >= self.due_wall_ns(options, now)

    def due_wall_ns(self, options: DigestOptions, now: Moment) -> int:
        """Wall time at which it is told, as the clocks stand now."""
        if options.at is None:
            return now.wall_ns if self.due_ns is None else now.wall_at(self.due_ns)
        following_ns = next_after(options.at, options.timezone, self.began_ns)
        return now.wall_ns if following_ns is None else following_ns

    @property
    def empty(self) -> bool:
        """Nothing has happened."""
        return not (self.incidents or self.statuses or self.more)

    def add_incident(self, incident: Mapping[str, Any]) -> None:
        """Note ``incident`` (:meth:`~edge_agent.verdict.Incident.to_dict`) as it now stands."""
        if incident["id"] in self.incidents or len(self.incidents) < _MOST_INCIDENTS:
            self.incidents[incident["id"]] = digest_entry(incident)
        elif incident["state"] == IncidentState.OPEN:
            self.more += 1

    def add_status(self, body: Mapping[str, Any]) -> None:
        """Note a status event."""
        what = str(body.get("what", "status"))
        self.statuses[what] = self.statuses.get(what, 0) + 1
        self.messages = [*self.messages, str(body.get("message", what))][-_MOST_MESSAGES:]

    def body(self, until_ns: int, still_open: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """The summary until wall time ``until_ns``: body of an event of kind ``digest``.

        ``still_open``: incidents of this sink that are open, also those of earlier periods.
        """
        entries = list(self.incidents.values())
        open_now = _worst_first(still_open)
        areas = Counter(area for entry in entries for area in (entry["areas"] or [_NO_AREA]))
        body: dict[str, Any] = {
            "what": "digest",
            "from": rfc3339(self.began_ns),
            "to": rfc3339(until_ns),
            "incidents": len(entries) + self.more,
            "closed": sum(entry["state"] == IncidentState.CLOSED for entry in entries),
            "by_severity": {str(s): n for s in reversed(Severity) if (n := _count(entries, "severity", s))},
            "by_area": dict(areas.most_common(_MOST_LISTED)),
            "by_kind": dict(Counter(entry["kind"] for entry in entries)),
            "worst": _worst_first(entries)[:_MOST_LISTED],
            "open": open_now[:_MOST_LISTED],
            "open_count": len(open_now),
            "status": dict(self.statuses),
            "messages": list(self.messages),
        }
        return {**body, "message": _text(body)}


def period_ns(options: DigestOptions) -> int:
    """Length of a period; 0 under the option ``at``."""
    return 0 if options.every is None else round(options.every * NS_PER_S)


def _due_ns(options: DigestOptions, now: Moment) -> int | None:
    return None if options.every is None else now.monotonic_ns + period_ns(options)


def digest_entry(incident: Mapping[str, Any]) -> dict[str, Any]:
    """What a digest tells of ``incident``."""
    entry = {key: incident[key] for key in _KEPT}
    return {**entry, "areas": list(incident["areas"]), "acknowledged": incident["acknowledged"] is not None}


def _worst_first(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    latest_first = sorted(entries, key=lambda entry: str(entry["opened"]), reverse=True)
    return sorted(latest_first, key=lambda entry: -severity_rank(entry["severity"]))


def _count(entries: list[dict[str, Any]], key: str, value: str) -> int:
    return sum(entry[key] == value for entry in entries)


def _text(body: Mapping[str, Any]) -> str:
    """The summary for people; sinks without a template of their own show it."""
    lines = [f"{counted(body['incidents'], 'incident')} from {_minute(body['from'])} to {_minute(body['to'])} UTC"]
    if body["by_severity"]:
        lines[0] += ": " + ", ".join(f"{count} {severity}" for severity, count in body["by_severity"].items())
    if set(body["by_area"]) - {_NO_AREA}:
        lines.append("areas: " + ", ".join(f"{area} {count}" for area, count in body["by_area"].items()))
    lines += _listed("worst", body["worst"], len(body["worst"]))
    lines += _listed("still open", body["open"], body["open_count"])
    if body["status"]:
        lines.append("status: " + ", ".join(f"{what} {count}" for what, count in body["status"].items()))
    return "\n".join(lines)


def _listed(heading: str, entries: list[Mapping[str, Any]], count: int) -> list[str]:
    if not entries:
        return []
    lines = [f"{heading}:", *(f"- {entry['severity']}: {entry['summary']} ({entry['id']})" for entry in entries)]
    return [*lines, f"- and {count - len(entries)} more"] if count > len(entries) else lines


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")
