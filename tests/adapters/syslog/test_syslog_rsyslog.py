"""The syslog sink against Debian's rsyslogd."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from syslog_rig import incident_event, opened, status_event

from edge_agent.errors import RetryableAdapterError

RSYSLOGD = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin")
pytestmark = [
    pytest.mark.counterpart,
    pytest.mark.timeout(60),
    pytest.mark.skipif(RSYSLOGD is None, reason="rsyslogd is not installed; `make test` installs it"),
]
FIELDS = (
    "syslogfacility-text",
    "syslogseverity-text",
    "timegenerated",
    "hostname",
    "app-name",
    "msgid",
    "structured-data",
)
LAYOUT = "".join(f"%{name}%\\t" for name in FIELDS).replace("timegenerated", "timereported:::date-rfc3339") + "%msg%\\n"


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Rsyslogd:
    """One rsyslogd, listening as ``listen`` says; what it receives it writes to a file, a line a message."""

    def __init__(self, folder: Path, listen: str) -> None:
        self.out = folder / "received"
        self._folder = folder
        self._config = folder / "rsyslog.conf"
        self._config.write_text(
            f'global(workDirectory="{folder}" maxMessageSize="64k")\n{listen}\n'
            f'template(name="fields" type="string" string="{LAYOUT}")\n'
            f'action(type="omfile" file="{self.out}" template="fields" asyncWriting="off")\n'
        )
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, listens: Callable[[], Awaitable[bool]]) -> None:
        assert RSYSLOGD is not None
        log = (self._folder / "log").open("ab")
        command = [RSYSLOGD, "-n", "-f", str(self._config), "-i", str(self._folder / "pid")]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        log.close()
        while not await listens():
            assert self.process.poll() is None, (self._folder / "log").read_text()
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    async def received(self, count: int) -> list[dict[str, str]]:
        """Its messages, once there are ``count``."""
        while not self.out.exists() or len(lines := self.out.read_text().splitlines()) < count:
            await asyncio.sleep(0.01)
        return [dict(zip((*FIELDS, "msg"), line.split("\t"), strict=True)) for line in lines]


@asynccontextmanager
async def rsyslogd(folder: Path, listen: str, listens: Callable[[], Awaitable[bool]]) -> AsyncIterator[Rsyslogd]:
    one = Rsyslogd(folder, listen)
    try:
        await one.start(listens)
        yield one
    finally:
        one.stop()


def tcp(port: int) -> tuple[str, Callable[[], Awaitable[bool]]]:
    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    return f'module(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="{port}")', listens


def udp(port: int) -> tuple[str, Callable[[], Awaitable[bool]]]:
    async def listens() -> bool:
        return f" 0100007F:{port:04X} " in Path("/proc/net/udp").read_text()

    return f'module(load="imudp")\ninput(type="imudp" address="127.0.0.1" port="{port}")', listens


@pytest.mark.parametrize("framing", ["octet_counting", "newline"])
async def test_rsyslog_reads_every_field_over_tcp(tmp_path: Path, framing: str) -> None:
    port = free_port()
    async with rsyslogd(tmp_path, *tcp(port)) as far, opened(port=port, framing=framing) as sink:
        await sink.deliver([incident_event("a", summary='7 °C "off" ] \\'), status_event("b")])
        first, second = await far.received(2)
    assert first["syslogfacility-text"] == "local0"
    assert first["syslogseverity-text"] == "err"
    assert first["timegenerated"] == "2027-01-15T08:00:00.125Z"
    assert (first["hostname"], first["app-name"], first["msgid"]) == ("gateway-7", "edge-agent", "incident")
    assert 'id="a" agent="gateway-7" incident="01KINCIDENT"' in first["structured-data"]
    assert first["msg"].startswith('[high open] 7 °C "off" ] \\ (sensors LIT301 75%')
    assert second["msg"] == "the wall clock jumped"


async def test_rsyslog_reads_every_field_over_udp(tmp_path: Path) -> None:
    port = free_port(socket.SOCK_DGRAM)
    async with rsyslogd(tmp_path, *udp(port)) as far, opened(port=port, transport="udp", format="cef") as sink:
        await sink.deliver([incident_event("a"), status_event("b")])
        first, second = await far.received(2)
    assert first["msg"].startswith("CEF:0|edge-graph-agent|edge-agent|")
    assert second["msgid"] == "status"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
async def test_over_tls_only_to_a_receiver_that_is_trusted(tmp_path: Path) -> None:
    if not list(Path("/usr/lib").glob("*/rsyslog/lmnsd_gtls.so")):
        pytest.skip("rsyslog-gnutls is not installed; `make test` installs it")
    cert, key = self_signed(tmp_path)
    port = free_port()
    _, listens = tcp(port)
    listen = (
        f'global(defaultNetstreamDriverCAFile="{cert}" defaultNetstreamDriverCertFile="{cert}" '
        f'defaultNetstreamDriverKeyFile="{key}")\n'
        'module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")\n'
        f'input(type="imtcp" address="127.0.0.1" port="{port}")'
    )
    options = {"port": port, "transport": "tls", "format": "ocsf"}
    async with rsyslogd(tmp_path, listen, listens) as far:
        async with opened(**options, tls={"ca_file": cert}) as sink:
            await sink.deliver([incident_event("a")])
            [message] = await far.received(1)
        with pytest.raises(RetryableAdapterError, match="its certificate is not trusted"):
            async with opened(**options):
                pass
        with pytest.raises(RetryableAdapterError, match="its certificate is not trusted"):
            async with opened(**options, tls={"ca_file": cert, "server_name": "other.example"}):
                pass
    assert json.loads(message["msg"])["metadata"]["uid"] == "a"


async def test_what_is_sent_while_rsyslog_restarts_arrives(tmp_path: Path) -> None:
    port = free_port()
    listen, listens = tcp(port)
    async with rsyslogd(tmp_path, listen, listens) as far, opened(port=port, retry_max="50ms") as sink:
        await sink.deliver([status_event("a")])
        await far.received(1)
        assert far.process is not None
        far.process.kill()
        far.process.wait()
        with pytest.raises(RetryableAdapterError):
            await sink.deliver([status_event("b")])
        await far.start(listens)
        await sink.deliver([status_event("b"), status_event("c")])
        while len({line["structured-data"].split('id="', 1)[1][0] for line in await far.received(2)}) < 3:
            await asyncio.sleep(0.01)


def self_signed(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=receiver "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key
