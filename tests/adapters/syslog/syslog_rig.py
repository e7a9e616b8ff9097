"""Events to tell, a sink to tell them, and a receiver that plays what real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

from edge_adapters.syslog import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.metrics import Metrics
from edge_agent.verdict import (
    Contribution,
    Event,
    EventKind,
    Incident,
    IncidentKind,
    IncidentState,
    PatternMatch,
    Severity,
)

S = 10**9
NOW_NS = 1_800_000_000 * S  # 2027-01-15T08:00:00Z
_PATIENCE_S = (
    15.0  # below the limit of a test, which uvloop does not let through (it logs what a signal handler raises)
)


def incident(**changed: Any) -> Incident:
    given: dict[str, Any] = {
        "id": "01KINCIDENT",
        "kind": IncidentKind.PROCESS,
        "state": IncidentState.OPEN,
        "severity": Severity.HIGH,
        "opened_ns": NOW_NS - 60 * S,
        "updated_ns": NOW_NS,
        "closed_ns": None,
        "first_tick": 1,
        "last_tick": 61,
        "p_value": 1.25e-6,
        "score": 7.5,
        "summary": 'LIT301 rises 4.1 mm/s while "FIT201" says inflow is off',
        "contributions": (
            Contribution("FIT201", 0.25, 3.0, 0.0, 2.5, "m3/h", "low"),
            Contribution("LIT301", 0.75, 9.0, 812.0, 640.5, "mm", "high"),
        ),
        "first_mover": "LIT301",
        "areas": ("stage 3",),
        "patterns": (PatternMatch("spoof", "Spoofed reporting", ("T0856", "T0831"), 0.8, ("freeze",)),),
    }
    return Incident(**{**given, **changed})


def incident_event(name: str = "01KEVENT", *, replayed: bool = False, **changed: Any) -> Event:
    body = incident(**changed).to_dict() | {"agent": "gateway-7"}
    return Event(name, EventKind.INCIDENT, NOW_NS + 125_000_000, body, replayed)


def status_event(name: str = "01KSTATUS", message: str = "the wall clock jumped") -> Event:
    body = {"what": "clock_jump", "message": message, "agent": "gateway-7"}
    return Event(name, EventKind.STATUS, NOW_NS, body)


def parsed(**options: Any) -> Any:
    return SINK.options.model_validate({"type": "syslog", "host": "127.0.0.1", **options})


def new_context() -> AdapterContext:
    return AdapterContext("siem", VirtualClock(NOW_NS), random.Random(1), Metrics(), kind="sink")


def built(context: AdapterContext, **options: Any) -> Sink:
    return SINK.build(parsed(**options), context)


@contextlib.asynccontextmanager
async def opened(context: AdapterContext | None = None, **options: Any) -> AsyncIterator[Sink]:
    sink = built(context or new_context(), **options)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


class Receiver:
    """A receiver over TCP: what it has read, connection by connection."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.port = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._news = asyncio.Event()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self, *, reset: bool = False) -> None:
        """End in order (FIN), or as a process does that is killed with unread data in its socket (RST)."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            if reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        self._writers.clear()

    async def connections(self, count: int) -> None:
        await self._until(lambda: len(self.read) >= count, f"{count} connections")

    async def has(self, text: bytes, connection: int = -1) -> None:
        await self._until(lambda: bool(self.read) and text in self.read[connection], repr(text))

    async def _until(self, met: Callable[[], bool], expected: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while not met():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            sizes = [len(part) for part in self.read]
            raise AssertionError(
                f"expected {expected} within {_PATIENCE_S:g} s; bytes by connection: {sizes}"
            ) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        place = len(self.read)
        self.read.append(b"")
        self._writers.append(writer)
        self._news.set()
        with contextlib.suppress(ConnectionError):
            while self.reading.is_set() and (data := await reader.read(65_536)):
                self.read[place] += data
                self._news.set()
        if self.reading.is_set():
            writer.close()


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    await one.start()
    try:
        yield one
    finally:
        await one.stop()
