"""One file of the outbox: written once, from front to back, then only read, thinned or removed. Blocking."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.durable import sync_folder, write_durably
from edge_agent.outbox.record import Place, Record, places

_MAGIC = b"EDGEOUT1"
SUFFIX = ".events"
REWRITTEN = ".new"


@dataclass
class Segment:
    """What is known of one file without reading it again.

    ``count``: undelivered events; ``ranks``: events in the file by rank; ``done``: sequence numbers of those delivered.
    ``oldest_ns``, ``newest_ns``: monotonic times at which its first and last event were written, ``*_wall_ns``: wall
    times of these events. ``missing``: events that damage has taken. ``torn``: it ends in what is no event.
    """

    path: Path
    first_seq: int
    last_seq: int
    size: int = 0
    count: int = 0
    ranks: Counter[int] = field(default_factory=Counter)
    done: set[int] = field(default_factory=set)
    oldest_ns: int = 0
    newest_ns: int = 0
    oldest_wall_ns: int = 0
    newest_wall_ns: int = 0
    missing: int = 0
    torn: bool = False

    def finish(self, seq: int) -> None:
        """The event ``seq`` is done."""
        if self.first_seq <= seq <= self.last_seq and seq not in self.done:
            self.done.add(seq)
            self.count -= 1

    def read(self) -> tuple[bytes, list[Place]]:
        """The content and where its undelivered records are. :raises OSError: cannot be read."""
        with self.path.open("rb") as file:
            content = file.read(self.size)
        return content, [place for place in places(content, len(_MAGIC)) if place.seq not in self.done]

    def thin(self, above: int) -> int:
        """Remove events up to rank ``above``, and what is done; durable on return. Gives the bytes written."""
        content, found = self.read()
        kept = [place for place in found if place.rank > above]
        parts = [_MAGIC, *(content[place.start : place.end] for place in kept)]
        new = b"".join(parts)
        temporary = self.path.with_name(self.path.name + REWRITTEN)
        try:
            write_durably(temporary, new)
            temporary.replace(self.path)
            sync_folder(self.path.parent)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self.size = len(new)
        self.count = len(kept)
        self.ranks = Counter(place.rank for place in kept)
        self.done.clear()
        return len(new)


def name_of(first_seq: int) -> str:
    """File name; sorted by name, segments are in order."""
    return f"{first_seq:020d}{SUFFIX}"


def scan(path: Path, after_seq: int, size: int) -> Segment | None:
    """A segment as it is found at the start, events up to ``after_seq`` being done; None when no event is in it.

    A record that was cut off at the end is what power loss leaves, and passed over. Times are left at 0.
    :raises OSError: cannot be read.
    """
    segment = Segment(path, 0, 0, size)
    content, found = segment.read()
    if not found:
        return None
    segment.missing = _missing(content, found)
    segment.first_seq, segment.last_seq = found[0].seq, found[-1].seq
    segment.oldest_wall_ns, segment.newest_wall_ns = found[0].time_ns, found[-1].time_ns
    segment.torn = found[-1].end != len(content)
    segment.ranks = Counter(place.rank for place in found)
    segment.done = {place.seq for place in found if place.seq <= after_seq}
    segment.count = len(found) - len(segment.done)
    return segment


def _missing(content: bytes, found: Sequence[Place]) -> int:
    """Events that were where no record can be found any more, as their sequence numbers tell; at least one a place."""
    missing, end, seq = 0, len(_MAGIC), found[0].seq - 2
    for place in found:
        if place.start != end:
            missing += max(1, place.seq - seq - 1)
        end, seq = place.end, place.seq
    return missing


class Writer:
    """Appends to one new segment. After a failure it is of no more use: go on with another one."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._descriptor = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self._new = True

    def append(self, records: Sequence[tuple[Record, bytes]], now_ns: int) -> int:
        """Write records, given with their bytes, in one piece; durable on return. Gives the bytes written.

        :raises OSError: they are not durable, and nothing more can be appended.
        """
        segment, new = self.segment, self.segment.size == 0
        blob = (_MAGIC if new else b"") + b"".join(encoded for _, encoded in records)
        first, last = records[0][0], records[-1][0]
        _write_all(self._descriptor, blob)
        os.fdatasync(self._descriptor)
        if new:
            sync_folder(segment.path.parent)
            segment.oldest_ns, segment.oldest_wall_ns = now_ns, first.time_ns
        segment.size += len(blob)
        segment.last_seq = last.seq
        segment.newest_ns, segment.newest_wall_ns = now_ns, last.time_ns
        segment.count += len(records)
        segment.ranks.update(record.rank for record, _ in records)
        return len(blob)

    def give_up(self) -> None:
        """After a failure: what was not written in full is taken back, as far as the disk allows."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.segment.size)
        if self.segment.size == 0:
            with suppress(OSError):
                self.segment.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):  # it was synced before
            os.close(self._descriptor)


def _write_all(descriptor: int, blob: bytes) -> None:
    view = memoryview(blob)
    while view:
        view = view[os.write(descriptor, view) :]
