"""Observing and polling libcoap's server, and servers that vanish, lie or never end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from conftest import Coap, eventually, free_udp_port, libcoap_server, running_source

pytestmark = pytest.mark.counterpart


def resource(uri: str, **options: Any) -> dict[str, Any]:
    return {"uri": uri, "name": "x", **options}


@contextlib.asynccontextmanager
async def example_server(coap: Coap, value: bytes, port: int | None = None) -> AsyncIterator[str]:
    """libcoap's server with its observable resource ``example_data`` holding ``value``; gives the URI."""
    port = port or free_udp_port()
    async with libcoap_server(port):
        uri = f"coap://127.0.0.1:{port}/example_data"
        await coap("put", uri, payload=value)
        yield uri


async def test_observed_resource_tells_each_change(coap: Coap) -> None:
    async with example_server(coap, b"1") as uri, running_source(client=[resource(uri)]) as source:
        await eventually(lambda: source.inbox.readings == {"x": 1})
        await coap("put", uri, payload=b"2")
        await eventually(lambda: source.inbox.readings == {"x": 2})
        assert source.context.state == "connected"
        assert source.rejected() == {}


async def test_name_of_a_client_resource_is_host_and_path_unless_given(coap: Coap) -> None:
    async with example_server(coap, b"1") as uri, running_source(client=[{"uri": uri}]) as source:
        await eventually(lambda: source.inbox.readings == {"127.0.0.1.example_data": 1})


async def test_observation_survives_a_restart_of_the_server(coap: Coap) -> None:
    port = free_udp_port()
    watched = resource(f"coap://127.0.0.1:{port}/example_data", quiet_for="1s", timeout="1s")
    async with running_source(client=[watched], retry_max="300ms") as source:
        async with example_server(coap, b"1", port):
            await eventually(lambda: source.inbox.readings == {"x": 1})
        await eventually(lambda: source.context.state.startswith("disconnected: no resource answers"))
        async with example_server(coap, b"2", port) as uri:
            await eventually(lambda: source.inbox.readings == {"x": 2})
            await coap("put", uri, payload=b"3")
            await eventually(lambda: source.inbox.readings == {"x": 3})
            assert source.context.state == "connected"
    assert source.rejected()["no_answer"] >= 1


async def test_polled_resource_is_read_again_and_again(coap: Coap) -> None:
    polled: dict[str, Any] = {"mode": "poll", "interval": "100ms"}
    async with example_server(coap, b"1") as uri, running_source(client=[resource(uri, **polled)]) as source:
        await eventually(lambda: len(source.inbox.batches) >= 3)
        await coap("put", uri, payload=b"2")
        await eventually(lambda: source.inbox.readings == {"x": 2})


async def test_resource_that_cannot_be_observed_is_polled() -> None:
    async with simple_server(Number()) as uri, running_source(client=[resource(uri, interval="100ms")]) as source:
        await eventually(lambda: len(source.inbox.batches) >= 3)
    assert source.rejected() == {}


async def test_dead_device_does_not_hold_up_the_others(coap: Coap) -> None:
    dead = {"uri": f"coap://127.0.0.1:{free_udp_port()}/a", "timeout": "2s"}
    silent = {"uri": "coap://192.0.2.1/a", "timeout": "1s"}  # RFC 5737: no machine has this address
    async with example_server(coap, b"1") as uri:
        polled = resource(uri, mode="poll", interval="100ms")
        async with running_source(client=[dead, silent, polled]) as source:
            await eventually(lambda: source.rejected().get("no_answer", 0) >= 2 and len(source.inbox.batches) >= 5)
            assert source.context.state == "connected"


async def test_answer_that_is_not_a_reading_is_counted_and_asked_for_again(coap: Coap) -> None:
    polled: dict[str, Any] = {"mode": "poll", "interval": "100ms"}
    async with example_server(coap, b"warm") as uri, running_source(client=[resource(uri, **polled)]) as source:
        await eventually(lambda: source.rejected().get("not_a_number", 0) >= 2)
        await coap("put", uri, payload=b"2")
        await eventually(lambda: source.inbox.readings == {"x": 2})


