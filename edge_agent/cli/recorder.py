"""The sources of a configuration into a log of readings, with nothing behind them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext
from edge_agent.metrics import Metrics
from edge_agent.recording import ReadingLog
from edge_agent.registry import build_source, source_adapter
from edge_agent.supervisor import SourceRunner

if TYPE_CHECKING:
    from edge_agent.config import AgentConfig
    from edge_agent.sample import Batch

FLUSH_S = 0.5


class _Recorder:
    """Collects on the event loop, writes in a thread."""

    def __init__(self, log: ReadingLog) -> None:
        self.counts: dict[str, int] = {}
        self._log = log
        self._waiting: list[tuple[str, Batch, int]] = []

    def take(self, source: str, batch: Batch) -> None:
        self.counts[source] = self.counts.get(source, 0) + len(batch)
        wall_ns = batch.arrival_ns + time.time_ns() - time.monotonic_ns()
        self._waiting.append((source, batch, wall_ns))

    async def write_on(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self.write_now)

    def write_now(self) -> None:
        waiting, self._waiting = self._waiting, []
        for source, batch, wall_ns in waiting:
            self._log.write(source, batch, wall_ns)
        self._log.flush()


async def record_sources(
    config: AgentConfig, out: Path, duration_s: float | None, max_bytes: int, keep: int
) -> dict[str, int]:
    """Run all sources until cancelled or for ``duration_s``; returns how many readings each gave.

    :raises StoreError: the log cannot be written. :raises AdapterError: a source with ``start: fail`` failed.
    """
    with ReadingLog(out, max_bytes, keep) as log:
        recorder = _Recorder(log)
        for name in config.sources:
            recorder.counts[name] = 0
        # Ctrl-C cancels as well: what was read until then is written all the same.
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(duration_s), asyncio.TaskGroup() as tasks:
                tasks.create_task(recorder.write_on(), name="write the log")
                for runner in _runners(config, recorder):
                    tasks.create_task(runner.run(), name=f"source {runner.name}")
        recorder.write_now()
    return recorder.counts


def _runners(config: AgentConfig, recorder: _Recorder) -> list[SourceRunner]:
    clock, metrics = SystemClock(), Metrics()
    runners = []
    for name, options in config.sources.items():
        adapter = source_adapter(options.type)
        context = AdapterContext(name, clock, random.Random(), metrics)
        runners.append(
            SourceRunner(
                name,
                lambda adapter=adapter, options=options, context=context: build_source(adapter, options, context),  # type: ignore[misc]
                options,
                adapter.when_full,
                context,
                metrics,
                lambda batch, name=name: recorder.take(name, batch),  # type: ignore[misc]
                config.intake.capacity,
            )
        )
    return runners
