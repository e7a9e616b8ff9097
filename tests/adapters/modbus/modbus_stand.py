"""The test stand: a running source, servers of several kinds, and what they have seen."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_adapters.modbus import SOURCE
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext
from edge_agent.metrics import Metrics
from edge_agent.sample import Batch


class Taken:
    """Keeps what a source emits. With ``room`` given, it takes so many batches and then lets the source wait."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.room = asyncio.Event()
        self.room.set()

    def offer(self, batch: Batch) -> bool:
        if not self.room.is_set():
            return False
        self.batches.append(batch)
        return True

    async def send(self, batch: Batch) -> None:
        await self.room.wait()
        self.batches.append(batch)

    def latest(self) -> dict[str, float]:
        return {
            sensor: float(value)
            for batch in self.batches
            for sensor, value in zip(batch.sensors, batch.values, strict=True)
        }


class Running:
    """A running source with everything it reports to."""

    def __init__(self, taken: Taken, context: AdapterContext, task: asyncio.Task[None]) -> None:
        self.taken = taken
        self.context = context
        self.task = task

    def rejected(self, reason: str) -> float:
        return self.context.metrics.rejected.labels(self.context.name, reason).value

    async def until(self, met: Callable[[], Any], what: str = "condition", deadline_s: float = 10.0) -> None:
        end = time.monotonic() + deadline_s
        while not met():
            if self.task.done():
                self.task.result()
                pytest.fail("the source has ended by itself")
            assert time.monotonic() < end, f"{what} not met; state: {self.context.state}"
            await asyncio.sleep(0.01)

    async def batches(self, count: int) -> list[Batch]:
        await self.until(lambda: len(self.taken.batches) >= count, f"{count} batches")
        return self.taken.batches


def make_context(name: str = "bus") -> AdapterContext:
    return AdapterContext(name, SystemClock(), random.Random(1), Metrics())


@asynccontextmanager
async def running_source(**options: Any) -> AsyncIterator[Running]:
    context = make_context()
    source = SOURCE.build(SOURCE.options.model_validate({"type": "modbus", **options}), context)
    taken = Taken()
    task = asyncio.create_task(source.run(taken), name="modbus source under test")
    try:
        yield Running(taken, context, task)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class ScriptedServer:
    """A TCP server that answers with ``reply(request)``, None being silence, and remembers the requests."""

    def __init__(self, reply: Callable[[bytes], bytes | None]) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        self.drop_connections()
        await self._server.wait_closed()

    def drop_connections(self) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with suppress(ConnectionError):
            while request := await reader.read(1024):
                self.requests.append(request)
                answer = self.reply(request)
                if answer is not None:
                    writer.write(answer)
        writer.close()


def mbap(request: bytes, pdu: bytes, *, transaction: int | None = None, unit: int | None = None) -> bytes:
    """A TCP answer to ``request``, optionally with another transaction or unit."""
    tid = request[0:2] if transaction is None else transaction.to_bytes(2, "big")
    uid = request[6] if unit is None else unit
    return tid + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + bytes([uid]) + pdu


def rtu(frame: bytes) -> bytes:
    """``frame`` with its checksum (Modbus over Serial Line V1.02, appendix B)."""
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return frame + crc.to_bytes(2, "little")


def registers_reply(request: bytes, value: int = 7) -> bytes:
    """A correct answer to a read of registers over TCP."""
    count = int.from_bytes(request[10:12], "big")
    return mbap(request, bytes([request[7], 2 * count]) + value.to_bytes(2, "big") * count)


class SerialCable:
    """Two pseudo terminals connected by socat; it can be unplugged and plugged in again."""

    def __init__(self, folder: Path) -> None:
        self.ends = str(folder / "a"), str(folder / "b")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SerialCable:
        self.plug_in()
        return self

    def __exit__(self, *exc: object) -> None:
        self.unplug()

    def plug_in(self) -> None:
        self._process = subprocess.Popen(["socat", *(f"pty,raw,echo=0,link={end}" for end in self.ends)])
        deadline = time.monotonic() + 5
        while not all(Path(end).exists() for end in self.ends):
            assert time.monotonic() < deadline, "socat did not start"
            time.sleep(0.01)

    def unplug(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class Counterpart:
    """The libmodbus server as a process."""

    def __init__(self, process: subprocess.Popen[str], port: int | None) -> None:
        self._process = process
        self.port = port
        self.functions: list[int] = []

    def stop(self) -> list[int]:
        """Stop it; the function codes that it has seen."""
        self._process.terminate()
        out, _ = self._process.communicate(timeout=5)
        self.functions = [int(line) for line in out.split()]
        return self.functions
