"""The uplink against gooseBit, an update server for DDI that we did not write.

It is not among our dependencies (149 MB). To run this test::

    make .cache/goosebit/.installed
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ddi_server import until

from edge_adapters.hawkbit import UPLINK
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext
from edge_agent.metrics import Metrics
from edge_agent.testing import CollectingPort, sample_report

PYTHON = Path(__file__).parents[3] / ".cache" / "goosebit" / "bin" / "python"
USER = {"username": "admin@example.com", "password": "a-long-password"}
TOKEN = "token-of-gateway-7"
RUN = """
import asyncio, sys, uvicorn
from tortoise import Tortoise
from goosebit.db.config import TORTOISE_CONF

async def tables():
    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    await Tortoise.close_connections()

asyncio.run(tables())
from goosebit import app
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
"""

pytestmark = [
    pytest.mark.counterpart,
    pytest.mark.skipif(not PYTHON.exists(), reason="gooseBit is not installed: see the docstring of this module"),
]


def swu(version: str) -> bytes:
    """The smallest image that gooseBit takes: a cpio archive (format 070702) with a `sw-description` alone."""
    description = f'software = {{ version = "{version}"; }}\n'.encode()

    def entry(name: bytes, content: bytes) -> bytes:
        fields = (0, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        head = b"070702" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        head += b"\0" * (-len(head) % 4)
        return head + content + b"\0" * (-len(content) % 4)

    archive = entry(b"sw-description", description) + entry(b"TRAILER!!!", b"")
    return archive + b"\0" * (-len(archive) % 512)


class GooseBit:
    """A running server and its administrator."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def ask(self, method: str, path: str, **arguments: Any) -> Any:
        async with self._session.request(method, f"{self.url}{path}", **arguments) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def deploy(self, version: str) -> None:
        """Offer the release to the gateway."""
        form = aiohttp.FormData()
        form.add_field("file", swu(version), filename=f"{version}.swu")
        software = await self.ask("PUT", "/api/v1/software", data=form)
        change = {"devices": ["gateway-7"], "software": str(software["id"]), "force_update": True}
        await self.ask("PATCH", "/api/v1/devices", json=change)

    async def state(self) -> str:
        """What it knows of the gateway."""
        [device] = (await self.ask("GET", "/api/v1/devices"))["devices"]
        return str(device["last_state"])

    async def log(self) -> str:
        return str((await self.ask("GET", "/api/v1/devices/gateway-7/log"))["log"])


@asynccontextmanager
async def goosebit(folder: Path) -> AsyncIterator[GooseBit]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "GOOSEBIT_DB_URI": f"sqlite://{folder}/db.sqlite3",
        "GOOSEBIT_ARTIFACTS_DIR": str(folder / "artifacts"),
        "GOOSEBIT_POLL_TIME": "00:00:10",
        "GOOSEBIT_DEVICE_AUTH__ENABLE": "true",
        "GOOSEBIT_DEVICE_AUTH__MODE": "strict",
    }
    command = [str(PYTHON), "-c", RUN, str(port)]
    log = folder / "goosebit.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out) as server,
    ):
        try:
            for _ in range(1_000):
                if b"Uvicorn running" in log.read_bytes() or server.poll() is not None:
                    break
                await asyncio.sleep(0.02)
            url = f"http://127.0.0.1:{port}"
            async with aiohttp.ClientSession() as session:
                async with session.post(f"{url}/setup", data=USER) as answer:
                    assert answer.status == 200, log.read_text()
                    session.headers["Authorization"] = f"Bearer {(await answer.json())['access_token']}"
                yield GooseBit(url, session)
        finally:
            server.terminate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("result", "state"), [("committed", "Finished"), ("rolled_back", "Error")], ids=["committed", "rolled back"]
)
async def test_whole_cycle_with_goosebit(tmp_path: Path, result: str, state: str) -> None:
    port = CollectingPort()
    context = AdapterContext("hawkbit", SystemClock(), random.Random(1), Metrics(), kind="uplink")
    async with goosebit(tmp_path) as server:
        await server.ask("PUT", "/api/v1/devices", json={"devices": ["gateway-7"], "auth_token": TOKEN})
        options = {"type": "hawkbit", "url": server.url, "target_token": TOKEN, "poll_every": "10s"}
        port.tell(sample_report(0, "idle", release="release-0"))
        uplink = UPLINK.build(UPLINK.options.model_validate(options), context)
        task = asyncio.create_task(uplink.run(port))
        try:
            await until(lambda: context.state == "connected" or task.done())
            while await server.state() == "Unknown":  # until it has our attributes
                await asyncio.sleep(0.05)
            await server.deploy("1.2.3")
            await until(lambda: port.hints or task.done(), 15)
            while await server.state() != "Running":
                await asyncio.sleep(0.05)
            for serial, phase in enumerate(("downloading", "trial", "idle"), 1):
                report = sample_report(serial, phase, release="1.2.3").replace(b"committed", result.encode())
                port.tell(report)
                await asyncio.sleep(0.1)
            while await server.state() != state:
                await asyncio.sleep(0.05)
            assert f"1.2.3: {result}" in await server.log()
        finally:
            task.cancel()
            await asyncio.wait([task])
