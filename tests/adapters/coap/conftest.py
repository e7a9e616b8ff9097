"""A running CoAP source, libcoap's client and server beside it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_adapters.coap import SOURCE
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch


@dataclass
class Inbox:
    """An emitter that keeps what it is offered, until ``full`` is set."""

    batches: list[Batch] = field(default_factory=list)
    full: bool = False

    def offer(self, batch: Batch) -> bool:
        if not self.full:
            self.batches.append(batch)
        return not self.full

    async def send(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def readings(self) -> dict[str, float]:
        """The newest value of each sensor."""
        return {
            name: float(value)
            for batch in self.batches
            for name, value in zip(batch.sensors, batch.values, strict=True)
        }


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def eventually(condition: Callable[[], Any], within_s: float = 8.0) -> None:
    """Return once ``condition`` holds; fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


@dataclass
class Running:
    """A source that runs, what it emitted and what it counted."""

    inbox: Inbox
    context: AdapterContext
    port: int
    task: asyncio.Task[None]

    def rejected(self) -> dict[str, int]:
        return {labels[1]: int(child.value) for labels, child in self.context.metrics.rejected.series()}


def make_context(name: str = "coap") -> AdapterContext:
    return AdapterContext(name, SystemClock(), random.Random(1), Metrics())


@contextlib.asynccontextmanager
async def running_source(**config: Any) -> AsyncIterator[Running]:
    """Start the source with ``config``; its server, if any, listens on a free port unless it says otherwise."""
    port = free_udp_port()
    if "server" in config:
        config["server"] = {"listen": f"127.0.0.1:{port}", **config["server"]}
    options = SOURCE.options.model_validate({"type": "coap", **config})
    context, inbox = make_context(), Inbox()
    source = SOURCE.build(options, context)
    task = asyncio.create_task(source.run(inbox), name="source under test")
    try:
        if "server" in config:
            await eventually(lambda: context.state == "connected" or task.done())
        if task.done():
            await task
        yield Running(inbox, context, port, task)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks left over: {left}"


Coap = Callable[..., Awaitable[str]]


async def coap_client(method: str, uri: str, *arguments: str, payload: bytes | None = None, tmp: Path) -> str:
    """What libcoap's client prints for one request: the body of a 2.xx answer, or code and diagnostic."""
    command = ["coap-client-notls", "-B", "4", "-m", method, *arguments]
    if payload is not None:
        body = tmp / "body"
        body.write_bytes(payload)
        command += ["-f", str(body)]
    process = await asyncio.create_subprocess_exec(
        *command, uri, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode(errors="replace").strip()


@pytest.fixture
def coap(tmp_path: Path) -> Coap:
    """``await coap("post", uri, "-t", "50", payload=b"…")``."""

    async def call(method: str, uri: str, *arguments: str, payload: bytes | None = None) -> str:
        return await coap_client(method, uri, *arguments, payload=payload, tmp=tmp_path)

    return call


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    """A plain socket, for datagrams that no CoAP library would send."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(3)
        yield sock


@contextlib.asynccontextmanager
async def libcoap_server(port: int, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """``coap-server-notls`` on ``port``, once it answers."""
    process = await asyncio.create_subprocess_exec(
        "coap-server-notls", "-A", "127.0.0.1", "-p", str(port), *arguments,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await eventually(lambda: _answers(port))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.05)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(bytes.fromhex("40000001"))  # CoAP ping, answered with Reset
            return sock.recv(64)[0] >> 4 == 7
        except OSError:
            return False
