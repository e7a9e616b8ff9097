"""The Acme line protocol."""

from __future__ import annotations

import asyncio

from acme_edge.options import AcmeOptions
from edge_agent.contract import AdapterContext, Emitter
from edge_agent.errors import RetryableAdapterError
from edge_agent.sample import Batch


class AcmeSource:
    """One connection; the agent makes a new one after each failure."""

    def __init__(self, options: AcmeOptions, context: AdapterContext) -> None:
        self._options = options
        self._context = context
        self._where = f"{options.host}:{options.port}"

    async def run(self, emit: Emitter) -> None:
        try:
            async with asyncio.timeout(self._options.timeout):
                reader, writer = await asyncio.open_connection(self._options.host, self._options.port)
        except OSError as error:  # TimeoutError is one too
            raise RetryableAdapterError(f"{self._where}: {error or 'no answer'}") from error
        self._context.connected(self._where)
        try:
            await self._read(reader, emit)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, emit: Emitter) -> None:
        try:
            while line := await reader.readline():
                batch = self._decoded(line)
                if batch is not None:
                    await emit.send(batch)  # waits while the agent is full; the scale waits with us
        except (OSError, ValueError) as error:  # ValueError: a line longer than 64 KiB
            raise RetryableAdapterError(f"{self._where}: {error}") from error
        raise RetryableAdapterError(f"{self._where}: closed the connection")

    def _decoded(self, line: bytes) -> Batch | None:
        name, _, value = line.decode("ascii", "replace").strip().partition(" ")
        try:
            number = float(value)
        except ValueError:
            self._context.reject("malformed", f"got {line[:80]!r}, expected a name and a number")
            return None
        return Batch((name,), (number,), self._context.clock.monotonic_ns())
