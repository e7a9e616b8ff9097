"""A TCP proxy that treats connections badly: cuts them, flips bits, swallows everything, or dawdles."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class FaultProxy:
    """What is set counts for each connection, for what comes back from the server. ``passed`` counts all of it."""

    def __init__(self, port_behind: int) -> None:
        self._port_behind = port_behind
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.cut_after: int | None = None
        self.flip_at: int | None = None
        self.swallow_after: int | None = None
        self.pause_s = 0.0
        self.connections = 0
        self.passed = 0
        self.origin = ""

    async def __aenter__(self) -> FaultProxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._port_behind)
        pair = {writer, behind_writer}
        self._open |= pair
        try:
            with suppress(ConnectionError):
                await asyncio.gather(self._up(reader, behind_writer), self._down(behind_reader, writer))
        finally:
            self._open -= pair
            for each in pair:
                each.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := bytearray(await reader.read(4096)):
            if self.swallow_after is not None and passed >= self.swallow_after:
                continue
            if self.cut_after is not None and passed + len(data) > self.cut_after:
                data = data[: self.cut_after - passed]
            if self.flip_at is not None and passed <= self.flip_at < passed + len(data):
                data[self.flip_at - passed] ^= 1
            passed += len(data)
            self.passed += len(data)
            writer.write(data)
            await writer.drain()
            if passed == self.cut_after:
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(self.pause_s)
        writer.close()
