"""Trust in updates: what a look and a download cost, and what a line that is cut again and again costs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from result import Result

from edge_agent.errors import OtaError
from edge_agent.ota.ring import ModelTarget
from edge_agent.ota.trust.child import ChildTrust
from edge_agent.ota.trust.in_process import InProcessTrust
from edge_agent.ota.trust.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "ota" / "trust"))
from fault_proxy import FaultProxy
from static_server import StaticServer, serving
from tuf_repository import NOW_S, Repository

LOOKS = 15
MODEL_BYTES = 20_000_000
CUT_AFTER = 300_000
MIB = 1 << 20


def run() -> Iterator[Result]:
    """A look with nothing new, its memory, a download of 20 MB, and 1 MB over a line cut every 300 kB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = Repository(folder / "repository")
        (folder / "root.json").write_bytes(repository.first_root)
        with serving(repository.folder) as server:
            yield from asyncio.run(_looks(folder, repository, server))
            yield asyncio.run(_cut_line(folder, repository, server))


async def _looks(folder: Path, repository: Repository, server: StaticServer) -> list[Result]:
    content = os.urandom(MODEL_BYTES)
    model = ModelTarget(**repository.release(content)["model"])
    child, thread = (
        kind(Settings(folder / kind.__name__, folder / "root.json")) for kind in (ChildTrust, InProcessTrust)
    )
    child_ms = await _median_ms(lambda: child.check(server.origin, "stable", NOW_S))
    thread_ms = await _median_ms(lambda: thread.check(server.origin, "stable", NOW_S))
    looked = child.peak_rss_bytes / MIB
    began = time.perf_counter()
    await child.fetch(server.origin, model, NOW_S, folder / "model")
    fetched_s = time.perf_counter() - began
    fetched = child.peak_rss_bytes / MIB
    bare, plain = _bare_rss_mib(), "read, hash, write, fsync"
    return [
        Result("trust_look", child_ms, "ms", thread_ms, "in a thread", "< 1000 ms", child_ms < 1000),
        Result("trust_look_rss", looked, "MiB", bare, "bare interpreter", "< 45 MiB", looked < 45),
        Result("trust_fetch_20mb_rss", fetched, "MiB", bare, "bare interpreter", "< 45 MiB", fetched < 45),
        Result("trust_fetch_20mb", fetched_s, "s", _copy_s(folder, content), plain, "< 5 s", fetched_s < 5),
    ]


async def _cut_line(folder: Path, repository: Repository, server: StaticServer) -> Result:
    content = os.urandom(1_000_000)
    model = ModelTarget(**repository.release(content)["model"])
    trust = InProcessTrust(Settings(folder / "cut", folder / "root.json"))
    async with FaultProxy(server.server_port) as proxy:
        while not (folder / "cut-model").exists():
            proxy.cut_after = CUT_AFTER
            try:
                await trust.fetch(proxy.origin, model, NOW_S, folder / "cut-model")
            except OtaError as error:
                if error.reason != "unreachable":
                    raise
        ratio = proxy.passed / len(content)
    goal = "<= 1.05 x ideal"
    return Result("trust_cut_line_bytes", proxy.passed, "bytes", len(content), "the file", goal, ratio <= 1.05)


async def _median_ms(look: Callable[[], Awaitable[object]]) -> float:
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await look()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[1:])


def _bare_rss_mib() -> float:
    code = "import re; print(re.search(r'VmHWM:\\s+([0-9]+)', open('/proc/self/status').read())[1])"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) / 1024


def _copy_s(folder: Path, content: bytes) -> float:
    began = time.perf_counter()
    hashlib.sha256(content).hexdigest()
    with (folder / "copy").open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began
