"""Any datagram: the server counts it, answers or ignores it, and serves the next request."""

from __future__ import annotations

import asyncio
import logging
import random
import socket

import pytest
from conftest import running_source
from test_coap_server import exchange, request

CODES = (0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x1F, 0x41, 0x44, 0x45, 0x5F, 0x80, 0xA0, 0xE1, 0xFF)
OPTIONS = (1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 15, 17, 19, 23, 27, 28, 35, 39, 60, 252, 258, 292, 2049, 65000)


def near_valid_datagram(rng: random.Random) -> bytes:
    """A CoAP message with a valid header and options whose values are anything."""
    token = rng.randbytes(rng.choice((0, 1, 4, 8)))
    kind = rng.choice((0x40, 0x50, 0x60, 0x70))
    data = bytes([kind | len(token), rng.choice(CODES)]) + rng.randbytes(2) + token
    last = 0
    for number in sorted(rng.choices(OPTIONS, k=rng.randrange(5))):
        value = rng.randbytes(rng.randrange(6))
        data += encoded(number - last, value)
        last = number
    data += rng.choice((b"", b"\xff" + rng.randbytes(rng.randrange(40))))
    return data if rng.random() < 0.7 else data[: rng.randrange(len(data) + 1)]


def encoded(delta: int, value: bytes) -> bytes:
    if delta < 13:
        return bytes([delta << 4 | len(value)]) + value
    if delta < 269:
        return bytes([13 << 4 | len(value), delta - 13]) + value
    return bytes([14 << 4 | len(value)]) + (delta - 269).to_bytes(2, "big") + value


@pytest.mark.filterwarnings("ignore:Initializing messages with:DeprecationWarning")
async def test_any_datagram_is_survived(udp: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    rng = random.Random(7)
    loop = asyncio.get_running_loop()
    faults: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, fault: faults.append(fault))
    with caplog.at_level(logging.WARNING):
        async with running_source(server={"resources": [{"path": "/s/{device}"}]}) as source:
            for number in range(4000):
                datagram = near_valid_datagram(rng) if rng.random() < 0.8 else rng.randbytes(rng.randrange(64))
                udp.sendto(datagram, ("127.0.0.1", source.port))
                if number % 50 == 0:  # let the source read, or the kernel drops what does not fit its buffer
                    await asyncio.sleep(0.005)
            answer = await exchange(udp, source.port, request(payload=b"1", message_id=0x7777))
            assert answer[1] == 2 << 5 | 4
            assert source.rejected()["not_utf8"] > 0
            assert "library" not in source.rejected(), caplog.text
    assert faults == []
    assert len(caplog.records) < 20
