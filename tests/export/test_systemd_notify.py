"""The notifier against a real datagram socket, as the service manager holds it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.export.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def received(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_ready_says_a_status_too(manager: socket.socket) -> None:
    notifier(manager).ready("51 sensors")
    assert received(manager) == ["READY=1", "STATUS=51 sensors"]


def test_reloading_carries_the_time_that_notify_reload_wants(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier(manager).reloading()
    first, second = received(manager)
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_stopping_and_watchdog_are_said(manager: socket.socket) -> None:
    told = notifier(manager)
    told.watchdog()
    told.stopping()
    assert received(manager) == ["WATCHDOG=1"]
    assert received(manager) == ["STOPPING=1"]


def test_status_cannot_smuggle_another_assignment(manager: socket.socket) -> None:
    notifier(manager).status("ok\nMAINPID=1")
    assert received(manager) == ["STATUS=ok MAINPID=1"]


def test_abstract_socket_is_reached() -> None:
    name = f"edge-agent-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).status("here")
        assert received(manager) == ["STATUS=here"]


@pytest.mark.parametrize("value", [None, "", "relative", "vsock:2:1234"])
def test_without_a_manager_nothing_happens(value: str | None) -> None:
    told = Notifier({} if value is None else {"NOTIFY_SOCKET": value, "WATCHDOG_USEC": "1000000"})
    assert not told.enabled
    assert told.watchdog_interval_s is None
    told.ready()
    told.watchdog()
    told.stopping()


def test_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    told.watchdog()
    told.watchdog()
    assert caplog.text.count("cannot notify the service manager (ENOENT)") == 1


def test_manager_that_does_not_read_never_blocks_us(manager: socket.socket) -> None:
    told = notifier(manager)
    begin = time.monotonic()
    for _ in range(1000):
        told.watchdog()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_watchdog_interval_is_for_this_process_only(
    manager: socket.socket, environ: dict[str, str], expected: float | None
) -> None:
    assert notifier(manager, **environ).watchdog_interval_s == expected
