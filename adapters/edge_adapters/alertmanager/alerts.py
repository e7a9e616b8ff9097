"""Which alerts fire, and what has to be sent for some events. Pure: no clock, no network.

Labels are what Alertmanager knows an alert by. Most stay the same as long as the incident lives, but severity and area
may change: then the alert of the old labels is resolved in the request that brings the one of the new labels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_agent.verdict import Event, EventKind, rfc3339

_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Times are RFC 3339; one without ``ends`` fires until Alertmanager hears no more of it."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts: str
    ends: str | None = None
    link: str | None = None

    def to_dict(self, latest: str | None) -> dict[str, Any]:
        """As the API wants it; with no time beyond ``latest``, the time it is there (our clock may be ahead)."""
        ends = None if self.ends is None else _not_after(self.ends, latest)
        starts = _not_after(self.starts, latest if ends is None else ends)
        document: dict[str, Any] = {
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "startsAt": starts,
        }
        if ends is not None:
            document["endsAt"] = ends
        if self.link is not None:
            document["generatorURL"] = self.link
        return document


@dataclass(frozen=True, slots=True)
class Plan:
    """``alerts`` to send for some events; ``changes``: what is known of each incident (with the time of the event that
    said it) when they have been taken, an alert of None for one that is closed."""

    alerts: tuple[Alert, ...]
    changes: Mapping[str, tuple[Alert | None, int]]


class AlertBook:
    """The alerts that fire. :meth:`plan` changes nothing, so that what failed can be planned again."""

    def __init__(self, make: Callable[[Event], Alert]) -> None:
        self.make = make
        """Gives the alert of an event."""
        self._firing: dict[str, Alert] = {}
        self._told: OrderedDict[str, int] = OrderedDict()

    @property
    def firing(self) -> tuple[Alert, ...]:
        """What has to be sent again now and then."""
        return tuple(self._firing.values())

    def missing(self, events: Iterable[Event]) -> list[Event]:
        """Of ``events`` about open incidents those of before a restart, which this book knows nothing of."""
        return [event for event in events if str(event.body["id"]) not in self._told]

    def plan(self, events: Iterable[Event]) -> Plan:
        """What to send for ``events``, which come in order but for replayed ones, which may be overtaken."""
        alerts: list[Alert] = []
        changes: dict[str, tuple[Alert | None, int]] = {}
        for event in events:
            if event.kind is not EventKind.INCIDENT:
                alerts.append(self.make(event))
                continue
            incident = str(event.body["id"])
            before, told_ns = changes.get(incident) or (self._firing.get(incident), self._told.get(incident))
            if event.replayed and told_ns is not None and event.time_ns < told_ns:
                continue  # a later word on this incident went ahead of it
            alert = self.make(event)
            if before is not None and before.labels != alert.labels:
                alerts.append(replace(before, ends=rfc3339(event.time_ns)))
            alerts.append(alert)
            changes[incident] = (alert if alert.ends is None else None, event.time_ns)
        return Plan(_last_of_each(alerts), changes)

    def adopt(self, plan: Plan) -> None:
        """The alerts of ``plan`` have been taken."""
        for incident, (alert, time_ns) in plan.changes.items():
            self._told[incident] = time_ns
            self._told.move_to_end(incident)
            if alert is None:
                self._firing.pop(incident, None)
            else:
                self._firing[incident] = alert
        while len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def _last_of_each(alerts: Iterable[Alert]) -> tuple[Alert, ...]:
    """One request must not hold two states of an alert: which one wins would be chance."""
    latest: dict[frozenset[tuple[str, str]], Alert] = {}
    for alert in alerts:
        key = frozenset(alert.labels.items())
        latest.pop(key, None)
        latest[key] = alert
    return tuple(latest.values())


def _not_after(time: str, latest: str | None) -> str:
    return time if latest is None else min(time, latest)
