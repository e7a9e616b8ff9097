"""How dear an event is when room is short. Pure."""

from __future__ import annotations

from enum import IntEnum

from edge_agent.verdict import Event, EventKind, IncidentState


class Rank(IntEnum):
    """Under ``reduce`` the lowest rank goes first, in it the oldest."""

    SAMPLE = 0
    NEWS = 1
    ESSENTIAL = 2


def rank(event: Event) -> Rank:
    """Scores and readings are samples; an incident that opens or closes is essential; the rest is news."""
    if event.kind in (EventKind.SCORES, EventKind.READINGS):
        return Rank.SAMPLE
    if event.kind is EventKind.INCIDENT and event.body.get("state") != IncidentState.UPDATED:
        return Rank.ESSENTIAL
    return Rank.NEWS
