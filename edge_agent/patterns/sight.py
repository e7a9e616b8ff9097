"""What is seen at one tick of an incident, in the words of patterns. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.patterns.words import Quantity, Sign


@dataclass(frozen=True, slots=True)
class Sight:
    """One sensor. ``since_tick``: since when it stands out or does this. ``command``: it says what an actuator is told.

    ``out``: it stands out, so it is part of the incident; others are seen because they are near. ``area``: None where
    the user said nothing of it. ``near``: names of its neighbours in the graph.
    """

    sensor: str
    signs: frozenset[Sign]
    since_tick: int
    out: bool = True
    command: bool = False
    quantity: Quantity = Quantity.OTHER
    area: str | None = None
    near: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Scene:
    """An incident at one tick. ``first``: name of the first mover. ``sights``: the worst sensors and those near them.

    ``lively``: for each area (None: no area), how many of its sensors usually move; against it shares are taken.
    """

    tick: int
    first: str
    sights: tuple[Sight, ...]
    lively: dict[str | None, int] = field(default_factory=dict)
