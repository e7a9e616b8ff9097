"""Contradictions in what sinks are to be told: circles, unknown sinks and areas, options without effect."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from edge_agent.config.document import Path
from edge_agent.contract import SinkOptions
from edge_agent.nearest import nearest
from edge_agent.notify import severity_rank
from edge_agent.verdict import EventKind

_ABOUT_INCIDENTS = ("severity", "areas", "sensors", "kinds", "suppressed", "escalate")
_EVERY_TICK = (EventKind.SCORES, EventKind.READINGS)


def routing_contradictions(sinks: Mapping[str, SinkOptions], areas: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Option path (below ``sinks``) and message of each contradiction. ``areas``: those that sensors are in."""
    for name, options in sinks.items():
        yield from _without_incidents(name, options)
        yield from _schedule(name, options)
        yield from _digest(name, options)
        for path, message in unknown_areas(options.areas, areas):
            yield (name, *path), message
        yield from _target(name, options, sinks)
    yield from _circles(sinks)
    yield from _never_told(sinks)


def _without_incidents(name: str, options: SinkOptions) -> Iterator[tuple[Path, str]]:
    if EventKind.INCIDENT in options.events:
        return
    for option in _ABOUT_INCIDENTS:
        if option in options.model_fields_set:
            events = ", ".join(options.events) or "nothing"
            yield (name, option), f"is about incidents, but `events` of this sink is {events}; add `incident` to it"


def _schedule(name: str, options: SinkOptions) -> Iterator[tuple[Path, str]]:
    if options.schedule and not {EventKind.INCIDENT, EventKind.STATUS} & set(options.events):
        yield (name, "schedule"), "holds nothing back here; expected `incident` or `status` in `events`"


def _digest(name: str, options: SinkOptions) -> Iterator[tuple[Path, str]]:
    if options.digest is None:
        if EventKind.DIGEST in options.events:
            yield (name, "events"), "got 'digest', but this sink has no digest; set `digest: {every: 1h}` instead"
        return
    for kind in options.events:
        if kind in _EVERY_TICK:
            yield (
                (name, "events"),
                f"got {kind.value!r}, which comes with every tick, but this sink has a digest; use another sink for it",
            )
    if not {EventKind.INCIDENT, EventKind.STATUS} & set(options.events):
        yield (name, "digest"), "has nothing to sum up; expected `incident` or `status` in `events`"


def unknown_areas(patterns: Sequence[str], known: Collection[str]) -> Iterator[tuple[Path, str]]:
    """Path (below the options of whoever names them) and message of each pattern that no area matches."""
    for index, pattern in enumerate(patterns):
        if not any(fnmatchcase(area, pattern) for area in known):
            listed = f"one of the areas {', '.join(sorted(known))}" if known else "an area, but no sensor has one"
            hint = nearest(pattern, sorted(known)) or "; `sensors.*.area` sets them"
            yield ("areas", index), f"got {pattern!r}, expected {listed}{hint}"


def _target(name: str, options: SinkOptions, sinks: Mapping[str, SinkOptions]) -> Iterator[tuple[Path, str]]:
    escalate = options.escalate
    if escalate is None:
        return
    path: Path = (name, "escalate", "to")
    if escalate.to not in sinks:
        others = [other for other in sinks if other != name]
        expected = f"one of the sinks {', '.join(others)}" if others else "another sink, but there is none"
        yield path, f"got {escalate.to!r}, expected {expected}{nearest(escalate.to, others)}"
    elif EventKind.INCIDENT not in sinks[escalate.to].events:
        yield path, f"got {escalate.to!r}, which is told no incidents; add `incident` to sinks.{escalate.to}.events"
    told_late = "severity" in escalate.model_fields_set and (
        severity_rank(escalate.severity) < severity_rank(options.severity)
    )
    if told_late:
        yield (
            (name, "escalate", "severity"),
            f"got {escalate.severity.value}, but this sink is only told of {options.severity.value} and worse",
        )


def _circles(sinks: Mapping[str, SinkOptions]) -> Iterator[tuple[Path, str]]:
    """Each circle once, at its first sink in the file."""
    done: set[str] = set()
    for start in sinks:
        chain: list[str] = []
        name: str | None = start
        while name is not None and name in sinks and name not in chain and name not in done:
            chain.append(name)
            escalate = sinks[name].escalate
            name = None if escalate is None else escalate.to
        if name in chain:
            circle = chain[chain.index(name) :]
            first = min(circle, key=list(sinks).index)
            turned = circle[circle.index(first) :] + circle[: circle.index(first)] + [first]
            yield (first, "escalate", "to"), f"escalates in a circle: {' -> '.join(turned)}; one of them has to be last"
        done.update(chain)


def _never_told(sinks: Mapping[str, SinkOptions]) -> Iterator[tuple[Path, str]]:
    targets = {options.escalate.to for options in sinks.values() if options.escalate is not None}
    for name, options in sinks.items():
        if EventKind.INCIDENT in options.events and not options.kinds and name not in targets:
            yield (
                (name, "kinds"),
                "is empty and no sink escalates to this one, so it is never told an incident; "
                f"name kinds, or set `escalate: {{after: 15m, to: {name}}}` at another sink",
            )
