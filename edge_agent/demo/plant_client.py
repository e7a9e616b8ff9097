"""Starts the plant as a process of its own and talks to it over its control channel (see ``serve``)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson

from edge_agent.demo.wiring import Address, Wiring
from edge_agent.errors import EdgeAgentError

_START_WITHIN_S = 30.0
_STOP_WITHIN_S = 5.0


class PlantProcess:
    """The served plant. It ends with the standard input we hold, so it cannot outlive us."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self.log = log

    @classmethod
    async def start(cls, *options: str, log: Path) -> PlantProcess:
        """Start the process; :meth:`ready` waits until its sockets are open. Its complaints go to the file ``log``."""
        command = [sys.executable, "-m", "edge_agent.demo.serve", *options]
        pipe = asyncio.subprocess.PIPE
        with log.open("ab") as complaints:
            # A session of its own: Ctrl-C reaches us alone, and we stop the plant in order.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=complaints, start_new_session=True
            )
        return cls(process, log)

    async def ready(self) -> Wiring:
        """Where the plant is reached. :raises EdgeAgentError: it did not start, or not in time."""
        try:
            async with asyncio.timeout(_START_WITHIN_S):
                message = await self._message()
        except TimeoutError as error:
            raise EdgeAgentError(f"the simulated plant did not start within {_START_WITHIN_S:g} s") from error
        if message is None or message.get("event") != "ready":
            code = await self._process.wait()
            raise EdgeAgentError(f"the simulated plant did not start (exit code {code}); {self.log} tells why")
        return Wiring(**{name: Address(**message[name]) for name in ("modbus", "coap", "mqtt", "agent")})

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the plant tells, until it ends."""
        while (message := await self._message()) is not None:
            yield message

    def say(self, command: str) -> None:
        """Send one command line, such as ``attack replay 60``."""
        if self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(command.encode() + b"\n")

    async def stop(self) -> None:
        """End the process: first politely, then not."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _message(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return dict(orjson.loads(line)) if line else None
