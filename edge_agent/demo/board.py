"""What is known while the demo runs: last tick, open incidents, running attack, and how fast it was found."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from edge_agent.pipeline.engine import TickReport
from edge_agent.verdict import Incident, IncidentState

_KEPT = 120


@dataclass(slots=True)
class Attacked:
    """A running attack as the plant tells it; ``found_tick`` is when the first incident opened."""

    name: str
    description: str
    affected: tuple[str, ...]
    since_tick: int
    found_tick: int | None = None


@dataclass(slots=True)
class Board:
    """Collects tick reports and messages of the plant. Ticks count from going live; one is a second of the plant."""

    ticks: int = 0
    report: TickReport | None = None
    p_values: deque[float | None] = field(default_factory=lambda: deque(maxlen=_KEPT))
    attack: Attacked | None = None
    open: dict[str, Incident] = field(default_factory=dict)
    recent: deque[Incident] = field(default_factory=lambda: deque(maxlen=5))
    found: int = 0
    attacks: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, report: TickReport) -> None:
        """Take in one tick."""
        self.ticks += 1
        self.report = report
        self.p_values.append(report.decision.p_value)
        for incident in report.decision.changed:
            self._note(incident)
        self._changed.set()
        self._changed = asyncio.Event()

    def attack_started(self, message: dict[str, Any]) -> None:
        """The plant tells that an attack acts."""
        self.attacks += 1
        self.attack = Attacked(message["attack"], message["description"], tuple(message["affected"]), self.ticks)

    def attack_ended(self) -> Attacked | None:
        """The plant tells that it is over; gives what is known about it."""
        ended, self.attack = self.attack, None
        return ended

    async def next_tick(self) -> None:
        """Return after the next tick."""
        await self._changed.wait()

    async def pass_ticks(self, count: int) -> None:
        """Return ``count`` ticks from now."""
        until = self.ticks + count
        while self.ticks < until:
            await self.next_tick()

    def _note(self, incident: Incident) -> None:
        if incident.state is IncidentState.CLOSED:
            self.open.pop(incident.id, None)
        else:
            if incident.id not in self.open and self.attack is not None and self.attack.found_tick is None:
                self.attack.found_tick = self.ticks
                self.found += 1
            self.open[incident.id] = incident
        known = [old for old in self.recent if old.id != incident.id]
        self.recent.clear()
        self.recent.extend([*known, incident])
