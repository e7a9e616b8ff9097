"""What is remembered of an incident while it is open: how it stands, and which sink knows what of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from edge_agent.notify.moment import Moment
from edge_agent.verdict import Event, EventKind

_NO_PLOTS: Final[Mapping[str, Any]] = {
    "series": {},
    "expected_series": {},
    "series_first": None,
    "series_step_s": None,
}


@dataclass(slots=True)
class Knowledge:
    """What one sink knows of one incident.

    ``since_ns``: wall time at which it was told, or the incident entered its digest. ``told``: in events of its own.
    ``escalated_from``: the sink at which nobody acknowledged it, since ``unheard_ns`` (wall). ``due_ns``: monotonic
    time at which it is escalated further; None: not, or not any more (``passed_on``).
    """

    since_ns: int
    told: bool = False
    escalated_from: str | None = None
    unheard_ns: int | None = None
    due_ns: int | None = None
    passed_on: bool = False

    def to_dict(self, now: Moment) -> dict[str, Any]:
        """Plain values for JSON; ``due_ns`` becomes wall time."""
        return {
            "since": self.since_ns,
            "told": self.told,
            "escalated_from": self.escalated_from,
            "unheard": self.unheard_ns,
            "due": None if self.due_ns is None else now.wall_at(self.due_ns),
            "passed_on": self.passed_on,
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any], now: Moment, longest_ns: int) -> Knowledge:
        """The reverse; an escalation is at most ``longest_ns`` from now."""
        due = saved["due"]
        return cls(
            since_ns=int(saved["since"]),
            told=bool(saved["told"]),
            escalated_from=saved["escalated_from"],
            unheard_ns=saved["unheard"],
            due_ns=None if due is None else now.monotonic_at(int(due), longest_ns),
            passed_on=bool(saved["passed_on"]),
        )


@dataclass(slots=True)
class Watched:
    """An open incident: the latest event about it, and what each sink knows."""

    event: Event
    known: dict[str, Knowledge] = field(default_factory=dict)

    def to_dict(self, now: Moment) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.event.id,
            "time": self.event.time_ns,
            "body": self.event.body,
            "known": {sink: known.to_dict(now) for sink, known in self.known.items()},
        }

    @classmethod
    def from_dict(cls, saved: dict[str, Any], now: Moment, longest_ns: dict[str, int]) -> Watched:
        """The reverse; ``longest_ns``: for each sink that escalates, after how long."""
        event = Event(str(saved["id"]), EventKind.INCIDENT, int(saved["time"]), saved["body"])
        known = {sink: Knowledge.from_dict(one, now, longest_ns.get(sink, 0)) for sink, one in saved["known"].items()}
        return cls(event, known)


def without_plots(event: Event) -> Event:
    """``event`` without the series for plotting, which are most of an incident."""
    return replace(event, body={**event.body, **_NO_PLOTS})