async def test_error_answer_is_counted_and_asked_for_again(coap: Coap) -> None:
    port = free_udp_port()
    async with libcoap_server(port, "-d", "3"):
        uri = f"coap://127.0.0.1:{port}/later"
        async with running_source(client=[resource(uri)], retry_max="200ms") as source:
            await eventually(lambda: source.rejected().get("no_answer", 0) >= 2)
            assert "answered 4.04" in source.context.state
            await coap("put", uri, payload=b"2")
            await eventually(lambda: source.inbox.readings == {"x": 2})


async def test_host_that_does_not_resolve_is_an_unanswered_resource() -> None:
    async with running_source(client=[{"uri": "coap://no-such-host.invalid/x"}]) as source:
        await eventually(lambda: source.rejected().get("no_answer", 0) >= 1)
        assert "no-such-host.invalid" in source.context.state


async def test_long_representation_is_read_block_by_block() -> None:
    values = [{"n": f"s{number}", "v": number} for number in range(300)]
    async with simple_server(Number(values)) as uri, running_source(client=[{"uri": uri, "mode": "poll"}]) as source:
        await eventually(lambda: source.inbox.batches)
    assert len(source.inbox.batches[0]) == 300


async def test_representation_over_the_limit_is_refused() -> None:
    values = [{"n": f"s{number}", "v": number} for number in range(300)]
    async with simple_server(Number(values)) as uri, running_source(client=[resource(uri, max_body="3kB")]) as source:
        await eventually(lambda: source.rejected().get("no_answer"))
        assert "the body is longer than 3000 bytes" in source.context.state
    assert source.inbox.batches == []


async def test_server_and_client_share_one_endpoint(coap: Coap) -> None:
    async with example_server(coap, b"1") as uri:
        config: dict[str, Any] = {"client": [resource(uri)], "server": {"resources": [{"path": "/s/{d}"}]}}
        async with running_source(**config) as source:
            await coap("put", f"coap://127.0.0.1:{source.port}/s/y", payload=b"5")
            await eventually(lambda: source.inbox.readings == {"x": 1, "y": 5})


async def test_stop_in_the_middle_of_everything_leaves_nothing(coap: Coap) -> None:
    silent = [{"uri": f"coap://192.0.2.{number}/a"} for number in range(1, 6)]
    async with example_server(coap, b"1") as uri:
        for wait_s in (0.0, 0.005, 0.2):
            async with running_source(client=[*silent, resource(uri)]):
                await asyncio.sleep(wait_s)


async def test_notifications_that_overtake_each_other_are_put_right() -> None:  # RFC 7641, 3.4
    from edge_adapters.coap.client import _Events

    def seen(numbers: list[int]) -> list[int]:
        events = _Events()
        return [number for number in numbers if events._is_newer(aiocoap.Message(observe=number))]

    assert seen([1, 2, 4, 3, 5]) == [1, 2, 4, 5]
    assert seen([2**24 - 1, 0, 2**24 - 2, 1]) == [2**24 - 1, 0, 1]
    assert seen([7, 7]) == [7]


class Number(aiocoap.resource.Resource):  # type: ignore[misc]
    """A resource that libcoap's server has not: not observable, as large as one likes."""

    def __init__(self, senml: list[dict[str, Any]] | None = None) -> None:
        super().__init__()
        self._senml = senml

    async def render_get(self, request: Any) -> aiocoap.Message:
        if self._senml is None:
            return aiocoap.Message(payload=b"21.5")
        import orjson

        return aiocoap.Message(payload=orjson.dumps(self._senml), content_format=110)


@contextlib.asynccontextmanager
async def simple_server(served: aiocoap.resource.Resource) -> AsyncIterator[str]:
    site = aiocoap.resource.Site()
    site.add_resource(["x"], served)
    port = free_udp_port()
    context = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
    try:
        yield f"coap://127.0.0.1:{port}/x"
    finally:
        await context.shutdown()
