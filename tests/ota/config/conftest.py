"""A daemon on a clock that the test moves, with adapters that the test holds in its hands."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[2] / folder) for folder in ("core", "system")]

import probe_adapters as probe

from edge_agent import registry
from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.config import load_in_use
from edge_agent.daemon import Daemon

T0 = 1_760_000_000 * NS_PER_S
CONFIG = """\
agent: {name: under-test, data_dir: data, stop_timeout: 1s}
api: {enabled: false}
history: {enabled: false}
sources: {press: {type: probe, retry_max: 1h}}
sinks: {desk: {type: probe, events: [incident, status]}}
sensors: {a: {max: 10}}
rules: {high: {sensors: [a], limit: {above: 9}}}
ota: {remote_config: [sensors, graph, decision, rules, patterns, drift, companions, sources, sinks]}
"""


@pytest.fixture(autouse=True)
def probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = [
        EntryPoint("probe", "probe_adapters:SOURCE", "edge_agent.sources"),
        EntryPoint("probe", "probe_adapters:SINK", "edge_agent.sinks"),
    ]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [e for e in entries if e.group == group])
    registry.refresh()
    for kept in (probe.log, probe.delivered, probe.sources):
        kept.clear()
    yield
    monkeypatch.undo()
    registry.refresh()


class Gateway:
    """The files of one gateway, and the daemon on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock(T0)
        self.path = folder / "agent.yaml"
        self.path.write_text(CONFIG)
        self.overlay = folder / "data/ota/config.yaml"

    def release(self, text: str, name: str = "release.yaml") -> Path:
        """A configuration as it was downloaded."""
        path = self.folder / name
        path.write_text(text)
        return path

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        daemon = Daemon(load_in_use(self.path, {}), self.clock, seed=0)
        task = asyncio.create_task(daemon.run())
        await until(lambda: task.done() or "press runs" in probe.log)
        yield daemon
        daemon.stop()
        async with asyncio.timeout(10):
            assert await task == 0

    async def tick(self, daemon: Daemon, count: int = 1, **values: float) -> None:
        """Ticks with these readings."""
        for _ in range(count):
            assert daemon.pipeline is not None
            ticks = daemon.pipeline.ticks
            if values:
                probe.sources["press"].give(**values)
            self.clock.advance(NS_PER_S)
            await until(lambda ticks=ticks: daemon.pipeline.ticks > ticks)  # type: ignore[misc,union-attr]


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.001)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)
