"""Devices that POST and PUT: libcoap's client, and plain sockets for what no client would send."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import Any

import cbor2
import orjson
import pytest
from conftest import Coap, Inbox, eventually, free_udp_port, make_context, running_source

from edge_adapters.coap import SOURCE
from edge_agent.errors import RetryableAdapterError

pytestmark = pytest.mark.counterpart

DEVICE = {"path": "/s/{device}"}
SITE = {"path": "/{site}/{sensor}/value", "name": "{site}.{sensor}"}


def server(*resources: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"resources": list(resources) or [DEVICE], **options}


@pytest.mark.parametrize("method", ["put", "post"])
@pytest.mark.parametrize(
    ("content_format", "payload", "readings"),
    [
        ("0", b"21.5", {"d1": 21.5}),
        ("50", b'{"t": 21.5, "h": 40}', {"d1.t": 21.5, "d1.h": 40}),
        ("110", b'[{"bn":"a:","n":"t","v":21.5},{"n":"on","vb":true}]', {"d1.a:t": 21.5, "d1.a:on": 1}),
        ("112", cbor2.dumps([{-2: "a:", 0: "t", 2: 21.5}, {0: "on", 4: True}]), {"d1.a:t": 21.5, "d1.a:on": 1}),
        (None, b"21.5", {"d1": 21.5}),
    ],
)
async def test_every_format_arrives(
    coap: Coap, method: str, content_format: str | None, payload: bytes, readings: dict[str, float]
) -> None:
    async with running_source(server=server()) as source:
        arguments = [] if content_format is None else ["-t", content_format]
        answer = await coap(method, f"coap://127.0.0.1:{source.port}/s/d1", *arguments, payload=payload)
    assert answer == ""
    assert source.inbox.readings == readings


async def test_captures_name_the_sensor(coap: Coap) -> None:
    async with running_source(server=server(SITE)) as source:
        await coap("put", f"coap://127.0.0.1:{source.port}/north/p1/value", payload=b"4")
        await coap("put", f"coap://127.0.0.1:{source.port}/north/p%202/value", payload=b"5")
    assert source.inbox.readings == {"north.p1": 4, "north.p 2": 5}


async def test_same_layout_keeps_the_same_tuple_of_names(coap: Coap) -> None:
    async with running_source(server=server()) as source:
        for _ in range(2):
            await coap("put", f"coap://127.0.0.1:{source.port}/s/d1", "-t", "50", payload=b'{"a":1,"b":2}')
    first, second = source.inbox.batches
    assert first.sensors is second.sensors


async def test_senml_times_go_with_the_readings(coap: Coap) -> None:
    pack = [{"bt": 1.7e9, "n": "a", "v": 1}, {"n": "b", "t": 5, "v": 2}]
    async with running_source(server=server()) as source:
        await coap("post", f"coap://127.0.0.1:{source.port}/s/d1", "-t", "110", payload=orjson.dumps(pack))
    assert source.inbox.batches[0].source_time_ns == [1_700_000_000 * 10**9, 1_700_000_005 * 10**9]


async def test_senml_texts_are_left_out_and_counted(coap: Coap) -> None:
    pack = [{"n": "a", "v": 1}, {"n": "b", "vs": "open"}, {"n": "c", "vd": "aGk"}]
    async with running_source(server=server()) as source:
        assert await coap("post", f"coap://127.0.0.1:{source.port}/s/d", "-t", "110", payload=orjson.dumps(pack)) == ""
    assert source.inbox.readings == {"d.a": 1}
    assert source.rejected() == {"senml_not_numeric": 2}


async def test_body_without_content_format_can_be_senml(coap: Coap) -> None:
    async with running_source(server=server(DEVICE | {"assume": "senml_json"})) as source:
        await coap("post", f"coap://127.0.0.1:{source.port}/s/d", payload=b'[{"n":"a","v":1}]')
    assert source.inbox.readings == {"d.a": 1}


@pytest.mark.parametrize(
    ("path", "arguments", "payload", "answer", "reason"),
    [
        ("/s/d", ["-t", "50"], b'{"t":', "4.00 JSON:", "malformed"),
        ("/s/d", ["-t", "0"], b"warm", "4.00 number:", "not_a_number"),
        ("/s/d", ["-t", "110"], b'{"n":"a"}', "4.00 SenML: got dict, expected an array", "senml"),
        ("/s/d", ["-t", "112"], b"\xff\xff", "4.00 SenML-CBOR:", "cbor"),
        ("/x/d", [], b"1", "4.04 no resource for the path /x/d", "unknown_path"),
        ("/s", [], b"1", "4.04 no resource for the path /s", "unknown_path"),
        ("/s/d", ["-t", "60"], b"1", "4.15 Content-Format 60 is not taken by /s/{device}", "content_format"),
        ("/s/d", ["-O", "2051,x"], b"1", "4.02 option 2051 is not understood", "bad_option"),
    ],
)
async def test_refusal_says_why_and_is_counted(
    coap: Coap, path: str, arguments: list[str], payload: bytes, answer: str, reason: str
) -> None:
    async with running_source(server=server()) as source:
        uri = f"coap://127.0.0.1:{source.port}{path}"
        assert (await coap("put", uri, *arguments, payload=payload)).startswith(answer)
        assert await coap("put", f"coap://127.0.0.1:{source.port}/s/good", payload=b"1") == ""
    assert source.rejected() == {reason: 1}
    assert source.inbox.readings == {"good": 1}


@pytest.mark.parametrize("method", ["get", "delete"])
async def test_other_methods_are_not_allowed(coap: Coap, method: str) -> None:
    async with running_source(server=server()) as source:
        assert await coap(method, f"coap://127.0.0.1:{source.port}/s/d") == "4.05 expected POST or PUT"


async def test_full_agent_asks_the_device_to_come_back(udp: socket.socket) -> None:
    async with running_source(server=server()) as source:
        source.inbox.full = True
        answer = await exchange(udp, source.port, request(payload=b"1"))
        assert answer[1] == code(5, 3)
        assert option(14, b"\x05") in answer  # Max-Age: 5 s
        source.inbox.full = False
        assert (await exchange(udp, source.port, request(payload=b"2", message_id=2)))[1] == code(2, 4)
    assert source.inbox.readings == {"d": 2}
    assert source.rejected() == {}


async def test_block_wise_body_is_put_together(coap: Coap) -> None:
    pack = [{"n": f"sensor-{number}", "v": number} for number in range(200)]
    async with running_source(server=server()) as source:
        for size in ("16", "1024"):
            uri = f"coap://127.0.0.1:{source.port}/s/d{size}"
            assert await coap("put", uri, "-t", "110", "-b", size, payload=orjson.dumps(pack)) == ""
    assert [len(batch) for batch in source.inbox.batches] == [200, 200]


async def test_body_over_the_limit_is_refused_before_it_is_sent(coap: Coap) -> None:
    async with running_source(server=server(DEVICE | {"max_body": "2kB"})) as source:
        uri = f"coap://127.0.0.1:{source.port}/s/d"
        assert await coap("put", uri, "-b", "1024", payload=b"1" * 5000) == "4.13 expected a body of at most 2000 bytes"
        assert await coap("put", uri, payload=b"7") == ""
    assert source.inbox.readings == {"d": 7}


async def test_body_over_the_limit_in_one_datagram_is_refused(udp: socket.socket) -> None:
    async with running_source(server=server(DEVICE | {"max_body": "10kB"})) as source:
        answer = await exchange(udp, source.port, request(payload=b"1" * 20_000))
    assert answer[1] == code(4, 13)
    assert option(60, (10_000).to_bytes(2, "big")) in answer  # Size1: the largest that is allowed
    assert source.rejected() == {"too_large": 1}


async def test_block_without_the_first_ones_is_refused(udp: socket.socket) -> None:
    async with running_source(server=server()) as source:
        block_5_of_16_bytes = option(27, bytes([5 << 4]), after=11)
        answer = await exchange(udp, source.port, request(payload=b"1" * 16, options=block_5_of_16_bytes))
    assert answer[1] == code(4, 8)


async def test_ipv6_and_ipv4_are_both_answered_on_every_address(coap: Coap) -> None:
    port = free_udp_port()
    async with running_source(server=server(listen=f"[::]:{port}")) as source:
        for host in ("127.0.0.1", "127.0.0.2", "[::1]"):
            # libcoap's socket is connected: an answer from another address than the one asked would not arrive
            assert await coap("put", f"coap://{host}:{port}/s/d", "-N", payload=b"1") == ""
    assert len(source.inbox.batches) == 3


async def test_repeated_datagram_is_answered_again_but_taken_once(udp: socket.socket) -> None:
    async with running_source(server=server()) as source:
        first = await exchange(udp, source.port, request(payload=b"1"))
        again = await exchange(udp, source.port, request(payload=b"1"))
    assert first == again
    assert len(source.inbox.batches) == 1


# The library builds this acknowledgement in a way it calls deprecated itself.
@pytest.mark.filterwarnings("ignore:Initializing messages with:DeprecationWarning")
async def test_no_response_option_is_obeyed(udp: socket.socket) -> None:  # RFC 7967
    async with running_source(server=server()) as source:
        no_success_wanted = option(258, bytes([2]), after=11)
        answer = await exchange(udp, source.port, request(payload=b"1", options=no_success_wanted))
    assert answer == struct.pack("!BBH", 0x60, 0, 1)  # an empty acknowledgement
    assert source.inbox.readings == {"d": 1}


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", None),
        (b"\x40", "not_coap"),
        (b"GET / HTTP/1.1\r\n\r\n", "not_coap"),
        (struct.pack("!BBH", 0x80, 2, 1), "not_coap"),  # version 2
        (struct.pack("!BBH", 0x59, 2, 1) + bytes(9), "not_coap"),  # token of 9 bytes
        (struct.pack("!BBH", 0x50, 2, 1) + b"\xf1\x00", "not_coap"),  # reserved option delta
        (struct.pack("!BBH", 0x50, 2, 1) + b"\xb9abc", "not_coap"),  # option cut off
        (struct.pack("!BBH", 0x50, 2, 1) + b"\xb2\xff\xfe", "not_utf8"),  # Uri-Path
        (struct.pack("!BBH", 0x50, 2, 1) + b"\x32\xff\xfe", "not_utf8"),  # Uri-Host
        (struct.pack("!BBH", 0x50, 0x7F, 1), None),  # a code nobody has defined: a response nobody asked for
        (struct.pack("!BBH", 0x60, 2, 1), "protocol"),  # a request in an acknowledgement
    ],
)
async def test_garbage_is_counted_and_the_next_request_served(
    udp: socket.socket, caplog: pytest.LogCaptureFixture, datagram: bytes, reason: str | None
) -> None:
    with caplog.at_level(logging.INFO):
        async with running_source(server=server()) as source:
            for number in range(50):
                if len(datagram) >= 4:
                    datagram = datagram[:2] + struct.pack("!H", 1000 + number) + datagram[4:]
                udp.sendto(datagram, ("127.0.0.1", source.port))
            answer = await exchange(udp, source.port, request(payload=b"1", message_id=77))
    assert answer[1] == code(2, 4)
    assert source.inbox.readings == {"d": 1}
    if reason is not None:
        assert source.rejected() == {reason: 50}
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("datagram", [b"\xb2\xff\xfe", b"\xb9abc"])
async def test_confirmable_garbage_is_reset_so_that_it_is_not_repeated(udp: socket.socket, datagram: bytes) -> None:
    async with running_source(server=server()) as source:
        answer = await exchange(udp, source.port, struct.pack("!BBH", 0x40, 2, 0x1234) + datagram)
    assert answer == bytes.fromhex("70001234")


async def test_the_agent_is_not_a_proxy(udp: socket.socket) -> None:
    async with running_source(server=server()) as source:
        proxy_scheme = option(39, b"coap", after=11)
        answer = await exchange(udp, source.port, request(payload=b"1", options=proxy_scheme))
    assert answer[1] == code(5, 5)
    assert source.rejected() == {"proxy": 1}


async def test_ping_is_answered(udp: socket.socket) -> None:
    async with running_source(server=server()) as source:
        assert await exchange(udp, source.port, bytes.fromhex("40000009")) == bytes.fromhex("70000009")


async def test_taken_port_is_named_and_tried_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(RetryableAdapterError, match=rf"cannot listen on {listen} \(UDP\): Address already in use"):
            async with running_source(server=server(listen=listen)):
                pass


async def test_two_agents_do_not_share_a_port() -> None:
    async with running_source(server=server()) as first:
        options = SOURCE.options.model_validate({"type": "coap", "server": server(listen=f"127.0.0.1:{first.port}")})
        with pytest.raises(RetryableAdapterError, match="Address already in use"):
            await SOURCE.build(options, make_context()).run(Inbox())


async def test_unknown_address_is_named() -> None:
    with pytest.raises(RetryableAdapterError, match=r"cannot listen on 192\.0\.2\.1:5683"):
        async with running_source(server=server(listen="192.0.2.1:5683")):
            pass


async def test_port_is_free_again_after_the_stop(coap: Coap) -> None:
    port = free_udp_port()
    for _ in range(3):
        async with running_source(server=server(listen=f"127.0.0.1:{port}")) as source:
            await coap("put", f"coap://127.0.0.1:{port}/s/d", payload=b"1")
        assert len(source.inbox.batches) == 1


async def test_a_flood_of_requests_is_remembered_for_a_short_time_only() -> None:
    from edge_adapters.coap.endpoint import Remember

    remembered: dict[int, None] = {}
    tuning = Remember(remembered)
    assert tuning.EXCHANGE_LIFETIME == 45.0
    remembered.update(dict.fromkeys(range(1000)))
    assert tuning.EXCHANGE_LIFETIME == 0.25


# -- plain datagrams


def code(class_: int, detail: int) -> int:
    return class_ << 5 | detail


def option(number: int, value: bytes, after: int = 0) -> bytes:
    delta = number - after
    head, extended = (
        (delta, b"")
        if delta < 13
        else (13, bytes([delta - 13]))
        if delta < 269
        else (14, struct.pack("!H", delta - 269))
    )
    return bytes([head << 4 | len(value)]) + extended + value


def request(payload: bytes, message_id: int = 1, options: bytes = b"") -> bytes:
    """A confirmable PUT to /s/d; ``options`` come after Uri-Path (11)."""
    path = option(11, b"s") + option(11, b"d", after=11)
    return struct.pack("!BBH", 0x41, 3, message_id) + b"T" + path + options + b"\xff" + payload


async def exchange(sock: socket.socket, port: int, datagram: bytes) -> bytes:
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    sock.sendto(datagram, ("127.0.0.1", port))
    message_id = datagram[2:4]
    async with asyncio.timeout(5):
        while True:
            answer = await loop.sock_recv(sock, 2048)
            if answer[2:4] == message_id:
                return answer


async def test_the_source_says_where_it_listens() -> None:
    async with running_source(server=server()) as source:
        await eventually(lambda: source.context.state == "connected")
        assert next(child.value for _, child in source.context.metrics.source_up.series()) == 1
