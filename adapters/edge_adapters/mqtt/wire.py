"""MQTT packets out of a byte stream (MQTT 3.1.1 and 5, sections 2 and 3.3).

Incoming PUBLISH packets are read here instead of by paho: paho answers a QoS 2 message with PUBREC before we have
accepted it (a crash in between would lose it), holds payloads of up to 256 MB in memory, and needs three system calls
for each message. Everything else goes to paho unread.
"""

from __future__ import annotations

from typing import NamedTuple

PINGREQ = b"\xc0\x00"
_PUBLISH, _PUBREL, _PINGRESP = 0x30, 0x62, 0xD0
_LONGEST_OTHER = 65536
"""Longest packet that is not a PUBLISH; CONNACK and SUBACK are much shorter."""


class ProtocolError(Exception):
    """The far side sent something that is no MQTT."""


class Message(NamedTuple):
    """One PUBLISH. ``payload`` is None when it was longer than allowed; ``size`` is its length in any case."""

    topic: bytes
    payload: bytes | None
    qos: int
    mid: int
    retained: bool
    size: int


class Released(NamedTuple):
    """PUBREL: the broker knows that we have the QoS 2 message ``mid``."""

    mid: int


class Other(NamedTuple):
    """Any other packet, whole."""

    packet: bytes


Packet = Message | Released | Other


class PacketReader:
    """Feed bytes, take packets. Holds one read and one incomplete packet of at most ``max_packet`` bytes."""

    def __init__(self, *, max_packet: int, properties: bool) -> None:
        self._max_packet = max_packet
        self._properties = properties  # MQTT 5
        self._data = b""
        self._at = 0
        self._partial = bytearray()
        self._needed = 0
        self._skip = 0

    def feed(self, chunk: bytes) -> None:
        """Add what was read; only when :meth:`next` has given None."""
        if self._skip:
            skipped = min(self._skip, len(chunk))
            self._skip -= skipped
            chunk = chunk[skipped:]
        if not self._partial:
            self._data = chunk
        else:
            self._partial += chunk
            if len(self._partial) < self._needed:
                return
            self._data = bytes(self._partial)
            self._partial.clear()
        self._at = 0

    def next(self) -> Packet | None:
        """The next packet, None when more bytes are needed; PINGRESP is swallowed. :raises ProtocolError:"""
        data, start, available = self._data, self._at, len(self._data)
        while start < available:
            kind, body = data[start], start + 2
            if body > available:
                self._wait(start, 2)
                return None
            length = data[start + 1]
            if length >= 0x80:
                decoded = _long_length(data, start + 1)
                if decoded is None:
                    self._wait(start, available - start + 1)
                    return None
                length, body = decoded
            end = body + length
            if kind & 0xF0 == _PUBLISH:
                if end > available:
                    return self._incomplete_publish(start, body, end)
                self._at = end
                return self._message(kind, body, end)
            if length > _LONGEST_OTHER:
                raise ProtocolError(f"a packet of type {kind >> 4} with {length} bytes")
            if end > available:
                self._wait(start, end - start)
                return None
            packet = data[start:end]
            self._at = start = end
            if kind == _PUBREL and length >= 2:
                return Released(data[body] << 8 | data[body + 1])
            if kind != _PINGRESP:
                return Other(packet)
        self._data, self._at = b"", 0
        return None

    def _wait(self, start: int, needed: int) -> None:
        """Keep what is left until there are ``needed`` bytes of the packet at ``start``."""
        self._partial += self._data[start:]
        self._data, self._at = b"", 0
        self._needed = needed

    def _incomplete_publish(self, start: int, body: int, end: int) -> Message | None:
        if end - start <= self._max_packet:
            self._wait(start, end - start)
            return None
        # Too long to be held: read what it takes to answer for it, and let the rest pass by.
        data = self._data
        header = body + 2 if len(data) < body + 2 else body + 4 + (data[body] << 8 | data[body + 1])
        if len(data) < min(header, end):
            self._wait(start, min(header, end) - start)
            return None
        message = self._message(data[start], body, end)
        self._skip = end - len(data)
        self._data, self._at = b"", 0
        return message._replace(payload=None)

    def _message(self, kind: int, body: int, end: int) -> Message:
        data = self._data
        if end - body < 2:
            raise ProtocolError("a PUBLISH without a topic")
        at = body + 2 + (data[body] << 8 | data[body + 1])
        topic = data[body + 2 : at]
        qos, mid = (kind >> 1) & 3, 0
        if qos:
            if qos == 3 or at + 2 > end:
                raise ProtocolError("a PUBLISH with bad flags or without a packet identifier")
            mid = data[at] << 8 | data[at + 1]
            at += 2
        if self._properties and at < len(data):
            at = self._after_properties(at, end)
        if at > end:
            raise ProtocolError("a PUBLISH shorter than its header")
        return Message(topic, data[at:end], qos, mid, bool(kind & 1), end - at)

    def _after_properties(self, at: int, end: int) -> int:
        # None of them matters here; topic aliases are only sent to those who announce that they can use them.
        decoded = _long_length(self._data, at)
        if decoded is None:
            return end
        return decoded[1] + decoded[0]


def _long_length(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer (MQTT 5 section 1.5.5) and the position after it; None when it is not all there."""
    value = 0
    for index in range(4):
        if at + index >= len(data):
            return None
        digit = data[at + index]
        value |= (digit & 0x7F) << (7 * index)
        if digit < 0x80:
            return value, at + index + 1
    raise ProtocolError("a length of more than four bytes")
