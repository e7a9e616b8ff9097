"""Events of one sink on the disk: first in, first out, bounded, in checksummed segments. Blocking; one call at a time.

While the sink is up there is no file at all but that of the position, and nothing is written. A segment is written from
front to back and never again once it has been read from; it is removed when all of its events are done. After a start
sequence numbers go on with a gap, and in a new segment, so that whatever power loss has left of the last one cannot be
confused with anything written later.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from errno import ENOSPC
from itertools import pairwise
from pathlib import Path

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.contract import BufferOptions, WhenFull
from edge_agent.durable import make_folder, quarantine
from edge_agent.outbox.age import monotonic_of, within
from edge_agent.outbox.position import Position
from edge_agent.outbox.rank import Rank
from edge_agent.outbox.record import Place, Record, encode
from edge_agent.outbox.segment import REWRITTEN, SUFFIX, Segment, Writer, name_of, scan

_EPOCH_BITS = 20
_LARGEST_SEGMENT = 512_000
_PARTS = 16
_SYNC_EVERY_NS = 5 * NS_PER_S
_RESERVE = 32_000_000
"""Bytes of the disk that are left to others."""
_NOTHING = -1  # below every rank
_log = logging.getLogger("edge_agent.outbox")

_Encoded = list[tuple[Record, bytes]]


class SegmentStore:
    """The outbox of one sink in ``folder``.

    ``dropped`` counts events given up by reason: ``full``, ``expired``, ``damaged``. Everything that returns without
    :class:`OSError` from :meth:`append` is durable; acknowledgements are durable within seconds.
    """

    def __init__(self, folder: Path, options: BufferOptions, clock: Clock) -> None:
        self.dropped: Counter[str] = Counter()
        self.bytes_written = 0
        self.next_seq = 1
        self._folder = folder
        self._clock = clock
        self._segments: list[Segment] = []
        self._writer: Writer | None = None
        self._position = Position(folder / "position")
        self._synced_ns = 0
        self._read_seq = 0
        self._reading: Segment | None = None
        self._content = b""
        self._places: deque[Place] = deque()
        self.use(options)

    def use(self, options: BufferOptions) -> None:
        """Take other limits from now on."""
        self._options = options
        self._segment_bytes = min(_LARGEST_SEGMENT, options.max_bytes // _PARTS)

    @property
    def count(self) -> int:
        """Undelivered events."""
        return sum(segment.count for segment in self._segments)

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def oldest_ns(self) -> int | None:
        """Monotonic time from which the oldest segment is."""
        return next((segment.oldest_ns for segment in self._segments if segment.count), None)

    def open(self) -> None:
        """Find what an earlier run has left. Damage is told, counted and survived."""
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            _log.error("%s: cannot be read: %s; going on without what is in it", self._folder, error)
            return
        done_seq = self._position.load()
        for name in names:
            path = self._folder / name
            if name.endswith(REWRITTEN):
                with suppress(OSError):
                    path.unlink()
            elif name.endswith(SUFFIX):
                done_seq = max(done_seq, self._find(path, done_seq))
        self.next_seq = ((done_seq >> _EPOCH_BITS) + 1) << _EPOCH_BITS
        self._tell_damage()
        self._remove_finished()

    def append(self, records: Sequence[Record]) -> None:
        """Keep ``records`` behind all others; durable on return. What there is no room for is dropped and counted.

        :raises OSError: those from :attr:`next_seq` on are not kept; try again later.
        """
        make_folder(self._folder)
        self.expire()
        for part in self._parts([(record, encode(record)) for record in records]):
            kept = self._admit(part)
            self._count("full", len(part) - len(kept))
            if kept:
                self._write(kept)
            self.next_seq = part[-1][0].seq + 1

    def read(self, limit: int) -> list[Record]:
        """The next ``limit`` undelivered events after those read before, oldest first; fewer at the end."""
        self.expire()
        found: list[Record] = []
        while len(found) < limit:
            if self._places:
                record = self._next()
                if record is not None:
                    found.append(record)
            elif not self._turn_page():
                break
        self._remove_finished()
        return found

    def rewind(self) -> None:
        """Read from the first undelivered event again."""
        self._read_seq, self._reading, self._content = 0, None, b""
        self._places.clear()

    def acknowledge(self, seqs: Sequence[int], position: int) -> None:
        """``seqs`` are done, and so is everything up to ``position``; files that are done with go."""
        starts = [segment.first_seq for segment in self._segments]
        for seq in seqs:
            index = bisect_right(starts, seq) - 1
            if index >= 0:
                self._segments[index].finish(seq)
        now_ns = self._clock.monotonic_ns()
        self._done_up_to(position, durably=now_ns - self._synced_ns > _SYNC_EVERY_NS)
        self._remove_finished()

    def expire(self) -> None:
        """Give up segments of which every event is older than ``max_age``."""
        now_ns = self._clock.monotonic_ns()
        for segment in self._segments[:]:
            if within(now_ns - segment.newest_ns, self._options.max_age):
                break
            self._drop(segment, "expired")

    def close(self) -> None:
        """Make it durable what is done, and let go of all files."""
        self._seal()
        with suppress(OSError):  # else some events come again
            for segment in self._segments:
                if any(seq > self._position.value for seq in segment.done):  # done out of order
                    self.bytes_written += segment.thin(_NOTHING)
            self._position.close()

    # -- start -------------------------------------------------------------------------------------------------

    def _find(self, path: Path, done_seq: int) -> int:
        """Take in one file; the highest sequence number in it."""
        try:
            segment = scan(path, done_seq, path.stat().st_size)
        except OSError as error:
            self._count("damaged", self._put_aside(path, f"cannot be read: {error.strerror or error}"))
            return 0
        if segment is None:
            self._count("damaged", self._put_aside(path, "no complete event in it"))
            return 0
        wall_ns, now_ns = self._clock.wall_ns(), self._clock.monotonic_ns()
        segment.newest_ns = monotonic_of(segment.newest_wall_ns, wall_ns, now_ns)
        segment.oldest_ns = min(segment.newest_ns, monotonic_of(segment.oldest_wall_ns, wall_ns, now_ns))
        self._segments.append(segment)
        return segment.last_seq

    def _tell_damage(self) -> None:
        for segment, following in pairwise(self._segments):
            # Torn though something was written after it in the same run: not by power loss, then.
            if segment.torn and _epoch(following.first_seq) == _epoch(segment.last_seq):
                segment.missing += max(1, following.first_seq - segment.last_seq - 1)
        for segment in self._segments:
            if segment.missing:
                self.dropped["damaged"] += segment.missing
                self._tell_missing(segment)
            elif segment.torn:
                _log.info("%s: its end was cut off while it was written, and is passed over", segment.path)

    def _tell_missing(self, segment: Segment) -> None:
        _log.error(
            "%s: damaged, %d events in it are lost; the other %d are delivered, then it is put aside",
            segment.path,
            segment.missing,
            segment.count,
        )

    def _put_aside(self, path: Path, why: str) -> bool:
        """False when nothing was lost with it."""
        with suppress(OSError):
            if path.stat().st_size <= 8:  # power was lost before the first event was in it
                path.unlink()
                return False
            quarantine(path, why, self._clock.wall_ns(), name="segment")
        return True

    # -- writing -----------------------------------------------------------------------------------------------

    def _parts(self, records: _Encoded) -> Iterator[_Encoded]:
        """In pieces that fit a segment each, unless a single event does not."""
        part: _Encoded = []
        for record, encoded in records:
            if part and _size(part) + len(encoded) > self._segment_bytes:
                yield part
                part = []
            part.append((record, encoded))
        if part:
            yield part

    def _write(self, records: _Encoded) -> None:
        now_ns = self._clock.monotonic_ns()
        writer = self._writer_for(records[0][0].seq, _size(records), now_ns)
        try:
            self.bytes_written += writer.append(records, now_ns)
        except OSError:
            self._writer = None
            if writer.segment.size == 0:
                self._segments.remove(writer.segment)
            writer.give_up()
            raise

    def _writer_for(self, seq: int, size: int, now_ns: int) -> Writer:
        """The segment being written, or a new one when it is full, or has been written to for long."""
        if self._writer is not None:
            segment = self._writer.segment
            young = within((now_ns - segment.oldest_ns) * _PARTS, self._options.max_age)
            if segment.size + size <= self._segment_bytes and young:
                return self._writer
            self._seal()
        _check_free(self._folder)
        self._writer = Writer(Segment(self._folder / name_of(seq), seq, seq, oldest_ns=now_ns, newest_ns=now_ns))
        self._segments.append(self._writer.segment)
        return self._writer

    def _seal(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _admit(self, records: _Encoded) -> _Encoded:
        """Make room as the policy says; those of ``records`` that may stay."""
        when_full = self._options.when_full
        if _size(records) > self._options.max_bytes:  # a single event
            return []
        if when_full is WhenFull.DROP_NEWEST:
            return [] if self._is_over(records) else records
        if when_full is WhenFull.REDUCE:
            for rank in (Rank.SAMPLE, Rank.NEWS):
                while self._is_over(records) and self._thin(rank):
                    pass
                if self._is_over(records):
                    records = [item for item in records if item[0].rank > rank]
        while self._is_over(records):
            victim = self._victim()
            if victim is None:
                return []
            self._drop(victim, "full")
        return records

    def _is_over(self, records: _Encoded) -> bool:
        return self.size + _size(records) > self._options.max_bytes

    def _victim(self) -> Segment | None:
        """The oldest segment of which nothing is on its way to the sink."""
        return next((segment for segment in self._segments if segment.first_seq > self._read_seq), None)

    def _thin(self, rank: Rank) -> bool:
        """Take the events of ``rank`` out of the oldest segment that has some; False when there is none."""
        for segment in self._segments:
            if segment.ranks[rank] and segment.first_seq > self._read_seq:
                self._seal_if_writing(segment)
                before = segment.count
                self.bytes_written += segment.thin(rank)
                self._count("full", before - segment.count)
                self._remove_finished()
                return True
        return False

    def _seal_if_writing(self, segment: Segment) -> None:
        if self._writer is not None and self._writer.segment is segment:
            self._seal()

    # -- reading -----------------------------------------------------------------------------------------------

    def _turn_page(self) -> bool:
        """Take the next segment to read from; False when there is none."""
        segment = next((one for one in self._segments if one.last_seq > self._read_seq), None)
        if segment is None:
            return False
        self._seal_if_writing(segment)
        self._read_seq = segment.last_seq
        try:
            self._content, found = segment.read()
        except OSError as error:
            self._lose(segment, f"cannot be read: {error.strerror or error}")
            return True
        if len(found) < segment.count:  # it was whole when it was written, or found at the start
            segment.missing += segment.count - len(found)
            self.dropped["damaged"] += segment.count - len(found)
            segment.count = len(found)
            self._tell_missing(segment)
        self._reading, self._places = segment, deque(found)
        return True

    def _next(self) -> Record | None:
        """The next event of the page; None when it is not to be delivered."""
        segment, place = self._reading, self._places.popleft()
        assert segment is not None
        reason = "expired" if self._is_old(segment, place) else "damaged"
        if reason == "damaged" and place.seq not in segment.done:
            with suppress(ValueError):
                return place.record(self._content)
        if place.seq not in segment.done:
            self.dropped[reason] += 1
            segment.finish(place.seq)
        return None

    def _is_old(self, segment: Segment, place: Place) -> bool:
        now_ns = self._clock.monotonic_ns()
        # By the wall clock, but not older than the file.
        waited_ns = now_ns - monotonic_of(place.time_ns, segment.newest_wall_ns, segment.newest_ns)
        return not within(min(waited_ns, now_ns - segment.oldest_ns), self._options.max_age)

    # -- done --------------------------------------------------------------------------------------------------

    def _remove_finished(self) -> None:
        """Remove segments of which every event is done."""
        finished = [segment for segment in self._segments if segment.count <= 0]
        if not finished:
            return
        first = next((segment.first_seq for segment in self._segments if segment.count > 0), self.next_seq)
        self._done_up_to(first - 1, durably=True)  # else power loss, which may bring the files back, repeats them
        for segment in finished:
            self._remove(segment)

    def _done_up_to(self, seq: int, *, durably: bool) -> None:
        before = self._position.bytes_written
        with suppress(OSError):  # after a crash some events come again
            self._position.store(max(seq, self._position.value))
            if durably:
                self._position.sync()
                self._synced_ns = self._clock.monotonic_ns()
        self.bytes_written += self._position.bytes_written - before

    def _drop(self, segment: Segment, reason: str) -> None:
        self._count(reason, segment.count)
        self._remove(segment)

    def _lose(self, segment: Segment, why: str) -> None:
        self._count("damaged", segment.count)
        segment.missing = 0
        self._segments.remove(segment)
        self._put_aside(segment.path, why)

    def _count(self, reason: str, events: int) -> None:
        if events:
            self.dropped[reason] += events

    def _remove(self, segment: Segment) -> None:
        self._seal_if_writing(segment)
        if segment is self._reading:
            self._places.clear()
        self._segments.remove(segment)
        with suppress(OSError):  # what cannot be removed is passed over at the next start
            if segment.missing:
                quarantine(segment.path, "damaged", self._clock.wall_ns(), name="segment")
            else:
                segment.path.unlink(missing_ok=True)


def _epoch(seq: int) -> int:
    return seq >> _EPOCH_BITS


def _size(records: _Encoded) -> int:
    return sum(len(encoded) for _, encoded in records)


def _check_free(folder: Path) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < _RESERVE:
        raise OSError(ENOSPC, f"{free // 1_000_000} MB free on the disk, expected {_RESERVE // 1_000_000} MB")
