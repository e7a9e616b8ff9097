"""Where the API listens, and what is refused before it does."""

import os
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from fake_agent import FakeAgent
from pydantic import ValidationError
from served_api import Serve, url

from edge_agent.api.address import TcpAddress, UnixAddress, parse_address
from edge_agent.api.options import ApiOptions
from edge_agent.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8470", TcpAddress("127.0.0.1", 8470)),
        ("localhost:0", TcpAddress("127.0.0.1", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("0.0.0.0:80", TcpAddress("0.0.0.0", 80)),
        ("unix:/run/a.sock", UnixAddress("/run/a.sock")),
    ],
)
def test_address_is_read(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1:8470", "[::1]:65535", "unix:/run/a.sock"])
def test_address_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "8470", ":8470", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:²"),
        *("::1:8470", "[127.0.0.1]:1", "gateway:8470", "127.1:80", "http://127.0.0.1:1"),
        *("unix:", "unix:relative", "unix:/" + "a" * 107),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected an"):
        ApiOptions(listen=text)


@pytest.mark.parametrize("listen", ["0.0.0.0:8470", "[::]:8470", "192.168.1.5:8470"])
def test_address_that_others_can_reach_must_be_meant(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"which other machines can reach; .* set `allow_remote: true`"):
        ApiOptions(listen=listen)
    assert ApiOptions(listen=listen, allow_remote=True).address == parse_address(listen)


@pytest.mark.parametrize("token", ["", "fifteen-letters", "with space in the token", "tökentökentökentöken", "x" * 513])
def test_weak_token_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(ValidationError, match="expected at least 16 printable ASCII characters") as caught:
        ApiOptions.model_validate({"token": token})
    assert "openssl rand -hex 32" in str(caught.value)


@pytest.mark.parametrize("host", ["", "a:80", "*", "http://a", "-a", "a b", "a" * 254])
def test_wrong_host_name_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="expected a host name without port"):
        ApiOptions(hosts=(host,))


async def test_taken_port_is_said_with_what_to_do(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            await serve(listen=f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"api.listen: cannot listen on 127.0.0.1:{port}: it is in use, perhaps by another edge-agent; "
        "stop that one or choose another address"
    )


async def test_address_of_another_machine_is_said(serve: Serve) -> None:
    with pytest.raises(ConfigError, match="this machine has no such address"):
        await serve(listen="192.0.2.1:8470", allow_remote=True)


async def test_port_is_free_again_after_stop(serve: Serve, http: aiohttp.ClientSession) -> None:
    server = await serve()
    async with http.get(url(server, "/livez")) as answer:
        assert answer.status == 200
    await server.stop()
    again = await serve(listen=str(server.address))
    assert again.address == server.address


async def test_ipv6_loopback_answers(serve: Serve, http: aiohttp.ClientSession) -> None:
    async with http.get(url(await serve(listen="[::1]:0"), "/livez")) as answer:
        assert answer.status == 200


async def test_unix_socket_answers_whatever_the_host_is_called(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    await serve(listen=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)))
    async with session, session.get("http://anything/livez") as answer:
        assert answer.status == 200


async def test_unix_socket_is_gone_after_stop(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    server = await serve(listen=f"unix:{path}")
    await server.stop()
    assert not path.exists()


async def test_stale_unix_socket_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    await serve(listen=f"unix:{path}")


async def test_unix_socket_in_use_is_left_alone(serve: Serve, tmp_path: Path) -> None:
    listen = f"unix:{tmp_path / 'api.sock'}"
    await serve(listen=listen)
    with pytest.raises(ConfigError, match="it is in use, perhaps by another edge-agent"):
        await serve(listen=listen)


async def test_file_that_is_no_socket_is_never_deleted(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigError, match="it is in use"):
        await serve(listen=f"unix:{path}")
    assert path.read_text() == "data"


async def test_folder_that_is_missing_is_said(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the folder does not exist"):
        await serve(listen=f"unix:{tmp_path / 'none' / 'api.sock'}")


async def test_stop_before_and_after_start_is_harmless(serve: Serve, agent: FakeAgent) -> None:
    server = await serve()
    await server.stop()
    await server.stop()


def test_options_module_does_not_load_the_http_library() -> None:
    import subprocess
    import sys

    code = "import sys, edge_agent.api.options, edge_agent.api.client; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})
