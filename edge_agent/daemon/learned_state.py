"""What was learned (:mod:`~edge_agent.daemon.learned`) in its file."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

from numpy.typing import NDArray

from edge_agent.bundle.arrays import write_npz
from edge_agent.daemon.learned import export_learned, import_learned
from edge_agent.errors import StoreError
from edge_agent.history import StateFile
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline

_log = logging.getLogger(__name__)


class LearnedState:
    """Written in one piece, and read once at the start."""

    def __init__(self, file: StateFile, metrics: Metrics) -> None:
        self._file = file
        self._bytes = metrics.store_bytes.labels("learned")
        self._failures = metrics.store_failures.labels("learned")
        self.failing = False
        """True while the disk does not take it; tried again."""
        self._warming_up = False
        self._warm = asyncio.Event()
        self._disk = threading.Lock()  # a write goes on in its thread when who waits for it is cancelled

    async def restore(self, pipeline: Pipeline) -> None:
        """Take over what was saved, if it fits the detector in use."""
        raw = await asyncio.to_thread(self._file.load)
        if raw is not None and import_learned(pipeline, raw):
            _log.info("what was learned before the restart is in use again")

    def ticked(self, *, warming_up: bool) -> None:
        """Note when a warm-up ends: what took so long to learn is not to be lost by a power cut soon after it."""
        if self._warming_up and not warming_up:
            self._warm.set()
        self._warming_up = warming_up

    async def until_due(self, every_s: float, stopping: asyncio.Event) -> None:
        """Until a warm-up has ended, for ``every_s`` seconds at most, or until ``stopping``."""
        waiting = [asyncio.ensure_future(self._warm.wait()), asyncio.ensure_future(stopping.wait())]
        try:
            await asyncio.wait(waiting, timeout=every_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
        self._warm.clear()

    async def save(self, pipeline: Pipeline) -> None:
        """Write what ``pipeline`` has learned by now; a disk that does not take it is told."""
        arrays = export_learned(pipeline)
        try:
            self._bytes.inc(await asyncio.to_thread(self._write, arrays))
        except StoreError as error:
            self._failures.inc()
            if not self.failing:
                _log.error("%s; tried again", error)
            self.failing = True
        else:
            self.failing = False

    def _write(self, arrays: dict[str, NDArray[Any]]) -> int:
        with self._disk:
            return self._file.save(write_npz(arrays))
