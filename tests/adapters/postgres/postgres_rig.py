"""Debian's PostgreSQL in a temporary folder, run by a user without rights as it asks for."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from edge_adapters.postgres import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind

S = 10**9
NOW_NS = 1_800_000_000 * S  # 2027-01-15T08:00:00Z
PASSWORD = "s3cret"


class Postgres:
    """A server on loopback, on a free port, that can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, user: int | None) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (folder / "password").write_text(PASSWORD)
        arguments = ["-D", str(folder / "data"), "-U", "edge", "--pwfile", str(folder / "password"), "--no-sync"]
        self._run("initdb", *arguments, "--auth=scram-sha-256", "--no-instructions", "-E", "UTF8", "--no-locale")

    def start(self, *settings: str) -> None:
        options = [
            "fsync=off",
            "listen_addresses=127.0.0.1",
            f"port={self.port}",
            f"unix_socket_directories={self._folder}",
        ]
        arguments = [part for option in (*options, *settings) for part in ("-c", option)]
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *arguments]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, user=self._user, cwd="/")
        deadline = time.monotonic() + 20
        while self._status() != 0:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        """Fast shutdown: sessions are cut off."""
        if self._process is not None:
            self._process.send_signal(2)
            self._process.wait()
            self._process = None

    async def connect(self, database: str = "postgres") -> Any:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="edge", password=PASSWORD, database=database
        )

    def _status(self) -> int:
        command = [str(self._programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        return subprocess.run(command, check=False).returncode

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, user=self._user, cwd="/")
        assert done.returncode == 0, done.stderr


def postgres_server() -> Iterator[Postgres]:
    """For a fixture."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = programs[-1].parent if programs else None
    if found is None and (path := shutil.which("initdb")):
        found = Path(path).resolve().parent
    if found is None:
        pytest.skip("PostgreSQL is not installed; `make test` installs it")
    folder = Path(tempfile.mkdtemp(prefix="edge-postgres-"))
    user = 65534 if os.getuid() == 0 else None  # it refuses to run as root
    if user is not None:
        os.chown(folder, user, user)
    try:
        server = Postgres(found, folder, user)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


def options(server: Postgres, **changed: Any) -> dict[str, Any]:
    address = {"host": "127.0.0.1", "port": server.port, "database": "postgres", "user": "edge", "password": PASSWORD}
    return {"type": "postgres", **address, **changed}


@contextlib.asynccontextmanager
async def opened(server: Postgres, **changed: Any) -> AsyncIterator[Sink]:
    context = AdapterContext("warehouse", VirtualClock(NOW_NS), random.Random(1), Metrics(), kind="sink")
    sink = SINK.build(SINK.options.model_validate(options(server, **changed)), context)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def readings(name: str = "r", time_ns: int = NOW_NS, **sensors: Any) -> Event:
    body = {"tick": 7, "sensors": sensors or {"LIT301": 812.5, "P101": 1.0}, "units": {"LIT301": "mm"}, "agent": "gw"}
    return Event(name, EventKind.READINGS, time_ns, body)


def scores(name: str = "s", time_ns: int = NOW_NS, p_value: float | None = 0.5) -> Event:
    body = {"tick": 7, "score": 0.25, "p_value": p_value, "alarm": False, "sensors": {"LIT301": 1.5}, "agent": "gw"}
    return Event(name, EventKind.SCORES, time_ns, body)


def incident(name: str = "i", time_ns: int = NOW_NS, state: str = "open", **changed: Any) -> Event:
    body = {"id": "01K", "kind": "process", "severity": "high", "state": state, "summary": "rises", "p_value": 1e-6}
    return Event(name, EventKind.INCIDENT, time_ns, {**body, "score": 7, "agent": "gw", **changed})


def status(name: str = "t") -> Event:
    return Event(name, EventKind.STATUS, NOW_NS, {"what": "clock_jump", "message": "it jumped", "agent": "gw"})
