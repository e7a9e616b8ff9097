"""Bytes that are not HTTP, clients that do not behave, and too many of them."""

import asyncio
import logging
import time

import aiohttp
import pytest
from fake_agent import FakeAgent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_api import Serve, raw, url

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,  # a TLS client hello
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /%00%ff%c0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET //..//../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"FROB / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x00" * 10_000,
]


async def answers(server: object, http: aiohttp.ClientSession) -> bool:
    async with http.get(url(server, "/livez")) as answer:  # type: ignore[arg-type]
        return answer.status == 200


@pytest.mark.parametrize("request_bytes", GARBAGE, ids=lambda data: repr(data[:24]))
async def test_garbage_is_answered_with_an_error_and_survived(
    serve: Serve, http: aiohttp.ClientSession, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = await serve(timeout="200ms")
    try:
        answer = await raw(server, request_bytes, end=False)
        assert answer.split(b" ", 2)[1].startswith(b"4")
    except ConnectionError:  # hung up, with a reset because it did not read the rest
        assert len(request_bytes) > 65_536
    assert await answers(server, http)
    assert "Traceback" not in caplog.text


async def test_any_bytes_are_survived(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    loop = asyncio.get_running_loop()
    prefix = st.sampled_from(
        [b"", b"GET /api/v1/incidents?", b"GET / HTTP/1.1\r\n", b"POST /api/v1/model HTTP/1.1\r\n"]
    )

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(prefix, st.binary(max_size=200))
    def attack(start: bytes, rest: bytes) -> None:
        answer = asyncio.run_coroutine_threadsafe(raw(server, start + rest + b"\r\n\r\n"), loop).result(10)
        assert b" 500 " not in answer.split(b"\r\n", 1)[0]

    await asyncio.to_thread(attack)
    assert await answers(server, http)


async def test_malformed_requests_are_counted(serve: Serve, agent: FakeAgent) -> None:
    server = await serve()
    await raw(server, b"\x16\x03\x01nonsense\r\n\r\n")
    await raw(server, b"GET / HTTP/1.1\r\nBad Header\r\n\r\n")
    counts = dict(agent.metrics.api_requests.series())
    assert sum(child.value for (method, status), child in counts.items() if status == "400") >= 1


async def test_invented_methods_make_no_new_series(serve: Serve, agent: FakeAgent) -> None:
    server = await serve()
    for number in range(20):
        await raw(server, f"X{number} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await raw(server, b"PROPFIND / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert {method for (method, _), _ in agent.metrics.api_requests.series()} <= {"GET", "other"}


async def test_connection_that_says_nothing_is_closed_in_time(serve: Serve) -> None:
    server = await serve(timeout="200ms")
    begin = time.monotonic()
    assert await raw(server, b"", end=False) == b""
    assert 0.1 < time.monotonic() - begin < 5


async def test_header_that_never_ends_is_closed_in_time(serve: Serve) -> None:
    server = await serve(timeout="200ms")
    begin = time.monotonic()
    await raw(server, b"GET / HTTP/1.1\r\nHost: loc", end=False)
    assert time.monotonic() - begin < 5


async def test_body_that_never_comes_is_given_up(serve: Serve) -> None:
    server = await serve(change_timeout="1s", timeout="200ms")
    head = b"POST /api/v1/model HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-token-of-sixteen-or-more\r\n"
    head += b"Content-Type: application/octet-stream\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nabc"
    begin = time.monotonic()
    assert (await raw(server, head, end=False)).startswith(b"HTTP/1.1 504 ")
    assert time.monotonic() - begin < 20


async def test_client_that_does_not_take_its_answer_is_cut_off(serve: Serve, agent: FakeAgent) -> None:
    huge = {"name": "x" * 20_000_000}
    agent.graph = lambda: huge  # type: ignore[method-assign]
    server = await serve(timeout="300ms")
    _, writer = await asyncio.open_connection(server.address.host, server.address.port)  # type: ignore[union-attr]
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n\r\n")
    runner = server._runner
    assert runner is not None
    assert runner.server is not None
    async with asyncio.timeout(10):
        while not runner.server.connections:
            await asyncio.sleep(0.01)
        while runner.server.connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_connections_that_come_all_at_once_are_limited_too(serve: Serve, agent: FakeAgent) -> None:
    server = await serve(max_connections=4)
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    found = await asyncio.gather(*(raw(server, request, end=False) for _ in range(20)), return_exceptions=True)
    busy = agent.metrics.api_requests.labels("other", "503").value
    served = agent.metrics.api_requests.labels("GET", "200").value
    assert busy + served == 20
    assert served >= 4
    assert busy > 0
    assert sum(isinstance(answer, bytes) and answer.startswith(b"HTTP/1.1 200") for answer in found) == served


async def test_connections_beyond_the_limit_are_told_to_come_back(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve(max_connections=4)
    held = [await asyncio.open_connection(server.address.host, server.address.port) for _ in range(4)]  # type: ignore[union-attr]
    answer = await raw(server, b"", end=False)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable")
    assert answer.endswith(b'{"error":"too many connections (option api.max_connections); try again later"}')
    assert agent.metrics.api_requests.labels("other", "503").value == 1
    for _, writer in held:
        writer.close()
        await writer.wait_closed()
    async with asyncio.timeout(5):
        while not (await raw(server, b"GET /livez HTTP/1.0\r\n\r\n", end=False)).startswith(b"HTTP/1.0 200"):
            await asyncio.sleep(0.01)
