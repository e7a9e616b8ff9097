"""A real mosquitto and a running source, for the tests of the MQTT adapter."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from edge_adapters.mqtt import SINK, SOURCE
from edge_agent.channel import Channel, Full
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, AdapterKind, Sink, Source
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """mosquitto on a free port of the loopback; keeps its port over restarts."""

    def __init__(self, folder: Path, *lines: str, anonymous: bool = True) -> None:
        self.port = free_port()
        self._config = folder / f"mosquitto-{self.port}.conf"
        # Started by root it would become another user, who cannot read the test's files.
        base = ["user root", f"listener {self.port} 127.0.0.1", "set_tcp_nodelay true", "max_queued_messages 0"]
        self._config.write_text("\n".join([*base, f"allow_anonymous {str(anonymous).lower()}", *lines, ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        self._process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            time.sleep(0.01)
        raise TimeoutError("mosquitto did not start")

    def move_to(self, port: int) -> None:
        """Take over the port of a broker that is gone."""
        self._config.write_text(self._config.read_text().replace(str(self.port), str(port)))
        self.port = port

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """As an operator does it: what is persistent is written."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    async def publish(self, topic: str, *payloads: bytes | str, qos: int = 1, arguments: Sequence[str] = ()) -> None:
        """With Debian's client; several payloads must be lines of text."""
        command = ["mosquitto_pub", "-p", str(self.port), "-t", topic, "-q", str(qos), *arguments]
        data = b"".join(
            (line if isinstance(line, bytes) else line.encode()) + (b"\n" if len(payloads) > 1 else b"")
            for line in payloads
        )
        command.append("-l" if len(payloads) > 1 else "-s" if data else "-n")
        await asyncio.to_thread(subprocess.run, command, input=data, check=True, timeout=20)


class Intake:
    """What stands behind an emitter: a channel of the agent."""

    def __init__(self, capacity: int = 10_000, when_full: Full = Full.BLOCK) -> None:
        self.channel: Channel[Batch] = Channel(capacity, when_full)

    def offer(self, batch: Batch) -> bool:
        return self.channel.offer(batch)

    async def send(self, batch: Batch) -> None:
        await self.channel.send(batch)

    async def take(self, count: int, timeout_s: float = 15.0) -> list[Batch]:
        async with asyncio.timeout(timeout_s):
            return [await self.channel.receive() for _ in range(count)]

    async def values(self, count: int, timeout_s: float = 15.0) -> list[float]:
        return [batch.values[0] for batch in await self.take(count, timeout_s)]


def context(*, kind: AdapterKind = "source") -> AdapterContext:
    return AdapterContext("test", SystemClock(), random.Random(7), Metrics(), kind=kind)


def source_options(port: int, **options: Any) -> Any:
    subscription = {"topic": "plant/{area}/{sensor}", "payload": {"value": "$.v"}}
    defaults = {"type": "mqtt", "host": "127.0.0.1", "port": port, "subscriptions": [subscription]}
    return SOURCE.options.model_validate(defaults | {"reconnect_max": "200ms"} | options)


def build_source(port: int, given: AdapterContext, **options: Any) -> Source:
    return SOURCE.build(source_options(port, **options), given)


def build_sink(port: int, given: AdapterContext, **options: Any) -> Sink:
    options = {"type": "mqtt", "host": "127.0.0.1", "port": port} | options
    return SINK.build(SINK.options.model_validate(options), given)


@asynccontextmanager
async def running(source: Source, given: AdapterContext, intake: Intake) -> AsyncIterator[asyncio.Task[None]]:
    """The source as a task, connected; cancelled and awaited at the end."""
    task = asyncio.create_task(source.run(intake))
    try:
        await until(lambda: given.state == "connected" or task.done())
        if task.done():
            task.result()
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            task.result()


async def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def rejected(given: AdapterContext) -> dict[str, int]:
    return {labels[1]: int(child.value) for labels, child in given.metrics.rejected.series()}


def sockets() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return found


class StubbornPublisher:
    """An ordinary paho client with its own thread, which keeps trying; for publishing through an outage."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="publisher", clean_session=False)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._sent, self._published = 0, 0
        self._client.on_publish = self._on_publish

    def _on_publish(self, *_: object) -> None:
        self._published += 1

    async def publish(self, topic: str, numbers: range) -> None:
        for number in numbers:
            self._client.publish(topic, f'{{"v": {number}}}', qos=1)
            self._sent += 1
            await asyncio.sleep(0.001)

    async def finish(self) -> None:
        await until(lambda: self._published == self._sent)
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
