"""What changes the agent: who may, how, and what goes wrong."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fake_agent import FakeAgent
from served_api import TOKEN, Serve, raw, url

from edge_agent.api.routes import ROUTES
from edge_agent.options import Secret

BEARER = {"Authorization": f"Bearer {TOKEN}"}
JSON = {**BEARER, "Content-Type": "application/json"}
BINARY = {**BEARER, "Content-Type": "application/octet-stream"}
EMPTY = {"type": "object", "maxProperties": 0}
CHANGES = [route.path.replace("{id}", "01J") for route in ROUTES if route.changes]


async def post(
    http: aiohttp.ClientSession, address: str, body: Any = b"{}", headers: dict[str, str] = JSON
) -> tuple[int, dict[str, Any]]:
    async with http.post(address, data=body, headers=headers) as answer:
        return answer.status, await answer.json()


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
    ],
)
async def test_wrong_token_changes_nothing(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, path: str, authorization: str | None
) -> None:
    headers = {"Content-Type": "application/json"} | ({} if authorization is None else {"Authorization": authorization})
    async with http.post(url(await serve(), path), data=b'{"path": "/b"}', headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert "Authorization: Bearer TOKEN" in (await answer.json())["error"]
    assert not agent.calls


async def test_token_that_is_not_ascii_is_refused_not_a_crash(serve: Serve, agent: FakeAgent) -> None:
    request = (
        b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n"
    )
    answer = await raw(
        await serve(), request + b"Content-Type: application/json\r\nConnection: close\r\n\r\n", end=False
    )
    assert answer.split(b" ", 2)[1] in (b"400", b"401")
    assert not agent.calls


@pytest.mark.parametrize("path", CHANGES)
async def test_without_any_token_changes_are_off_and_it_says_how_to_switch_on(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, path: str
) -> None:
    status, body = await post(http, url(await serve(token=None), path), b'{"path": "/b"}')
    assert status == 403
    assert "set the option api.token" in body["error"]
    assert not agent.calls


async def test_local_token_opens_besides_the_configured_one(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve(local_token=Secret("the-one-in-the-data-folder"))
    for token in (TOKEN, "the-one-in-the-data-folder"):
        headers = {**JSON, "Authorization": f"bearer {token}"}
        assert (await post(http, url(server, "/api/v1/reload"), headers=headers))[0] == 200


async def test_refused_attempts_are_logged_once_a_minute_without_the_token(
    serve: Serve, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    for _ in range(5):
        await post(http, url(server, "/api/v1/reload"), headers={**JSON, "Authorization": "Bearer guessed-wrong"})
    assert caplog.text.count("refused: wrong or no token") == 1
    assert "guessed-wrong" not in caplog.text


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
async def test_types_that_a_web_form_can_send_are_refused(
    serve: Serve, agent: FakeAgent, content_type: str | None
) -> None:
    line = f"Content-Type: {content_type}\r\n" if content_type else ""
    request = f"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n{line}"
    answer = await raw(
        await serve(), f"{request}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode(), end=False
    )
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"expected application/json" in answer
    assert not agent.calls


async def test_swap_by_path_reaches_the_agent_with_the_actor(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    status, body = await post(http, url(await serve(), "/api/v1/model"), b'{"path": "/srv/bundle"}')
    assert (status, body) == (200, {"name": "site", "version": "2.0.0"})
    assert agent.calls == [("swap", "/srv/bundle", "api client 127.0.0.1")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"null",
        b"{}",
        b'{"path": 1}',
        b'{"path": "relative"}',
        b'{"path": "/a\\u0000b"}',
        b'{"path": "/a", "force": true}',
        b'{"path": "' + b"/a" * 5000 + b'"}',
        b"[" * 60_000,
        b'{"a":' * 12_000,
    ],
)
async def test_body_that_is_not_understood_is_refused(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, body: bytes
) -> None:
    status, answer = await post(http, url(await serve(), "/api/v1/model"), body)
    assert status == 400
    assert answer["error"].startswith("body: ")
    assert not agent.calls


async def test_json_body_beyond_the_limit_is_refused(serve: Serve, http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, url(await serve(), "/api/v1/reload"), b'{"a":"' + b"x" * 100_000 + b'"}')
    assert status == 413
    assert "Maximum request body size 65536 exceeded" in answer["error"]


@pytest.mark.parametrize(
    "path", [route.path for route in ROUTES if dict(route.bodies).get("application/json") == EMPTY]
)
async def test_keys_that_mean_nothing_are_refused(serve: Serve, http: aiohttp.ClientSession, path: str) -> None:
    status, answer = await post(http, url(await serve(), path), b'{"to": 1}')
    assert (status, answer["error"]) == (400, "body: got key 'to', expected an empty JSON object")


async def test_upload_arrives_complete_and_is_deleted_afterwards(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, tmp_path: Path
) -> None:
    bundle = bytes(range(256)) * 8000
    status, _ = await post(http, url(await serve(), "/api/v1/model"), io.BytesIO(bundle), BINARY)
    assert status == 200
    assert agent.uploaded == bundle
    assert Path(agent.calls[0][1]).parent == tmp_path / "uploads"
    assert list((tmp_path / "uploads").iterdir()) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent, tmp_path: Path, chunked: bool
) -> None:
    async def pieces() -> Any:
        for _ in range(30):
            yield b"x" * 10_000

    body = pieces() if chunked else b"x" * 300_000
    status, answer = await post(http, url(await serve(max_bundle="100kB"), "/api/v1/model"), body, BINARY)
    assert (status, answer["error"]) == (413, "upload: larger than 100000 bytes (option api.max_bundle)")
    assert not agent.calls
    assert not (tmp_path / "uploads").exists() or list((tmp_path / "uploads").iterdir()) == []


async def test_empty_upload_is_refused(serve: Serve, http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, url(await serve(), "/api/v1/model"), b"", BINARY)
    assert (status, answer["error"]) == (400, "upload: got an empty body, expected a model bundle (tar)")


async def test_upload_that_breaks_off_leaves_nothing(serve: Serve, agent: FakeAgent, tmp_path: Path) -> None:
    server = await serve()
    head = f"POST /api/v1/model HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: application/octet-stream\r\nContent-Length: 50000\r\n\r\n"
    await raw(server, head.encode() + b"x" * 20_000)
    async with asyncio.timeout(5):
        while (tmp_path / "uploads").exists() and list((tmp_path / "uploads").iterdir()):
            await asyncio.sleep(0.01)
    assert not agent.calls


async def test_upload_where_nothing_can_be_stored_says_so(
    serve: Serve, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    server = await serve()
    (tmp_path / "uploads").write_text("a file is in the way")
    status, answer = await post(http, url(server, "/api/v1/model"), b"x", BINARY)
    assert status == 507
    assert "upload cannot be stored in" in answer["error"]


async def test_uploads_left_by_a_crash_are_deleted_at_start(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "upload-abc.bundle.tar").write_bytes(b"half")
    await serve()
    assert list((tmp_path / "uploads").iterdir()) == []


async def test_corrupt_bundle_is_422_with_the_reason(serve: Serve, http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, url(await serve(), "/api/v1/model"), b'{"path": "/corrupt"}')
    assert status == 422
    assert answer["error"].startswith("bundle /corrupt: model.onnx: sha256 does not match")


async def test_refused_by_the_agent_keeps_its_status(serve: Serve, http: aiohttp.ClientSession) -> None:
    status, answer = await post(http, url(await serve(), "/api/v1/model/rollback"))
    assert (status, answer) == (409, {"error": "there is no previous model"})


async def test_broken_configuration_is_422_with_every_problem(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    agent.broken = True
    status, answer = await post(http, url(await serve(), "/api/v1/reload"))
    assert status == 422
    assert "edge.yaml:3: sources.plc.port" in answer["error"]


async def test_second_change_at_the_same_time_is_refused(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve()
    agent.release.clear()
    first = asyncio.create_task(post(http, url(server, "/api/v1/model"), b'{"path": "/a"}'))
    while not agent.calls:
        await asyncio.sleep(0.005)
    status, answer = await post(http, url(server, "/api/v1/reload"))
    assert (status, answer["error"]) == (409, "another change is in progress; try again when it is done")
    agent.release.set()
    assert (await first)[0] == 200
    assert (await post(http, url(server, "/api/v1/reload")))[0] == 200


async def test_change_that_takes_too_long_is_cancelled_and_said(
    serve: Serve, http: aiohttp.ClientSession, agent: FakeAgent
) -> None:
    server = await serve(change_timeout="1s")
    agent.release.clear()
    status, answer = await post(http, url(server, "/api/v1/model"), b'{"path": "/a"}')
    assert status == 504
    assert "api.change_timeout" in answer["error"]
    agent.release.set()
    assert (await post(http, url(server, "/api/v1/reload")))[0] == 200


async def test_change_goes_on_when_the_client_hangs_up(
    serve: Serve, agent: FakeAgent, http: aiohttp.ClientSession
) -> None:
    server = await serve()
    agent.release.clear()
    body = json.dumps({"path": "/a"})
    head = f"POST /api/v1/model HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    reader, writer = await asyncio.open_connection(server.address.host, server.address.port)  # type: ignore[union-attr]
    writer.write(head.encode())
    while not agent.calls:
        await asyncio.sleep(0.005)
    writer.close()
    await writer.wait_closed()
    del reader
    status, _ = await post(http, url(server, "/api/v1/reload"))
    assert status == 409
    agent.release.set()
    async with asyncio.timeout(5):
        while (await post(http, url(server, "/api/v1/reload")))[0] != 200:
            await asyncio.sleep(0.01)
