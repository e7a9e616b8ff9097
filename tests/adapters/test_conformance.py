"""Every adapter that we ship goes through the kit that we give to others."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from ddi_server import ddi_server
from postgres_rig import Postgres, postgres_server
from postgres_rig import options as postgres_options

from edge_agent import registry
from edge_agent.contract import Adapter
from edge_agent.testing import check_announcement, check_sink, check_source, check_uplink

pytestmark = pytest.mark.counterpart
ADAPTERS = [registry.adapter(group, name) for group in registry.ADAPTER_GROUPS for name in registry.names(group)]


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[int]:
    """A mosquitto of our own; gives its port."""
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    command = ["mosquitto", "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        try:
            wait_for_port(port)
            yield port
        finally:
            broker.terminate()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"nothing listens on port {port}")


async def command(*arguments: str, text: bytes = b"") -> bytes:
    """Run a program to its end, off the event loop."""
    done = await asyncio.to_thread(subprocess.run, arguments, input=text, capture_output=True, timeout=10, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{type(adapter).__name__}-{adapter.name}")
def test_announcement_is_as_promised(adapter: Adapter) -> None:
    check_announcement(adapter)


def test_every_adapter_is_run_through_the_kit() -> None:
    tested = {name.removeprefix("test_").removesuffix("_conforms") for name in globals() if name.endswith("_conforms")}
    assert {f"{adapter.name}_{registry.group_of(adapter).noun}" for adapter in ADAPTERS} == tested


async def test_mqtt_source_conforms(mosquitto: int) -> None:
    async def publish(topic: str, payload: str) -> None:
        await command("mosquitto_pub", "-p", str(mosquitto), "-q", "1", "-t", topic, "-m", payload)

    async def feed() -> None:
        await publish("plant/level", '{"value": 21.5}')
        await publish("plant/flow", '{"value": 3}')

    subscription = {"topic": "plant/{sensor}", "name": "{sensor}", "payload": {"format": "json", "value": "$.value"}}
    options: dict[str, Any] = {"type": "mqtt", "host": "127.0.0.1", "port": mosquitto, "subscriptions": [subscription]}
    batches = await check_source(
        registry.source_adapter("mqtt"),
        options,
        feed=feed,
        garbage=lambda: publish("plant/level", "{{{"),
        unreachable=options | {"port": free_port()},
    )
    assert sorted(name for batch in batches for name in batch.sensors) == ["flow", "level"]


async def test_coap_source_conforms() -> None:
    port = free_port(socket.SOCK_DGRAM)

    async def post(path: str, payload: str) -> None:
        uri = f"coap://127.0.0.1:{port}/s/{path}"
        await command("coap-client-notls", "-B", "3", "-m", "post", "-e", payload, uri)

    batches = await check_source(
        registry.source_adapter("coap"),
        {"type": "coap", "server": {"listen": f"127.0.0.1:{port}", "resources": [{"path": "/s/{device}"}]}},
        feed=lambda: post("pump1", "21.5"),
        garbage=lambda: post("pump1", "{{{"),
        refuses=True,
    )
    assert batches[0].sensors == ("pump1",)


async def test_modbus_source_conforms() -> None:
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    port = free_port()
    device = SimDevice(1, [SimData(0, count=10, values=7, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer([device], address=("127.0.0.1", port))
    await server.serve_forever(background=True)
    options = {
        "type": "modbus",
        "host": "127.0.0.1",
        "port": port,
        "interval": "50ms",
        "devices": [{"registers": [{"name": "level", "address": 0}, {"name": "flow", "address": 1}]}],
    }
    try:
        batches = await check_source(
            registry.source_adapter("modbus"), options, unreachable=options | {"port": free_port()}
        )
    finally:
        await server.shutdown()
    assert {name for batch in batches for name in batch.sensors} == {"level", "flow"}


async def test_mqtt_sink_conforms(mosquitto: int, tmp_path: Path) -> None:
    out = tmp_path / "received"
    listen = ["stdbuf", "-oL", "mosquitto_sub", "-p", str(mosquitto), "-q", "1", "-t", "events/#", "-d"]
    with out.open("wb") as file, subprocess.Popen(listen, stdout=file) as subscriber:
        try:
            for _ in range(500):
                if b"SUBACK" in out.read_bytes():
                    break
                await asyncio.sleep(0.01)
            options = {"type": "mqtt", "host": "127.0.0.1", "port": mosquitto, "topic": "events/{kind}/{id}"}

            async def received() -> Sequence[str]:
                return [f"event-{number}" for number in range(3) if f"event-{number}".encode() in out.read_bytes()]

            await check_sink(
                registry.sink_adapter("mqtt"), options, received=received, unreachable=options | {"port": free_port()}
            )
        finally:
            subscriber.terminate()


async def test_webhook_sink_conforms() -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        seen.append((await request.json())["id"])
        return web.Response()

    async def received() -> Sequence[str]:
        return seen

    application = web.Application()
    application.router.add_post("/hook", take)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        await check_sink(
            registry.sink_adapter("webhook"),
            {"type": "webhook", "url": f"http://127.0.0.1:{port}/hook"},
            received=received,
            unreachable={"type": "webhook", "url": f"http://127.0.0.1:{free_port()}/hook"},
        )
    finally:
        await runner.cleanup()


async def test_file_sink_conforms(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    async def received() -> Sequence[str]:
        return [json.loads(line)["id"] for line in path.read_text().splitlines()]

    await check_sink(
        registry.sink_adapter("file"),
        {"type": "file", "path": str(path)},
        received=received,
        unreachable={"type": "file", "path": str(tmp_path / "none" / "events.jsonl")},
    )


async def test_alertmanager_sink_conforms(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "alertmanager.yml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    arguments = [f"--config.file={config}", f"--storage.path={tmp_path}", "--cluster.listen-address="]
    program = ["prometheus-alertmanager", *arguments, f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as alertmanager:
        try:
            await asyncio.to_thread(wait_for_port, port)

            async def received() -> Sequence[str]:
                query = ["amtool", "alert", "query", "--output=json", f"--alertmanager.url=http://127.0.0.1:{port}"]
                return [alert["labels"]["incident"] for alert in json.loads(await command(*query))]

            await check_sink(
                registry.sink_adapter("alertmanager"),
                {"type": "alertmanager", "urls": [f"http://127.0.0.1:{port}"]},
                received=received,
                unreachable={"type": "alertmanager", "urls": [f"http://127.0.0.1:{free_port()}"]},
            )
        finally:
            alertmanager.terminate()


async def test_notify_sink_conforms() -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        body = (await request.json())["message"]
        seen.extend(name for name in (f"event-{number}" for number in range(3)) if name in body)
        return web.Response()

    async def received() -> Sequence[str]:
        return seen

    application = web.Application()
    application.router.add_post("/", take)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        await check_sink(
            registry.sink_adapter("notify"),
            {"type": "notify", "url": f"json://127.0.0.1:{port}/"},
            received=received,
            unreachable={"type": "notify", "url": f"json://127.0.0.1:{free_port()}/"},
        )
    finally:
        await runner.cleanup()


async def test_syslog_sink_conforms() -> None:
    seen = b""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while data := await reader.read(65_536):
            seen += data
        writer.close()

    async def received() -> Sequence[str]:
        return [f"event-{number}" for number in range(3) if f'id="event-{number}"'.encode() in seen]

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    options = {"type": "syslog", "host": "127.0.0.1"}
    async with server:
        await check_sink(
            registry.sink_adapter("syslog"),
            options | {"port": server.sockets[0].getsockname()[1]},
            received=received,
            unreachable=options | {"port": free_port()},
        )


async def test_influxdb_sink_conforms() -> None:
    seen = ""

    async def take(request: web.Request) -> web.Response:
        nonlocal seen
        seen += (await request.read()).decode()
        return web.Response(status=204)

    async def received() -> Sequence[str]:
        return [f"event-{number}" for number in range(3) if f'event="event-{number}"' in seen]

    application = web.Application()
    application.router.add_post("/write", take)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    options = {"type": "influxdb", "database": "plant"}
    try:
        await check_sink(
            registry.sink_adapter("influxdb"),
            options | {"url": f"http://127.0.0.1:{port}"},
            received=received,
            unreachable=options | {"url": f"http://127.0.0.1:{free_port()}"},
        )
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    yield from postgres_server()


async def test_postgres_sink_conforms(postgres: Postgres) -> None:
    reader = await postgres.connect()

    async def received() -> Sequence[str]:
        rows = await reader.fetch("SELECT id FROM edge_agent.incident_event")
        return [str(row["id"]) for row in rows]

    try:
        await check_sink(
            registry.sink_adapter("postgres"),
            postgres_options(postgres),
            received=received,
            unreachable=postgres_options(postgres, port=free_port()),
        )
    finally:
        await reader.close()


async def test_mqtt_uplink_conforms(mosquitto: int) -> None:
    base = "edge-agent/v1/plant-4"

    async def nudge(payload: str = '{"counter": 7, "spread_s": 20}') -> None:
        await command("mosquitto_pub", "-p", str(mosquitto), "-q", "1", "-t", f"{base}/canary/nudge", "-m", payload)

    async def told(report: bytes) -> bool:
        topic = f"{base}/gateway-7/ota/status"
        return await command("mosquitto_sub", "-p", str(mosquitto), "-t", topic, "-C", "1", "-W", "1") == report + b"\n"

    options = {"type": "mqtt", "host": "127.0.0.1", "port": mosquitto}
    [hint] = await check_uplink(
        registry.uplink_adapter("mqtt"),
        options,
        nudge=nudge,
        told=told,
        garbage=lambda: nudge("{{{"),
        unreachable=options | {"port": free_port()},
    )
    assert (hint.counter, hint.spread_s) == (7, 20.0)


async def test_hawkbit_uplink_conforms() -> None:
    async with ddi_server() as server:

        async def nudge() -> None:
            server.deployment = ("7", "release-1")

        async def told(report: bytes) -> bool:
            serial = json.loads(report)["serial"]
            return bool(server.feedback) and server.feedback[-1][1]["status"]["execution"] == (
                "proceeding" if serial == 1 else "closed"
            )

        await nudge()  # it asks every ten seconds at most, so the deployment is there before
        options = {"type": "hawkbit", "url": server.url}
        hints = await check_uplink(
            registry.uplink_adapter("hawkbit"),
            options,
            nudge=nudge,
            told=told,
            unreachable=options | {"url": f"http://127.0.0.1:{free_port()}"},
        )
    assert hints[0].counter is None
