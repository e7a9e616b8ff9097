"""TLS against a real mosquitto."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mqtt_certificates import Authority
from mqtt_rig import Broker, Intake, build_source, context, running, sockets

from edge_agent.errors import AdapterError, RetryableAdapterError

pytestmark = pytest.mark.counterpart


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def start_tls_broker(start_broker: Callable[..., Broker], authority: Authority) -> Callable[..., Broker]:
    def start(*lines: str, **certificate: Any) -> Broker:
        cert_file, key_file = authority.issue("broker", **certificate)
        return start_broker(f"certfile {cert_file}", f"keyfile {key_file}", *lines)

    return start


async def refused(port: int, **options: Any) -> AdapterError:
    before = sockets()
    with pytest.raises(AdapterError) as caught:
        await build_source(port, context(), **options).run(Intake())
    assert sockets() == before
    return caught.value


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_messages_arrive_over_tls(
    start_tls_broker: Callable[..., Broker], authority: Authority, version: str
) -> None:
    broker = start_tls_broker()
    given, intake = context(), Intake(capacity=3)
    options = {"tls": {"ca_file": authority.ca_file}, "version": version}
    async with running(build_source(broker.port, given, **options), given, intake):
        lines = [f'{{"v": {number}}}' for number in range(200)]
        arguments = ["--cafile", str(authority.ca_file), "-h", "127.0.0.1"]
        await broker.publish("plant/a/b", *lines, b'{"v": 200, "fill": "' + b"x" * 100_000 + b'"}', arguments=arguments)
        assert await intake.values(201) == list(range(201))


async def test_client_certificate_is_shown(start_tls_broker: Callable[..., Broker], authority: Authority) -> None:
    broker = start_tls_broker(f"cafile {authority.ca_file}", "require_certificate true")
    cert_file, key_file = authority.issue("agent")
    tls = {"ca_file": authority.ca_file, "cert_file": cert_file, "key_file": key_file}
    given = context()
    async with running(build_source(broker.port, given, tls=tls), given, Intake()):
        assert given.state == "connected"


async def test_missing_client_certificate_is_named(
    start_tls_broker: Callable[..., Broker], authority: Authority
) -> None:
    broker = start_tls_broker(f"cafile {authority.ca_file}", "require_certificate true")
    error = await refused(broker.port, tls={"ca_file": authority.ca_file})
    assert re.search(
        r"the broker refused our side of TLS \(.*certificate required\); check `tls.cert_file`", str(error)
    )
    assert not isinstance(error, RetryableAdapterError)


async def test_expired_certificate_is_refused(start_tls_broker: Callable[..., Broker], authority: Authority) -> None:
    error = await refused(start_tls_broker(days=(-9, -2)).port, tls={"ca_file": authority.ca_file})
    assert "the broker's certificate is refused: certificate has expired; check" in str(error)
    assert not isinstance(error, RetryableAdapterError)


async def test_certificate_of_tomorrow_may_be_the_fault_of_our_clock(
    start_tls_broker: Callable[..., Broker], authority: Authority
) -> None:
    error = await refused(start_tls_broker(days=(1, 9)).port, tls={"ca_file": authority.ca_file})
    assert "certificate is not yet valid; is the clock of this machine right?" in str(error)
    assert isinstance(error, RetryableAdapterError)


async def test_untrusted_certificate_is_refused(start_tls_broker: Callable[..., Broker], tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    error = await refused(start_tls_broker().port, tls={"ca_file": stranger.ca_file})
    assert re.search(r"certificate is refused: (unable to get local issuer|self.signed)", str(error))
    assert not isinstance(error, RetryableAdapterError)


async def test_certificate_of_another_host_is_refused(
    start_tls_broker: Callable[..., Broker], authority: Authority
) -> None:
    error = await refused(start_tls_broker(address="127.0.0.9").port, tls={"ca_file": authority.ca_file})
    assert "IP address mismatch, certificate is not valid for '127.0.0.1'" in str(error)


async def test_plain_port_is_told_from_tls(broker: Broker, authority: Authority) -> None:
    error = await refused(broker.port, tls={"ca_file": authority.ca_file}, connect_timeout="2s")
    assert re.search("does not speak TLS on this port|ended the TLS connection|Connection reset", str(error))


async def test_unusable_files_are_named(tmp_path: Path, authority: Authority) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    assert "tls.ca_file: cannot use" in str(await refused(1, tls={"ca_file": garbage}))
    assert "tls.ca_file: cannot use" in str(await refused(1, tls={"ca_file": tmp_path / "absent"}))
    tls = {"ca_file": authority.ca_file, "cert_file": garbage}
    assert "expected PEM files that belong together" in str(await refused(1, tls=tls))
