"""The Acme adapter against a scale of our own, through the conformance kit; see test_third_party_adapter.py."""

from __future__ import annotations

import asyncio

from edge_agent.registry import source_adapter
from edge_agent.testing import check_source


class Scale:
    """Sends whatever it is told to, to everyone who is connected."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await reader.read()
        self.writers.remove(writer)
        writer.close()

    async def say(self, line: bytes) -> None:
        while not self.writers:
            await asyncio.sleep(0.01)
        self.writers[-1].write(line)


async def main() -> None:
    scale = Scale()
    server = await asyncio.start_server(scale.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        batches = await check_source(
            source_adapter("acme"),
            {"type": "acme", "host": "127.0.0.1", "port": port},
            feed=lambda: scale.say(b"hopper1 21.5\nhopper2 3\n"),
            garbage=lambda: scale.say(b"\xff\xfe rubbish\n"),
            unreachable={"type": "acme", "host": "127.0.0.1", "port": 1},
        )
    print([(batch.sensors, tuple(batch.values)) for batch in batches])


asyncio.run(main())
