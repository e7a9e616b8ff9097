"""OSCORE (RFC 8613) in both directions; the other side is aiocoap itself, as libcoap 4.3.1 has no OSCORE."""

from __future__ import annotations

import contextlib
import gc
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiocoap
import aiocoap.resource
import pytest
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper
from conftest import Coap, eventually, free_udp_port, running_source

from edge_agent.errors import AdapterError

SERVER = {"path": "/s/{device}"}


def oscore_pair(folder: Path) -> tuple[Path, Path]:
    """Contexts of the two sides: the same secret, the identifiers exchanged."""
    sides = folder / "ours", folder / "theirs"
    for side, sender, recipient in ((sides[0], "01", "02"), (sides[1], "02", "01")):
        side.mkdir()
        settings = {"sender-id_hex": sender, "recipient-id_hex": recipient, "secret_ascii": "0123456789abcdef"}
        (side / "settings.json").write_text(json.dumps(settings))
    return sides


@contextlib.asynccontextmanager
async def device(folder: Path, pattern: str) -> AsyncIterator[aiocoap.Context]:
    context = await aiocoap.Context.create_client_context(transports=["oscore", "udp6"])
    context.client_credentials.load_from_dict({pattern: {"oscore": {"basedir": str(folder)}}})
    try:
        yield context
    finally:
        context.client_credentials.clear()
        await context.shutdown()
        gc.collect()


async def test_protected_readings_are_taken_and_plain_ones_refused(tmp_path: Path, coap: Coap) -> None:
    ours, theirs = oscore_pair(tmp_path)
    async with running_source(server={"resources": [SERVER], "oscore": [str(ours)]}) as source:
        uri = f"coap://127.0.0.1:{source.port}/s/d"
        assert (await coap("put", uri, payload=b"1")).startswith("4.01 expected a request protected by OSCORE or DTLS")
        async with device(theirs, f"coap://127.0.0.1:{source.port}/*") as context:
            for payload in (b"21.5", b"22.5"):
                request = aiocoap.Message(code=aiocoap.PUT, uri=uri, payload=payload, content_format=0)
                response = await context.request(request).response
                assert response.code is aiocoap.CHANGED
    assert [list(batch.values) for batch in source.inbox.batches] == [[21.5], [22.5]]
    assert source.rejected() == {"unprotected": 1}


async def test_plain_readings_are_taken_beside_protected_ones_when_allowed(tmp_path: Path, coap: Coap) -> None:
    ours, _ = oscore_pair(tmp_path)
    server = {"resources": [SERVER], "oscore": [str(ours)], "allow_unprotected": True}
    async with running_source(server=server) as source:
        assert await coap("put", f"coap://127.0.0.1:{source.port}/s/d", payload=b"1") == ""
    assert source.inbox.readings == {"d": 1}


async def test_protected_resource_is_polled(tmp_path: Path) -> None:
    ours, theirs = oscore_pair(tmp_path)
    async with protected_server(theirs) as uri:
        resource = {"uri": uri, "name": "x", "mode": "poll", "interval": "100ms", "oscore": str(ours)}
        async with running_source(client=[resource]) as source:
            await eventually(lambda: len(source.inbox.batches) >= 3)
    assert source.inbox.readings == {"x": 21.5}


async def test_sequence_numbers_survive_a_restart(tmp_path: Path) -> None:
    ours, theirs = oscore_pair(tmp_path)
    async with protected_server(theirs) as uri:
        resource = {"uri": uri, "name": "x", "mode": "poll", "interval": "100ms", "oscore": str(ours)}
        for _ in range(2):
            async with running_source(client=[resource]) as source:
                await eventually(lambda: source.inbox.batches)
            assert source.rejected() == {}
    assert json.loads((ours / "sequence.json").read_text())["next-to-send"] >= 2
    assert not (ours / "lock").exists()


async def test_wrong_secret_is_an_unanswered_resource(tmp_path: Path) -> None:
    ours, theirs = oscore_pair(tmp_path)
    settings = json.loads((ours / "settings.json").read_text())
    (ours / "settings.json").write_text(json.dumps(settings | {"secret_ascii": "another secret.."}))
    async with protected_server(theirs) as uri:
        resource = {"uri": uri, "name": "x", "mode": "poll", "oscore": str(ours)}
        async with running_source(client=[resource]) as source:
            await eventually(lambda: source.rejected().get("no_answer"))
    assert source.inbox.batches == []


async def test_missing_context_folder_is_named() -> None:
    with pytest.raises(AdapterError, match=r"OSCORE context /nowhere: expected a folder with settings\.json"):
        async with running_source(server={"resources": [SERVER], "oscore": ["/nowhere"]}):
            pass


async def test_damaged_context_is_named_and_its_lock_released(tmp_path: Path) -> None:
    ours, _ = oscore_pair(tmp_path)
    (ours / "settings.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(AdapterError, match=r"OSCORE context .*/ours: LoadError: .*missing: sender-id"):
            async with running_source(server={"resources": [SERVER], "oscore": [str(ours)]}):
                pass


async def test_context_in_use_is_said(tmp_path: Path) -> None:
    ours, _ = oscore_pair(tmp_path)
    server: dict[str, Any] = {"resources": [SERVER], "oscore": [str(ours)]}
    async with running_source(server=server):
        with pytest.raises(AdapterError, match="in use by another program"):
            async with running_source(server=server):
                pass


async def test_key_agreement_is_not_offered(tmp_path: Path, coap: Coap) -> None:
    ours, _ = oscore_pair(tmp_path)
    async with running_source(server={"resources": [SERVER], "oscore": [str(ours)]}) as source:
        assert (await coap("post", f"coap://127.0.0.1:{source.port}/.well-known/edhoc", payload=b"\xf5")).startswith(
            "4.04"
        )


async def test_forged_protected_request_is_refused(tmp_path: Path, udp: socket.socket) -> None:
    from test_coap_server import exchange, option

    ours, _ = oscore_pair(tmp_path)
    async with running_source(server={"resources": [SERVER], "oscore": [str(ours)]}) as source:
        for message_id, kid in ((1, b"\x02"), (2, b"\x09")):  # a known and an unknown sender
            oscore = option(9, b"\x09\x00" + kid)
            header = bytes([0x41, 2]) + message_id.to_bytes(2, "big") + b"T"
            answer = await exchange(udp, source.port, header + oscore + b"\xff" + bytes(20))
            assert answer[1] >> 5 == 4
    assert source.inbox.batches == []


class Fixed(aiocoap.resource.Resource):  # type: ignore[misc]
    async def render_get(self, request: Any) -> aiocoap.Message:
        return aiocoap.Message(payload=b"21.5")


@contextlib.asynccontextmanager
async def protected_server(folder: Path) -> AsyncIterator[str]:
    site = aiocoap.resource.Site()
    site.add_resource(["x"], Fixed())
    credentials = CredentialsMap()
    credentials.load_from_dict({":us": {"oscore": {"basedir": str(folder)}}})
    port = free_udp_port()
    context = await aiocoap.Context.create_server_context(
        OscoreSiteWrapper(site, credentials),
        bind=("127.0.0.1", port),
        transports=["udp6"],
        server_credentials=credentials,
    )
    try:
        yield f"coap://127.0.0.1:{port}/x"
    finally:
        credentials.clear()
        await context.shutdown()
        gc.collect()
