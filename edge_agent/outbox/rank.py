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
    """Scores and readings are samples; an incident that opens, closes or is escalated, and a digest, which stands for
    many, are essential; the rest is news."""
    if event.kind in (EventKind.SCORES, EventKind.READINGS):
        return Rank.SAMPLE
    if event.kind is EventKind.DIGEST:
        return Rank.ESSENTIAL
    if event.kind is EventKind.INCIDENT:
        updated = event.body.get("state") == IncidentState.UPDATED and not event.body.get("escalated")
        return Rank.NEWS if updated else Rank.ESSENTIAL
    return Rank.NEWS
