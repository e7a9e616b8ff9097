"""What is open, what operators ordered and what flaps: on the disk soon after it changes, and back after a restart."""

from __future__ import annotations

import asyncio
import logging
import threading

from pydantic import BaseModel, ConfigDict, ValidationError

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.decision.lifecycle import Lifecycle, SavedLifecycle
from edge_agent.errors import StoreError
from edge_agent.history import StateFile
from edge_agent.metrics import Metrics

_log = logging.getLogger(__name__)

_PAUSE_NS = 2 * NS_PER_S
_VERSION = 1


class _Saved(BaseModel):
    """What is in the file."""

    model_config = ConfigDict(ser_json_inf_nan="strings")
    version: int
    lifecycle: SavedLifecycle


class OpenIncidents:
    """Keeps what has to outlive a restart in ``file``.

    The first change is written at once, what follows at most every two seconds, and nothing while nothing changes.
    """

    def __init__(self, lifecycle: Lifecycle, file: StateFile, clock: Clock, metrics: Metrics) -> None:
        self._lifecycle = lifecycle
        self._file = file
        self._clock = clock
        self._bytes = metrics.store_bytes.labels("incidents")
        self._failures = metrics.store_failures.labels("incidents")
        self.failing = False
        """True while the disk does not take it; tried again."""
        self._saved_version = lifecycle.version
        self._something = asyncio.Event()
        self._disk = threading.Lock()

    async def restore(self) -> int:
        """Go on from before the restart; how many incidents were open. What cannot be read is logged and forgotten."""
        raw = await asyncio.to_thread(self._file.load)
        if raw is None:
            return 0
        try:
            saved = _Saved.model_validate_json(raw)
            if saved.version != _VERSION:
                raise ValueError(f"got version {saved.version}, expected {_VERSION}")
        except (ValidationError, ValueError) as error:
            _log.error("%s: cannot be used: %s; open incidents and orders are forgotten", self._file.path, error)
            return 0
        self._lifecycle.restore(saved.lifecycle, self._clock.monotonic_ns(), self._clock.wall_ns())
        self._saved_version = self._lifecycle.version
        return len(self._lifecycle.open_incidents())

    def ticked(self) -> None:
        """A tick is over: have it saved if something has changed."""
        if self._lifecycle.version != self._saved_version:
            self._something.set()

    async def run(self) -> None:
        """Save what changes, until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                await self.save()
            except StoreError as error:
                if not self.failing:
                    _log.error("%s; tried again", error)
                self.failing = True
                self._something.set()
            await self._clock.sleep_until(self._clock.monotonic_ns() + _PAUSE_NS)

    async def save(self) -> None:
        """Write what has changed; durable on return. :raises StoreError: it could not be written."""
        version = self._lifecycle.version
        if version == self._saved_version:
            return
        saved = self._lifecycle.export(self._clock.monotonic_ns(), self._clock.wall_ns())
        try:
            self._bytes.inc(await asyncio.to_thread(self._write, version, saved))
        except StoreError:
            self._failures.inc()
            raise
        self.failing = False

    def _write(self, version: int, saved: SavedLifecycle) -> int:
        """In a thread, which goes on when who waits for it is cancelled: an older state never replaces a newer one."""
        with self._disk:
            if version <= self._saved_version:
                return 0
            written = self._file.save(_Saved(version=_VERSION, lifecycle=saved).model_dump_json().encode())
            self._saved_version = version
            return written
