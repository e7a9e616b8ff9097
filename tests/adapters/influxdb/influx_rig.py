"""Events with numbers, a sink, and servers that take points: a scripted one, and Debian's."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from edge_adapters.influxdb import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind

S = 10**9
NOW_NS = 1_800_000_000 * S  # 2027-01-15T08:00:00Z


def readings(name: str = "r", time_ns: int = NOW_NS, **sensors: Any) -> Event:
    body = {"tick": 7, "sensors": sensors or {"LIT301": 812.5, "P101": 1.0}, "units": {"LIT301": "mm"}, "agent": "gw"}
    return Event(name, EventKind.READINGS, time_ns, body)


def scores(name: str = "s", time_ns: int = NOW_NS) -> Event:
    body = {"tick": 7, "score": 0.25, "p_value": 0.5, "alarm": False, "sensors": {"LIT301": 1.5}, "agent": "gw"}
    return Event(name, EventKind.SCORES, time_ns, body)


def incident(name: str = "i", time_ns: int = NOW_NS, **changed: Any) -> Event:
    body = {
        "id": "01K",
        "kind": "process",
        "severity": "high",
        "state": "open",
        "summary": 'level "LIT301" = 7 °C\\off\nnow',
        "p_value": 1e-6,
        "score": 7,
        "opened": "2027-01-15T07:59:00.000Z",
        "closed": None,
        "first_mover": "LIT301",
        "areas": ["stage 3"],
        "sensors": [{"sensor": "LIT301", "share": 1.0}],
        "patterns": [{"pattern": "spoof", "techniques": ["T0856"]}],
        "agent": "gw",
    }
    return Event(name, EventKind.INCIDENT, time_ns, body | changed)


def status(name: str = "t") -> Event:
    return Event(name, EventKind.STATUS, NOW_NS, {"what": "clock_jump", "message": "it jumped", "agent": "gw"})


def parsed(url: str = "http://127.0.0.1:1", **options: Any) -> Any:
    target = {} if "bucket" in options else {"database": "plant"}
    return SINK.options.model_validate({"type": "influxdb", "url": url, **target, **options})


class Desk:
    """A sink with its context, clock and metrics."""

    def __init__(self, url: str, **options: Any) -> None:
        self.clock = VirtualClock(NOW_NS)
        self.metrics = Metrics()
        self.context = AdapterContext("series", self.clock, random.Random(1), self.metrics, kind="sink")
        self.sink: Sink = SINK.build(parsed(url, **options), self.context)

    @property
    def refused(self) -> float:
        return self.metrics.sink_parts_lost.labels("series", "refused").value


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Desk]:
    desk = Desk(url, **options)
    try:
        await desk.sink.open()
        yield desk
    finally:
        await desk.sink.close()


class Scripted:
    """A server whose answers are scripted: status, text and headers for the next requests, then 204."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, dict[str, str]]] = []
        self.bad: str | None = None
        self.most_lines = 10**9
        self.requests: list[web.Request] = []
        self.bodies: list[list[str]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        lines = (await request.read()).decode().split("\n")  # unpacked by aiohttp
        self.requests.append(request)
        self.bodies.append(lines)
        if len(lines) > self.most_lines:
            return web.Response(status=413, text="too large")
        if self.bad is not None and any(self.bad in line for line in lines):
            return web.Response(status=400, text='{"code":"invalid","message":"unable to parse"}')
        status, text, headers = self.answers.pop(0) if self.answers else (204, "", {})
        return web.Response(status=status, text=text, headers=headers)


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    server = Scripted()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def database(program: str, arguments: list[str], port: int, folder: Path) -> AsyncIterator[str]:
    """A real server; gives its address."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; `make test` installs it")
    url, log = f"http://127.0.0.1:{port}", folder / f"{program}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([path, *arguments], stdout=out, stderr=out)
    try:
        while not await answers(url):
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait()


async def answers(url: str) -> bool:
    try:
        await get(f"{url}/ping")
    except aiohttp.ClientError:
        return False
    return True


async def get(url: str, **query: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as response:
        return await response.text()


async def post(url: str, data: str = "", **query: str) -> str:
    async with aiohttp.ClientSession() as session, session.post(url, params=query, data=data) as response:
        return await response.text()
