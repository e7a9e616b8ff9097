"""Who is told what and when: events in, events for sinks out. Pure; time comes in as an argument.

event -> choice (severity, area, sensor, kind, suppressed) -> digest | at once (by its schedule) -> sink
                                                open, not acknowledged -> escalation -> other sink
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from edge_agent.clock import NS_PER_S
from edge_agent.contract import DigestOptions, SinkOptions
from edge_agent.metrics import Metrics
from edge_agent.notify.choice import HeldBack, held_back, reaches, within_schedule
from edge_agent.notify.digest import Digest, digest_entry, period_ns
from edge_agent.notify.moment import Moment
from edge_agent.notify.watch import Knowledge, Watched, without_plots
from edge_agent.verdict import Event, EventKind, IncidentState, rfc3339

_MOST_WATCHED = 1_000


@dataclass(frozen=True, slots=True)
class Dispatch:
    """``event`` is for the sink ``sink``."""

    sink: str
    event: Event


class Router:
    """Decides which sink is told of an event, now, in a digest, or when nobody has acknowledged an incident in time.

    At most 1,000 open incidents are watched, without their series for plotting, which are told at the change itself
    only; beyond it the oldest are forgotten, and told as new when they change.
    ``derive_id`` makes a unique id from a wall time in ns and a text, always the same for the same: an event that is
    made again after a power loss has the id it had before, and the receiver sees that it is a repetition.
    ``changes`` grows with every change of what :meth:`state` gives.
    """

    def __init__(
        self, sinks: Mapping[str, SinkOptions], metrics: Metrics, derive_id: Callable[[int, str], str], now: Moment
    ) -> None:
        self.changes = 0
        self._metrics = metrics
        self._derive_id = derive_id
        self._sinks: Mapping[str, SinkOptions] = {}
        self._watched: dict[str, Watched] = {}
        self._digests: dict[str, Digest] = {}
        self._last_digests: list[Dispatch] = []
        self._awake: dict[str, bool] = {}
        self.configure(sinks, now)

    @property
    def watched(self) -> dict[str, Mapping[str, Any]]:
        """The incidents that are watched, by id, as they were told last."""
        return {incident_id: watched.event.body for incident_id, watched in self._watched.items()}

    def told(self, sink: str) -> list[Event]:
        """Open incidents that ``sink`` was told in events of their own, each by the latest event about it."""
        return [one.event for one in self._watched.values() if sink in one.known and one.known[sink].told]

    # -- in and out --------------------------------------------------------------------------------------------

    def route(self, event: Event, now: Moment) -> list[Dispatch]:
        """What sinks are told because of ``event``."""
        if event.kind is EventKind.INCIDENT:
            out = self._route_incident(event, now)
        else:
            out = [one for name in self._sinks for one in self._pass(name, event, now)]
        return self._counted(out)

    def due(self, now: Moment) -> list[Dispatch]:
        """What sinks are told because time has passed: schedules, escalations, digests."""
        out, self._last_digests = self._last_digests, []
        for name, options in self._sinks.items():
            if options.schedule:
                out += self._wake(name, options, now)
        for watched in self._watched.values():
            out += self._escalate(watched, now)
        for name, digest in self._digests.items():
            options = self._sinks[name]
            due = options.digest is not None and digest.is_due(options.digest, now)
            if options.digest is not None and due and within_schedule(options, now.wall_ns):
                out += self._end_digest(name, options.digest, now)
        return self._counted(out)

    def configure(self, sinks: Mapping[str, SinkOptions], now: Moment) -> None:
        """Go on with these sinks. What was told stays told; what waits in a digest that is no more is told next."""
        self._sinks = dict(sinks)
        for name in list(self._digests):
            if name not in sinks or sinks[name].digest is None:
                self._last_digests += self._summary(name, now) if name in sinks else []
                del self._digests[name]
        for name, options in sinks.items():
            if options.digest is not None:
                self._digests.setdefault(name, Digest.begin(options.digest, now)).follow(options.digest, now)
        for watched in self._watched.values():
            watched.known = {name: known for name, known in watched.known.items() if name in sinks}
            for name, known in watched.known.items():
                if sinks[name].escalate is None:
                    known.due_ns = None
        self.changes += 1

    def forget(self, incident_id: str) -> None:
        """Watch an incident no more, without telling anybody."""
        if self._watched.pop(incident_id, None) is not None:
            self.changes += 1

    def describe(self, sink: str, now: Moment) -> dict[str, Any]:
        """What ``sink`` knows and waits for, ready for JSON; times as RFC 3339 UTC text."""
        known = [one.known[sink] for one in self._watched.values() if sink in one.known]
        due = min((one.due_ns for one in known if one.due_ns is not None), default=None)
        digest, options = self._digests.get(sink), self._sinks[sink].digest if sink in self._sinks else None
        return {
            "incidents": len(known),
            "escalation": None if due is None else rfc3339(now.wall_at(due)),
            "digest": None if digest is None or options is None else rfc3339(digest.due_wall_ns(options, now)),
            "in_digest": 0 if digest is None else len(digest.incidents) + digest.more,
        }

    # -- over a restart ----------------------------------------------------------------------------------------

    def state(self, now: Moment) -> dict[str, Any]:
        """All that is needed to go on after a restart, ready for JSON."""
        digests = {
            name: {
                "began": one.began_ns,
                "due": None if one.due_ns is None else now.wall_at(one.due_ns),
                "incidents": one.incidents,
                "more": one.more,
                "statuses": one.statuses,
                "messages": one.messages,
            }
            for name, one in self._digests.items()
        }
        return {"incidents": [one.to_dict(now) for one in self._watched.values()], "digests": digests}

    def restore(self, saved: Mapping[str, Any], now: Moment) -> None:
        """Go on from what :meth:`state` gave. :raises KeyError, TypeError, ValueError: it did not; nothing changed."""
        longest_ns = {
            name: round(options.escalate.after * NS_PER_S)
            for name, options in self._sinks.items()
            if options.escalate is not None
        }
        watched = [Watched.from_dict(one, now, longest_ns) for one in saved["incidents"]]
        digests = {
            name: Digest(
                int(one["began"]),
                None if one["due"] is None else now.monotonic_at(int(one["due"]), self._period_ns(name)),
                dict(one["incidents"]),
                int(one["more"]),
                dict(one["statuses"]),
                list(one["messages"]),
            )
            for name, one in saved["digests"].items()
        }
        self._watched = {str(one.event.body["id"]): one for one in watched}
        self._digests = {**self._digests, **digests}
        self.configure(self._sinks, now)

    def _period_ns(self, name: str) -> int:
        options = self._sinks.get(name)
        return 0 if options is None or options.digest is None else period_ns(options.digest)

    # -- one event ---------------------------------------------------------------------------------------------

    def _pass(self, name: str, event: Event, now: Moment) -> list[Dispatch]:
        options = self._sinks[name]
        if event.kind not in options.events:
            return []
        if event.kind is EventKind.STATUS and name in self._digests:
            self._digests[name].add_status(event.body)
            self._hold(name, HeldBack.DIGEST)
            self.changes += 1
            return []
        if event.kind is EventKind.STATUS and not within_schedule(options, now.wall_ns):
            self._hold(name, HeldBack.SCHEDULE)
            return []
        return [Dispatch(name, event)]

    def _route_incident(self, event: Event, now: Moment) -> list[Dispatch]:
        incident_id = str(event.body["id"])
        watched = self._watched.setdefault(incident_id, Watched(event))
        watched.event = event
        out = [one for name in self._sinks for one in self._tell(name, watched, now)]
        watched.event = without_plots(event)
        if event.body["state"] == IncidentState.CLOSED:
            del self._watched[incident_id]
        elif len(self._watched) > _MOST_WATCHED:
            del self._watched[next(iter(self._watched))]
        self.changes += 1
        return out

    def _tell(self, name: str, watched: Watched, now: Moment) -> list[Dispatch]:
        options, event = self._sinks[name], watched.event
        if EventKind.INCIDENT not in options.events:
            return []
        known = watched.known.get(name)
        reason = held_back(options, event.body) if known is None else _update_held_back(options, event.body)
        if reason is None and options.digest is not None:
            known = watched.known.setdefault(name, Knowledge(event.time_ns))
            self._digests[name].add_incident(event.body)
            self._arm(options, known, event.body, now)
            reason = None if known.told or _at_once(options, event.body) else HeldBack.DIGEST
        ends = known is not None and known.told and event.body["state"] == IncidentState.CLOSED
        if reason is None and not ends and not within_schedule(options, now.wall_ns):
            reason = HeldBack.SCHEDULE
        if reason is not None:
            self._hold(name, reason)
            return []
        known = watched.known.setdefault(name, Knowledge(event.time_ns))
        self._arm(options, known, event.body, now)
        return self._news(name, known, event)

    def _wake(self, name: str, options: SinkOptions, now: Moment) -> list[Dispatch]:
        """When a time of the sink's schedule begins: the open incidents that it would have been told meanwhile."""
        awake = within_schedule(options, now.wall_ns)
        begins, self._awake[name] = awake and not self._awake.get(name, False), awake
        if not begins or EventKind.INCIDENT not in options.events:
            return []
        missed = (one for one in self._watched.values() if name not in one.known or not one.known[name].told)
        return [
            told
            for watched in missed
            if held_back(options, watched.event.body) is None and _at_once(options, watched.event.body)
            for told in self._tell(name, watched, now)
        ]

    def _news(self, name: str, known: Knowledge, event: Event) -> list[Dispatch]:
        """``event`` as the sink is to have it; what begins for the sink begins with `open`."""
        began, known.told = not known.told, True
        flags = _escalation_flags(known)
        if not began or event.body["state"] == IncidentState.OPEN:
            return [Dispatch(name, self._rewritten(name, event, flags) if flags else event)]
        opened = Dispatch(name, self._rewritten(name, event, {**flags, "state": IncidentState.OPEN.value}))
        return [opened, Dispatch(name, event)] if event.body["state"] == IncidentState.CLOSED else [opened]

    def _rewritten(self, name: str, event: Event, changes: Mapping[str, Any]) -> Event:
        body = {**event.body, **changes}
        return replace(event, id=self._derive_id(event.time_ns, f"{event.id} {body['state']} {name}"), body=body)

    # -- escalation --------------------------------------------------------------------------------------------

    def _arm(self, options: SinkOptions, known: Knowledge, incident: Mapping[str, Any], now: Moment) -> None:
        """Begin to wait for an acknowledgement, or stop waiting."""
        escalate = options.escalate
        if incident["acknowledged"] is not None:
            known.due_ns = None
            return
        waits = known.due_ns is not None or known.passed_on
        if escalate is not None and not waits and reaches(incident, escalate.severity):
            known.due_ns = now.monotonic_ns + round(escalate.after * NS_PER_S)

    def _escalate(self, watched: Watched, now: Moment) -> list[Dispatch]:
        out: list[Dispatch] = []
        for name, known in list(watched.known.items()):
            options = self._sinks[name]
            if known.due_ns is None or options.escalate is None or now.monotonic_ns < known.due_ns:
                continue
            if watched.event.body["suppressed"] is not None and not options.suppressed:
                continue  # nobody is to be disturbed now; it is escalated when that is over
            known.due_ns, known.passed_on = None, True
            out.append(self._pass_on(watched, name, options.escalate.to, now))
        return out

    def _pass_on(self, watched: Watched, sink: str, to: str, now: Moment) -> Dispatch:
        event = watched.event
        other = watched.known.setdefault(to, Knowledge(now.wall_ns))
        state = IncidentState.UPDATED if other.told else IncidentState.OPEN
        other.told, other.escalated_from, other.unheard_ns = True, sink, watched.known[sink].since_ns
        self._arm(self._sinks[to], other, event.body, now)
        self._metrics.escalations.labels(sink, to).inc()
        self.changes += 1
        body = {**event.body, **_escalation_flags(other), "state": state.value}
        event_id = self._derive_id(other.unheard_ns, f"{event.body['id']} escalated from {sink} to {to}")
        return Dispatch(to, Event(event_id, EventKind.INCIDENT, now.wall_ns, body))

    # -- digest ------------------------------------------------------------------------------------------------

    def _end_digest(self, name: str, options: DigestOptions, now: Moment) -> list[Dispatch]:
        out = self._summary(name, now, empty=options.empty)
        self._digests[name] = Digest.begin(options, now)
        self.changes += 1
        return out

    def _summary(self, name: str, now: Moment, *, empty: bool = False) -> list[Dispatch]:
        digest = self._digests[name]
        if digest.empty and not empty:
            return []
        still_open = [digest_entry(one.event.body) for one in self._watched.values() if name in one.known]
        body = digest.body(now.wall_ns, still_open)
        self._metrics.digests.labels(name).inc()
        event_id = self._derive_id(digest.began_ns, f"digest for {name}")
        return [Dispatch(name, Event(event_id, EventKind.DIGEST, now.wall_ns, body))]

    # -- counting ----------------------------------------------------------------------------------------------

    def _hold(self, name: str, reason: HeldBack) -> None:
        self._metrics.events_held_back.labels(name, reason.value).inc()

    def _counted(self, out: list[Dispatch]) -> list[Dispatch]:
        for one in out:
            self._metrics.events_routed.labels(one.sink).inc()
        return out


def _at_once(options: SinkOptions, incident: Mapping[str, Any]) -> bool:
    return options.digest is None or reaches(incident, options.digest.at_once)


def _update_held_back(options: SinkOptions, incident: Mapping[str, Any]) -> HeldBack | None:
    """Why a sink that knows of ``incident`` is not told what is new; its end is always told."""
    if incident["state"] == IncidentState.CLOSED:
        return None
    if incident["suppressed"] is not None and not options.suppressed:
        return HeldBack.SUPPRESSED
    return None


def _escalation_flags(known: Knowledge) -> dict[str, Any]:
    if known.escalated_from is None or known.unheard_ns is None:
        return {}
    since = rfc3339(known.unheard_ns)
    return {"escalated": True, "escalated_from": known.escalated_from, "unacknowledged_since": since}
