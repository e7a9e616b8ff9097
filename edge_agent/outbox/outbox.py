"""What one sink has still to get: new events in memory, late ones on the disk. Two lanes, in order each.

::

    offer → live lane (memory) → live(), delivered()
               │ gather(): waited for `spill_after`
               ▼
            unwritten (memory, bounded) ── write() → segments (disk, bounded)
               └───────────── replay lane: fetch(), delivered(), settle() ─────┘

Methods are of two kinds. Those that touch the disk block and may run in any thread, one at a time; the others never
wait and belong to one thread. An event leaves memory when it is delivered or durable, whichever comes first, so while
the sink is up nothing is written, and nothing is turned into bytes.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import orjson

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.contract import BufferOptions, WhenFull
from edge_agent.outbox.rank import rank
from edge_agent.outbox.record import Record
from edge_agent.outbox.store import SegmentStore
from edge_agent.verdict import Event, EventKind

_MANY = 1_000
"""Events waiting in the live lane that are a reason to write them before their time."""
_log = logging.getLogger("edge_agent.outbox")


@dataclass(slots=True, eq=False)
class Waiting:
    """An event that was not delivered yet. ``seq``: its sequence number in the replay lane, None in the live lane."""

    event: Event
    since_ns: int
    seq: int | None = None
    replay: bool = False


class Outbox:
    """The events of one sink, at least until they are delivered.

    ``dropped`` counts events that were given up, by reason: ``full``, ``expired``, ``damaged`` (as the store says),
    ``memory`` (the disk did not take them, and there were too many), ``unwritable`` (no JSON can be made of it).
    """

    def __init__(self, name: str, folder: Path, options: BufferOptions, clock: Clock) -> None:
        self.name = name
        self.options = options
        self.failing: str | None = None
        self._clock = clock
        self._store = SegmentStore(folder, options, clock)
        self._opened = False
        self._memory = threading.Lock()
        self._disk = threading.Lock()
        self._live: deque[Waiting] = deque()
        self._unwritten: deque[Record] = deque()
        self._unwritten_bytes = 0
        self._unwritten_since_ns = 0
        self._writing_seq = 0
        self._taken_seq = 0
        self._done: list[int] = []
        self._position = 0
        self._next_seq = 1
        self.turn = 0
        self._turn_read = 0
        self._dropped: Counter[str] = Counter()

    # -- what is there -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._live) + self.late

    @property
    def late(self) -> int:
        """Events in the replay lane."""
        return max(0, self._store.count + len(self._unwritten) - len(self._done))

    @property
    def size(self) -> int:
        """Bytes of the replay lane, on the disk and in memory."""
        return self._store.size + self._unwritten_bytes

    @property
    def dropped(self) -> Counter[str]:
        """Events given up so far, by reason."""
        return self._dropped + self._store.dropped

    @property
    def bytes_written(self) -> int:
        """Bytes written to the disk so far."""
        return self._store.bytes_written

    @property
    def must_write(self) -> bool:
        """There are events that should be on the disk and are not."""
        return bool(self._unwritten)

    @property
    def must_settle(self) -> bool:
        """Events of the replay lane were delivered, and the disk does not know."""
        return bool(self._done)

    @property
    def is_crowded(self) -> bool:
        """So many wait in memory that they should be gathered before their time."""
        return len(self._live) >= _MANY

    def age_s(self) -> float:
        """How long the oldest event has been waiting; 0 when there is none."""
        oldest_ns = [self._live[0].since_ns] if self._live else []
        if self._unwritten:
            oldest_ns.append(self._unwritten_since_ns)
        stored_ns = self._store.oldest_ns
        if stored_ns is not None:
            oldest_ns.append(stored_ns)
        return max(0, self._clock.monotonic_ns() - min(oldest_ns)) / NS_PER_S if oldest_ns else 0.0

    def due_ns(self) -> int | None:
        """When the live lane has to be gathered; None when it is empty."""
        return self._live[0].since_ns + round(self.options.spill_after * NS_PER_S) if self._live else None

    # -- memory ------------------------------------------------------------------------------------------------

    def use(self, options: BufferOptions) -> None:
        """Take other options from now on."""
        self.options = options
        self._store.use(options)

    def offer(self, event: Event) -> None:
        """Take an event into the live lane."""
        with self._memory:
            self._live.append(Waiting(event, self._clock.monotonic_ns()))

    def live(self, limit: int) -> list[Waiting]:
        """The oldest of the live lane; they stay in it until :meth:`delivered`."""
        with self._memory:
            return list(islice(self._live, limit))

    def delivered(self, items: Iterable[Waiting]) -> None:
        """These are done, be it that the sink has them or that it will never take them."""
        with self._memory:
            for item in items:
                if item.seq is None:
                    with suppress(ValueError):  # it may have been found to be unwritable meanwhile
                        self._live.remove(item)  # it is the first or nearly so
                    continue
                self._done.append(item.seq)
                if item.replay:
                    self._position = max(self._position, item.seq)

    def rewind(self) -> None:
        """The delivery failed: :meth:`fetch` gives again what was fetched and not delivered. Another ``turn``."""
        self.turn += 1

    def gather(self) -> None:
        """Move the live lane to the end of the replay lane, where :meth:`write` finds it."""
        with self._memory:
            if self._live and not self._unwritten:
                self._unwritten_since_ns = self._live[0].since_ns
            for item in self._live:
                record = self._record(item.event)
                if record is None:
                    self._dropped["unwritable"] += 1
                    continue
                item.seq = record.seq
                self._unwritten.append(record)
                self._unwritten_bytes += len(record.payload)
            self._live.clear()
            self._limit_memory()

    def forget(self) -> None:
        """Let the live lane go: nobody will ever take it."""
        with self._memory:
            self._live.clear()

    # -- disk --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find what the last run has left."""
        with self._disk:
            if self._opened:
                return
            self._opened = True
            self._store.open()
            with self._memory:
                self._next_seq = max(self._next_seq, self._store.next_seq)

    def write(self) -> bool:
        """Make durable what was gathered; False when the disk does not take it, which is logged once."""
        with self._disk:
            self._settle()
            with self._memory:
                records = list(self._unwritten)
                self._writing_seq = records[-1].seq if records else 0
            if not records:
                return True
            try:
                self._store.append(records)
                self._tell(None)
            except OSError as error:
                self._tell(error.strerror or str(error))
            with self._memory:
                self._writing_seq = 0
                while self._unwritten and self._unwritten[0].seq < self._store.next_seq:
                    self._unwritten_bytes -= len(self._unwritten.popleft().payload)
            return self.failing is None

    def fetch(self, limit: int, turn: int) -> list[Waiting]:
        """The next of the replay lane; only when nothing else is on its way to the sink.

        ``turn``: that of the moment at which it was asked for. Nobody waits any more for what an earlier one asked for.
        """
        with self._disk:
            self._settle()
            if turn != self.turn:
                return []
            if turn != self._turn_read:
                self._turn_read = turn
                self._taken_seq = 0
                self._store.rewind()
            records = self._store.read(limit)
            if not records:
                with self._memory:
                    records = list(islice((r for r in self._unwritten if r.seq > self._taken_seq), limit))
            if records:
                self._taken_seq = records[-1].seq
        return [item for record in records if (item := self._waiting(record)) is not None]

    def settle(self) -> None:
        """Let the disk know what was delivered; what is done with is removed."""
        with self._disk:
            self._settle()

    def close(self) -> None:
        """Make durable whatever was not delivered."""
        self.open()
        self.gather()
        self.write()
        with self._disk:
            self._store.close()

    # -- inside ------------------------------------------------------------------------------------------------

    def _record(self, event: Event) -> Record | None:
        try:
            payload = _to_json(event)
        except TypeError as error:
            _log.error("sink %s: event %s cannot be written down and is lost: %s", self.name, event.id, error)
            return None
        record = Record(self._next_seq, event.time_ns, rank(event), payload)
        self._next_seq += 1
        return record

    def _waiting(self, record: Record) -> Waiting | None:
        try:
            event = _from_json(record.payload)
        except (ValueError, KeyError, TypeError) as error:
            _log.error("sink %s: an event in the outbox is of another version and lost: %s", self.name, error)
            with self._memory:
                self._dropped["damaged"] += 1
                self._done.append(record.seq)
            return None
        return Waiting(event, self._clock.monotonic_ns(), record.seq, replay=True)

    def _settle(self) -> None:
        with self._memory:
            done, self._done = self._done, []
            if not done:
                return
            delivered = set(done)
            if self._unwritten and self._unwritten[0].seq <= max(delivered):
                self._keep_unwritten([record for record in self._unwritten if record.seq not in delivered])
        self._store.acknowledge(done, self._position)

    def _limit_memory(self) -> None:
        """Drop from what the disk does not take, but not from what is being written right now."""
        excess = self._unwritten_bytes - self.options.memory
        if excess <= 0:
            return
        free = [record for record in self._unwritten if record.seq > self._writing_seq]
        if self.options.when_full is WhenFull.DROP_NEWEST:
            free.reverse()
        elif self.options.when_full is WhenFull.REDUCE:
            free.sort(key=lambda record: (record.rank, record.seq))
        victims = set()
        for record in free:
            if excess <= 0:
                break
            excess -= len(record.payload)
            victims.add(record.seq)
        self._keep_unwritten([record for record in self._unwritten if record.seq not in victims])
        self._dropped["memory"] += len(victims)

    def _keep_unwritten(self, records: Iterable[Record]) -> None:
        self._unwritten = deque(records)
        self._unwritten_bytes = sum(len(record.payload) for record in self._unwritten)

    def _tell(self, failure: str | None) -> None:
        if failure is not None and self.failing is None:
            _log.error(
                "sink %s: its outbox cannot be written: %s; events are kept in memory (%d bytes) and tried again",
                self.name,
                failure,
                self.options.memory,
            )
        elif failure is None and self.failing is not None:
            _log.info("sink %s: its outbox can be written again", self.name)
        self.failing = failure


def _to_json(event: Event) -> bytes:
    body = {"id": event.id, "kind": event.kind.value, "time_ns": event.time_ns, "body": event.body}
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _from_json(payload: bytes) -> Event:
    found = orjson.loads(payload)
    return Event(found["id"], EventKind(found["kind"]), found["time_ns"], found["body"], replayed=True)
