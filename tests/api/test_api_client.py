"""The client of the commands against the real server."""

import asyncio
import json
import socket
from pathlib import Path

import pytest
from fake_agent import HOSTILE_NAME, FakeAgent, incident
from served_api import TOKEN, Serve

from edge_agent.api.address import TcpAddress, UnixAddress
from edge_agent.api.client import ApiClient
from edge_agent.api.token import load_or_create_token, read_token
from edge_agent.errors import ControlError
from edge_agent.options import Secret
from edge_agent.verdict import Event, EventKind

GOOD = Secret(TOKEN)


async def test_everything_can_be_read(serve: Serve) -> None:
    client = ApiClient((await serve()).address)

    def read() -> None:
        assert client.status()["name"] == "gateway-7"
        assert len(client.sensors()) == 7
        assert client.sensor("plant/tank 1/level")["value"] == 0.91
        assert client.sensor(HOSTILE_NAME)["name"] == HOSTILE_NAME
        assert set(client.graph()) == {"nodes", "edges"}
        assert client.incident(incident(1)["id"]) == incident(1)
        assert client.model()["name"] == "universal"
        assert client.health() == (True, [])
        assert client.health(ready=False) == (True, [])

    await asyncio.to_thread(read)


async def test_incident_filters_are_passed_on(serve: Serve, agent: FakeAgent) -> None:
    client = ApiClient((await serve()).address)
    await asyncio.to_thread(client.incidents, 5, "open", "2026-11-20T11:42:07+01:00")
    assert agent.calls == [("incidents", "5", "open", "1795171327000000000")]


async def test_not_ready_is_an_answer(serve: Serve, agent: FakeAgent) -> None:
    agent.ready = (False, ["warming up"])
    assert await asyncio.to_thread(ApiClient((await serve()).address).health) == (False, ["warming up"])


async def test_changes_work_over_a_unix_socket_with_the_token_file(
    serve: Serve, agent: FakeAgent, tmp_path: Path
) -> None:
    token = load_or_create_token(tmp_path / "token")
    server = await serve(listen=f"unix:{tmp_path / 'api.sock'}", token=None, local_token=token)
    client = ApiClient(server.address, read_token(tmp_path / "token"))
    assert await asyncio.to_thread(client.reload) == {"changed": ["sources.plc"]}
    assert agent.calls == [("reload", "api client on the unix socket")]


async def test_swap_sends_an_absolute_path(serve: Serve, agent: FakeAgent) -> None:
    client = ApiClient((await serve()).address, GOOD)
    await asyncio.to_thread(client.swap_model, Path("bundle"))
    assert agent.calls[0][1] == str(Path("bundle").absolute())


async def test_upload_sends_the_file(serve: Serve, agent: FakeAgent, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(b"model" * 100_000)
    client = ApiClient((await serve()).address, GOOD)
    assert (await asyncio.to_thread(client.upload_model, bundle))["version"] == "2.0.0"
    assert agent.uploaded == bundle.read_bytes()


async def test_upload_that_is_too_large_says_what_the_agent_said(serve: Serve, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(b"x" * 5_000_000)
    client = ApiClient((await serve(max_bundle="100kB")).address, GOOD)
    with pytest.raises(ControlError, match="larger than 100000 bytes"):
        await asyncio.to_thread(client.upload_model, bundle)


async def test_upload_of_a_missing_file_is_said(serve: Serve, tmp_path: Path) -> None:
    client = ApiClient((await serve()).address, GOOD)
    with pytest.raises(ControlError, match="none: cannot be read: No such file or directory"):
        await asyncio.to_thread(client.upload_model, tmp_path / "none")


async def test_what_the_agent_refuses_is_raised_with_its_words_and_status(serve: Serve) -> None:
    client = ApiClient((await serve()).address, GOOD)
    with pytest.raises(ControlError, match="there is no previous model") as caught:
        await asyncio.to_thread(client.rollback_model)
    assert caught.value.status == 409


async def test_wrong_token_is_said(serve: Serve) -> None:
    client = ApiClient((await serve()).address, Secret("wrong"))
    with pytest.raises(ControlError, match=r"this needs the token of option api\.token") as caught:
        await asyncio.to_thread(client.reload)
    assert caught.value.status == 401


async def test_unknown_sensor_is_said(serve: Serve) -> None:
    with pytest.raises(ControlError, match="no sensor is named 'x'"):
        await asyncio.to_thread(ApiClient((await serve()).address).sensor, "x")


def test_no_agent_on_the_port_is_said_with_what_to_do() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = TcpAddress("127.0.0.1", probe.getsockname()[1])
    with pytest.raises(ControlError) as caught:
        ApiClient(address).status()
    assert str(caught.value) == (
        f"no agent answers at {address}: start one with `edge-agent run -c FILE`, "
        "or say where it listens, by its configuration (`-c FILE`) or by `--url`"
    )


def test_no_agent_on_the_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no agent answers at unix:"):
        ApiClient(UnixAddress(str(tmp_path / "none"))).status()


@pytest.mark.parametrize(
    "reply",
    [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 200 OK\r\n\r\n[]"],
)
async def test_another_program_on_the_port_is_said(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        address = TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(ControlError, match="cannot be asked"):
            await asyncio.to_thread(ApiClient(address).status)


async def test_events_are_read_until_the_agent_stops(serve: Serve) -> None:
    server = await serve()
    reading = asyncio.create_task(asyncio.to_thread(lambda: list(ApiClient(server.address).events())))
    async with asyncio.timeout(5):
        while not len(server._stream):
            await asyncio.sleep(0.005)
    server.publish(Event("e1", EventKind.INCIDENT, 1, {"id": "01"}))
    server.publish(Event("e2", EventKind.STATUS, 2, {"up": True}))
    await server.stop()
    assert await reading == [("incident", {"id": "01"}), ("status", {"up": True})]


def test_token_is_not_in_the_representation() -> None:
    assert TOKEN not in json.dumps([repr(vars(ApiClient(TcpAddress("127.0.0.1", 1), GOOD)))])
