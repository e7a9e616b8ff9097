"""An outbox on a clock that the test moves, and events to put into it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import BufferOptions
from edge_agent.outbox import Outbox, Waiting
from edge_agent.outbox.record import Record
from edge_agent.verdict import Event, EventKind

T0 = 1_760_000_000 * NS_PER_S


def buffer(**options: Any) -> BufferOptions:
    return BufferOptions.model_validate(options)


def event(number: int, kind: str = "open", size: int = 0, time_ns: int = T0) -> Event:
    """``kind``: a kind of event, or the state of an incident."""
    known = kind in EventKind.__members__.values()
    body = {"state": kind} if not known else {}
    return Event(
        f"E{number:06d}",
        EventKind(kind) if known else EventKind.INCIDENT,
        time_ns,
        {**body, "x": random.Random(number).randbytes(size // 2).hex()},
    )


def record(seq: int, size: int = 20, rank: int = 2, time_ns: int = T0) -> Record:
    """A record that cannot be packed."""
    return Record(seq, time_ns, rank, random.Random(seq).randbytes(size))


class Box:
    """An outbox that can be closed, killed and opened again."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder / "desk"
        self.clock = VirtualClock(T0)
        self.options = buffer(**options)
        self.outbox = self.again()

    def again(self) -> Outbox:
        """The next run's; the last one is left as it is, as by a crash."""
        self.outbox = Outbox("desk", self.folder, self.options, self.clock)
        self.outbox.open()
        return self.outbox

    def keep(self, *events: Event) -> bool:
        for one in events:
            self.outbox.offer(one)
        self.outbox.gather()
        return self.outbox.write()

    def late(self, limit: int = 100_000) -> list[str]:
        return [item.event.id for item in self.fetch(limit)]

    def fetch(self, limit: int) -> list[Waiting]:
        return self.outbox.fetch(limit, self.outbox.turn)

    def take(self, limit: int = 100_000) -> list[Waiting]:
        """Fetch and deliver."""
        items = self.fetch(limit)
        self.outbox.delivered(items)
        self.outbox.settle()
        return items

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []
