from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modbus_stand import Counterpart, SerialCable

COUNTERPART = Path(__file__).parent / "counterpart" / "server.c"


@pytest.fixture(scope="session")
def libmodbus_server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("counterpart") / "server"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], check=True, capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["gcc", "-o", str(binary), str(COUNTERPART), *flags], check=True, capture_output=True)
    return binary


@pytest.fixture
def start_counterpart(libmodbus_server: Path) -> Iterator[Callable[..., Counterpart]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> Counterpart:
        process = subprocess.Popen([str(libmodbus_server), *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[:1] == ["ready"], "the libmodbus server did not start"
        return Counterpart(process, int(ready[1]) if len(ready) > 1 else None)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def serial_pair(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two ends of a serial line."""
    with SerialCable(tmp_path) as cable:
        yield cable.ends
