"""What happens, in words: one :class:`Happening` for everything worth a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from edge_agent.demo.board import Attacked, Board
from edge_agent.demo.tags import BY_NAME
from edge_agent.verdict import Contribution, Incident, IncidentState, PatternMatch


class Tone(StrEnum):
    """How a line is to be taken."""

    NOTE = "note"
    ATTACK = "attack"
    CALM = "calm"
    INCIDENT = "incident"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line for people (``head``, with more below it), and the same for machines (``event`` and ``body``)."""

    tone: Tone
    event: str
    head: str
    more: tuple[str, ...] = ()
    body: dict[str, Any] = field(default_factory=dict)


def note(event: str, text: str, **body: Any) -> Happening:
    """Something that is neither an attack nor an incident."""
    return Happening(Tone.NOTE, event, text, body=body)


def attack_started(message: dict[str, Any]) -> Happening:
    """The plant is attacked."""
    head = f"ATTACK {message['attack']}: {message['description']}"
    touched = f"touches {_listed(message['affected'])}"
    return Happening(Tone.ATTACK, "attack_started", head, (touched,), _without_event(message))


def attack_ended(message: dict[str, Any], attack: Attacked | None) -> Happening:
    """The attack is over; says whether it was found."""
    if attack is None or attack.found_tick is None:
        found, after_s = "no incident was opened while it acted", None
    else:
        after_s = attack.found_tick - attack.since_tick
        found = f"found after {after_s} s"
    head = f"ATTACK OVER {message['attack']}: {found}"
    return Happening(Tone.CALM, "attack_ended", head, body={**_without_event(message), "found_after_s": after_s})


def incident_changed(incident: Incident, board: Board) -> Happening | None:
    """An incident opened or closed; None for a mere update."""
    if incident.state is IncidentState.UPDATED:
        return None
    body = {"incident": {key: value for key, value in incident.to_dict().items() if key != "series"}}
    if incident.state is IncidentState.CLOSED:
        lasted_s = round((incident.updated_ns - incident.opened_ns) / 1e9)
        head = f"INCIDENT CLOSED {_short(incident)}, {lasted_s} s after it began"
        return Happening(Tone.CALM, "incident_closed", head, body=body)
    head = f"INCIDENT {_short(incident)} [{incident.severity}] {incident.summary}"
    return Happening(Tone.INCIDENT, "incident_opened", head, _explained(incident, board.attack), body)


def _explained(incident: Incident, attack: Attacked | None) -> tuple[str, ...]:
    lines = [_part(part) for part in incident.contributions[:4]]
    if incident.broken_edges:
        edges = [f"{edge.neighbour}→{edge.sensor}" for edge in incident.broken_edges[:5]]
        lines.append(f"no longer fit together: {', '.join(edges)}")
    lines += [_likeness(match) for match in incident.patterns[:1]]
    if attack is not None:
        named = {part.sensor for part in incident.contributions}
        hit = [name for name in attack.affected if name in named]
        if hit:
            lines.append(f"names what {attack.name} touches: {_listed(hit)}")
    return tuple(lines)


def _part(part: Contribution) -> str:
    tag = BY_NAME.get(part.sensor)
    what = f" ({tag.description})" if tag is not None else ""
    return f"{part.share:4.0%} {part.sensor}{what}: {part.reason}"


def _likeness(match: PatternMatch) -> str:
    techniques = f" [{', '.join(match.techniques)}]" if match.techniques else ""
    return f"looks like: {match.title}{techniques} ({match.confidence:.0%})"


def _short(incident: Incident) -> str:
    return incident.id[-6:]


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:6])} and {len(names) - 6} more"


def _without_event(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != "event"}
