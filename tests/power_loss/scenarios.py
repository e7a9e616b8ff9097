"""What a process does before its power is lost: ``python scenarios.py NAME ROOT``. Run under the recorder.

A line in the file ``notes`` says what may be relied on from then on: ``kept X`` (it is durable), ``gone X`` (the sink
has it, so it may be missing).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import BufferOptions
from edge_agent.history import StateFile
from edge_agent.history.store import EventRow, IncidentRow, RingStore
from edge_agent.outbox import Outbox
from edge_agent.verdict import Event, EventKind

T0 = 1_760_000_000 * NS_PER_S
OPTIONS = BufferOptions.model_validate({"max_bytes": "100kB"})


class Notes:
    def __init__(self, root: Path) -> None:
        self._descriptor = os.open(root / "notes", os.O_WRONLY | os.O_CREAT)

    def say(self, text: str) -> None:
        os.write(self._descriptor, f"{text}\n".encode())


def event(number: int) -> Event:
    body = {"state": "open", "summary": f"{number} " * (20 + number % 7 * 120)}
    return Event(f"E{number:04d}", EventKind.INCIDENT, T0 + number * NS_PER_S, body)


def outbox(root: Path) -> None:
    """Two runs of a daemon whose sink is down, then takes some, then is down again."""
    notes, number = Notes(root), 0
    for _ in range(2):
        clock = VirtualClock(T0 + number * NS_PER_S)
        box = Outbox("desk", root / "data" / "outbox" / "desk", OPTIONS, clock)
        box.open()
        for step in range(14):
            for _ in range(3):
                box.offer(event(number))
                number += 1
            box.gather()
            assert box.write()
            for kept in range(number - 3, number):
                notes.say(f"kept E{kept:04d}")
            clock.advance(2 * NS_PER_S)
            if step > 7:
                items = box.fetch(5, box.turn)
                for item in items:
                    notes.say(f"gone {item.event.id}")
                box.delivered(items)
                box.settle()
        box.close()


def history(root: Path) -> None:
    """Incidents and events, with checkpoints in between, an orderly stop, and another run."""
    notes, number = Notes(root), 0
    for _ in range(2):
        store = RingStore(root / "history.db", 1_000_000)
        for _ in range(6):
            rows = [
                IncidentRow(f"I{number}-{k}", number, number, k == 0, "open", b'"%s"' % (b"x" * 3_000))
                for k in range(2)
            ]
            store.write(rows, [EventRow(f"S{number}", number, b"{}")], None)
            notes.say(f"kept I{number}-0")
            notes.say(f"kept I{number}-1")
            notes.say(f"kept S{number}")
            number += 1
        store.close()


def state(root: Path) -> None:
    """A state that is replaced again and again."""
    notes, file = Notes(root), StateFile(root / "data" / "learned")
    for number in range(12):
        file.save(f"{number:03d}".encode() * 500)
        notes.say(f"kept {number:03d}")


if __name__ == "__main__":
    {"outbox": outbox, "history": history, "state": state}[sys.argv[1]](Path(sys.argv[2]))
