"""The parts of the daemon: named tasks. One that fails stops the others in order; one that does not stop is named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import Any

from edge_agent.errors import EdgeAgentError

_log = logging.getLogger(__name__)

_LAST_S = 2.0  # for what a cancelled part still has to release


class Parts:
    """Runs parts from ``async with`` until it is left; whoever is left running then is cancelled.

    ``stopping`` is set by the first :meth:`stop` or failure, ``hurry`` by the next :meth:`stop`. ``failure`` is the
    first failure of a part; ``stuck`` names those that had to be cancelled although they were asked to finish.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()
        self.failure: BaseException | None = None
        self.stuck: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Parts:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    def stop(self) -> None:
        """Ask for an orderly stop; a second call cuts it short."""
        (self.hurry if self.stopping.is_set() else self.stopping).set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` as the part ``name``. Once the daemon is stopping nothing is started any more."""
        if self.stopping.is_set():
            work.close()
            return
        self._tasks[name] = self._group.create_task(self._guarded(name, work), name=name)

    def running(self, kind: str) -> list[str]:
        """Names of the running parts that begin with ``kind``."""
        return [name for name in self._tasks if name.startswith(kind)]

    async def cancel(self, names: Iterable[str], timeout_s: float) -> list[str]:
        """Cancel parts and give them ``timeout_s`` to release what they hold; those that took longer are returned."""
        names = list(names)
        for name in names:
            if name in self._tasks:
                self._tasks[name].cancel()
        return await self.finish(names, timeout_s)

    async def finish(self, names: Iterable[str], timeout_s: float) -> list[str]:
        """Wait until parts have ended; those that take too long are cancelled, told and returned.

        A second :meth:`stop` ends the wait.
        """
        tasks = {name: self._tasks[name] for name in names if name in self._tasks}
        if not tasks:
            return []
        hurry = asyncio.ensure_future(self.hurry.wait())
        all_done = asyncio.ensure_future(asyncio.wait(tasks.values()))
        try:
            await asyncio.wait([hurry, all_done], timeout=max(timeout_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            all_done.cancel()
        left = [name for name, task in tasks.items() if not task.done()]
        if left:
            _log.error("not finished in time and cancelled: %s", ", ".join(left))
            for name in left:
                tasks[name].cancel()
            await asyncio.wait([tasks[name] for name in left], timeout=_LAST_S)
        return left

    async def _guarded(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """A part that fails stops the daemon in order; a part that ends (a file read to its end) is fine."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _log.error("%s failed: %s", name, error, exc_info=not isinstance(error, EdgeAgentError))
            self.failure = self.failure or error
            self.stopping.set()
        finally:
            if self._tasks.get(name) is asyncio.current_task():  # not yet replaced by another of that name
                del self._tasks[name]
