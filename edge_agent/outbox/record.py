"""One event as bytes in a segment file, and how to find the good records of a damaged one. Pure.

A record is a header (:data:`_HEADER`, big endian) and a payload: marker, length of the payload, sequence number, time
of the event (wall ns), rank, packing, CRC-32 (as in zip) over header and payload. The marker is there only to find the
next record behind damage; the checksum decides what is a record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = struct.Struct(">4sIQqBBI")
_MARKER = b"\xedR\x0b\x01"
_PACK_FROM = 256  # bytes; below, deflate gains next to nothing
_LONGEST = 64_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """``seq`` grows from event to event; ``rank`` is how dear the event is (see ``rank``); ``payload`` is JSON."""

    seq: int
    time_ns: int
    rank: int
    payload: bytes


def encode(record: Record) -> bytes:
    """The bytes of ``record``, packed where that makes it smaller."""
    payload, packed = record.payload, 0
    if len(payload) >= _PACK_FROM:
        smaller = zlib.compress(payload, 1)
        if len(smaller) < len(payload):
            payload, packed = smaller, 1
    fields = (_MARKER, len(payload), record.seq, record.time_ns, record.rank, packed)
    checksum = zlib.crc32(payload, zlib.crc32(_HEADER.pack(*fields, 0)))
    return _HEADER.pack(*fields, checksum) + payload


@dataclass(frozen=True, slots=True)
class Place:
    """Where a good record is in the bytes of a segment: header at ``start``, all of it before ``end``."""

    seq: int
    time_ns: int
    rank: int
    start: int
    end: int
    packed: bool

    def record(self, content: bytes) -> Record:
        """The record itself. :raises ValueError: it cannot be unpacked (made by something else)."""
        payload = content[self.start + _HEADER.size : self.end]
        if self.packed:
            try:
                payload = zlib.decompress(payload)
            except zlib.error as error:
                raise ValueError(f"record {self.seq}: {error}") from error
        return Record(self.seq, self.time_ns, self.rank, payload)


def places(content: bytes, start: int) -> Iterator[Place]:
    """Every good record from ``start`` on; damage in between is passed over."""
    while 0 <= start < len(content):
        place = _place(content, start)
        if place is None:
            start = content.find(_MARKER, start + 1)
        else:
            yield place
            start = place.end


def _place(content: bytes, start: int) -> Place | None:
    body = start + _HEADER.size
    if body > len(content):
        return None
    marker, length, seq, time_ns, rank, packed, checksum = _HEADER.unpack_from(content, start)
    end = body + length
    if marker != _MARKER or length > _LONGEST or end > len(content):
        return None
    expected = zlib.crc32(_HEADER.pack(marker, length, seq, time_ns, rank, packed, 0))
    with memoryview(content) as view:
        if zlib.crc32(view[body:end], expected) != checksum:
            return None
    return Place(seq, time_ns, rank, start, end, bool(packed))
