"""DTLS pre-shared keys against libcoap over GnuTLS; only where DTLSSocket is installed (it is built from source)."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import eventually, free_udp_port, running_source

from edge_agent.errors import AdapterError

DEVICE = {"path": "/s/{device}"}
KEY = {"identity": "dev1", "key": "secretPSK"}
installed = importlib.util.find_spec("DTLSSocket") is not None
needs_dtls = pytest.mark.skipif(not installed, reason="DTLSSocket is not installed (pip install 'aiocoap[tinydtls]')")


@pytest.mark.skipif(installed, reason="DTLSSocket is installed")
@pytest.mark.parametrize("direction", ["server", "client"])
async def test_missing_package_is_named(direction: str) -> None:
    config = {
        "server": {"server": {"resources": [DEVICE], "dtls": [KEY]}},
        "client": {"client": [{"uri": "coaps://127.0.0.1/x", "dtls": KEY}]},
    }
    with pytest.raises(AdapterError, match=r"DTLS needs the package DTLSSocket, .*: pip install 'aiocoap\[tinydtls\]'"):
        async with running_source(**config[direction]) as source:
            await source.task


async def gnutls_client(port: int, identity: str, key: str, body: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "coap-client-gnutls", "-B", "3", "-u", identity, "-k", key, "-m", "put", "-t", "0", "-f", str(body),
        f"coaps://127.0.0.1:{port}/s/d", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return out.decode()


@needs_dtls
@pytest.mark.counterpart
async def test_device_with_the_key_is_served_and_others_are_not(tmp_path: Path, udp: socket.socket) -> None:
    body = tmp_path / "body"
    body.write_text("21.5")
    async with running_source(server={"resources": [DEVICE], "dtls": [KEY]}) as source:
        await gnutls_client(source.port + 1, "dev1", "wrong", body)
        for _ in range(200):
            udp.sendto(b"\x16\xfe\xfd garbage", ("127.0.0.1", source.port + 1))
        assert source.inbox.batches == []
        await gnutls_client(source.port + 1, "dev1", "secretPSK", body)
        assert source.inbox.readings == {"d": 21.5}


@contextlib.asynccontextmanager
async def gnutls_server(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        "coap-server-gnutls", "-A", "127.0.0.1", "-p", str(port), "-k", "secretPSK", "-d", "3",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.kill()
        await process.wait()


@needs_dtls
@pytest.mark.counterpart
async def test_device_is_polled_over_dtls() -> None:
    port = free_udp_port()
    resource = {"uri": f"coaps://127.0.0.1:{port + 1}/time?ticks", "name": "x", "mode": "poll", "interval": "100ms"}
    async with gnutls_server(port), running_source(client=[resource | {"dtls": KEY}], retry_max="300ms") as source:
        await eventually(lambda: len(source.inbox.batches) >= 3)
