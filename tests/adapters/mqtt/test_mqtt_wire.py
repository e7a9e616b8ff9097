from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.mqtt.wire import Message, Other, Packet, PacketReader, ProtocolError, Released


def variable_integer(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(out)


def publish(topic: bytes, payload: bytes, qos: int, mid: int, retained: bool, properties: bytes | None) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    body += mid.to_bytes(2, "big") if qos else b""
    body += b"" if properties is None else variable_integer(len(properties)) + properties
    body += payload
    return bytes([0x30 | qos << 1 | retained]) + variable_integer(len(body)) + body


def read_all(stream: bytes, cuts: list[int], *, max_packet: int, properties: bool) -> list[Packet]:
    reader = PacketReader(max_packet=max_packet, properties=properties)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    packets = []
    for start, end in pairwise(edges):
        reader.feed(stream[start:end])
        while (packet := reader.next()) is not None:
            packets.append(packet)
    return packets


TOPICS = st.binary(min_size=1, max_size=200)
MIDS = st.integers(1, 65535)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)
MESSAGES = st.tuples(TOPICS, st.binary(max_size=400), st.integers(0, 2), MIDS, st.booleans())


@given(messages=st.lists(MESSAGES | MIDS | st.binary(max_size=200), max_size=6), cuts=CUTS, v5=st.booleans())
def test_packets_come_out_whole_however_the_stream_is_cut(
    messages: list[tuple[bytes, bytes, int, int, bool] | int | bytes], cuts: list[int], v5: bool
) -> None:
    stream, expected = b"", list[Packet]()
    for message in messages:
        if isinstance(message, int):
            stream += b"\x62\x02" + message.to_bytes(2, "big") + b"\xd0\x00"
            expected.append(Released(message))
        elif isinstance(message, bytes):
            packet = b"\x90" + variable_integer(len(message)) + message
            stream += packet
            expected.append(Other(packet))
        else:
            topic, payload, qos, mid, retained = message
            stream += publish(topic, payload, qos, mid, retained, b"\x01" * 130 if v5 else None)
            expected.append(Message(topic, payload, qos, mid if qos else 0, retained, len(payload)))
    assert read_all(stream, cuts, max_packet=1 << 20, properties=v5) == expected


@given(topic=TOPICS, size=st.integers(500, 3000), qos=st.integers(0, 2), mid=MIDS, cuts=CUTS)
def test_an_oversize_payload_passes_by_and_is_still_answered_for(
    topic: bytes, size: int, qos: int, mid: int, cuts: list[int]
) -> None:
    stream = publish(topic, bytes(size), qos, mid, False, None) + publish(b"next", b"1", 0, 0, False, None)
    # Cut at least once, so that the long packet is not simply there.
    first, second = read_all(stream, [*cuts, 450], max_packet=400, properties=False)
    assert first == Message(topic, None, qos, mid if qos else 0, False, size)
    assert second == Message(b"next", b"1", 0, 0, False, 1)


@given(stream=st.binary(max_size=300), cuts=CUTS, v5=st.booleans())
def test_any_bytes_give_packets_or_protocol_error(stream: bytes, cuts: list[int], v5: bool) -> None:
    try:
        packets = read_all(stream, cuts, max_packet=100, properties=v5)
    except ProtocolError:
        return
    assert all(isinstance(packet, Message | Released | Other) for packet in packets)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x01\x00",
        b"\x30\x03\x00\x05a",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x32\x03\x00\x01a",
        b"\x20\xff\xff\x7f",
    ],
)
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_all(stream, [], max_packet=100, properties=False)
