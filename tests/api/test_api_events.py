"""The live stream: what arrives, what a slow client loses, and how it ends."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from fake_agent import FakeAgent
from served_api import Serve, raw, url

from edge_agent.api.server import ApiServer
from edge_agent.verdict import Event, EventKind


def event(number: int, kind: EventKind = EventKind.INCIDENT, **body: Any) -> Event:
    return Event(f"e{number}", kind, number, {"number": number, **body})


async def frames(answer: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    """The next ``count`` frames; comments and the `retry` line are left out."""
    found: list[dict[str, str]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            lines = (await answer.content.readuntil(b"\n\n")).decode().strip().split("\n")
            fields = dict(line.split(": ", 1) for line in lines)
            if "event" in fields:
                found.append(fields)
    return found


async def until_watched(server: ApiServer, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(server._stream) != count:
            await asyncio.sleep(0.005)


async def test_events_arrive_in_order_with_id_kind_and_body(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/events")) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        server.publish(event(1, text="two\nlines", value=float("nan")))
        server.publish(event(2, EventKind.SCORES))
        first, second = await frames(answer, 2)
    assert (first["id"], first["event"]) == ("e1", "incident")
    assert json.loads(first["data"]) == {"number": 1, "text": "two\nlines", "value": None}
    assert second["event"] == "scores"


async def test_only_the_kinds_asked_for_arrive(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/events?kinds=status,incident")) as answer:
        for number, kind in enumerate((EventKind.SCORES, EventKind.STATUS, EventKind.SCORES, EventKind.INCIDENT)):
            server.publish(event(number, kind))
        assert [frame["id"] for frame in await frames(answer, 2)] == ["e1", "e3"]


async def test_unknown_kind_is_refused(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(), "/api/v1/events?kinds=incident,ticks")) as answer:
        assert answer.status == 400
        message = (await answer.json())["error"]
    assert message == f"kinds: got 'incident,ticks', expected some of {', '.join(EventKind)}"


async def test_publishing_to_nobody_costs_nothing_and_is_forgotten(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve()
    for number in range(1000):
        server.publish(event(number))
    async with http.get(url(server, "/api/v1/events")) as answer:
        server.publish(event(1000))
        assert [frame["id"] for frame in await frames(answer, 1)] == ["e1000"]
    assert agent.metrics.stream_dropped.labels().value == 0


async def test_slow_client_loses_the_oldest_is_told_and_delays_nobody(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/events")) as answer:
        for number in range(300):  # in one step of the loop: the stream has no chance to send
            server.publish(event(number))
        missed, first, *_ = await frames(answer, 2)
    assert missed == {"event": "missed", "data": '{"count": 44}'}
    assert first["id"] == "e44"
    assert agent.metrics.stream_dropped.labels().value == 44


async def test_client_that_stops_reading_is_cut_off_and_others_go_on(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve(timeout="300ms")
    _, stuck = await asyncio.open_connection(server.address.host, server.address.port, limit=1)  # type: ignore[union-attr]
    stuck.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with http.get(url(server, "/api/v1/events")) as answer:
        await until_watched(server, 2)
        stuck.transport.pause_reading()  # type: ignore[attr-defined]
        number = 0
        async with asyncio.timeout(20):
            while len(server._stream) == 2:
                number += 1
                server.publish(event(number, filler="x" * 200_000))
                assert (await frames(answer, 1))[0]["id"] == f"e{number}"
    stuck.close()


async def test_client_that_leaves_is_forgotten(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/events")):
        await until_watched(server)
    async with asyncio.timeout(10):
        while len(server._stream):
            server.publish(event(1))
            await asyncio.sleep(0.005)


async def test_watchers_beyond_the_limit_are_refused(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve(max_streams=1)
    async with http.get(url(server, "/api/v1/events")), http.get(url(server, "/api/v1/events")) as second:
        assert second.status == 503
        assert "option api.max_streams" in (await second.json())["error"]


async def test_stop_sends_what_is_buffered_and_ends_the_stream(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/api/v1/events")) as answer:
        await until_watched(server)
        server.publish(event(7))
        stopping = asyncio.create_task(server.stop())
        rest = await answer.content.read()
        await stopping
    assert b"id: e7\n" in rest


async def test_foreign_name_cannot_watch(serve: Serve) -> None:
    request = b"GET /api/v1/events HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert (await raw(await serve(), request, end=False)).startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize("kind", list(EventKind))
async def test_every_kind_can_be_watched(serve: Serve, http: aiohttp.ClientSession, kind: EventKind) -> None:
    server = await serve()
    async with http.get(url(server, f"/api/v1/events?kinds={kind.value}")) as answer:
        server.publish(event(1, kind))
        assert (await frames(answer, 1))[0]["event"] == kind.value
