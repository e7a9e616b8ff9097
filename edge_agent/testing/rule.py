"""How the kit says that a rule is broken, and how it waits."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, AdapterKind
from edge_agent.metrics import Metrics

POLL_S = 0.01
LEFT_OVER_S = 2.0


class ConformanceError(AssertionError):
    """An adapter breaks a rule of the contract (see :mod:`edge_agent.contract`)."""


def require(holds: object, rule: str) -> None:
    """Raise :class:`ConformanceError` with ``rule`` unless ``holds``."""
    if not holds:
        raise ConformanceError(rule)


async def until(holds: Callable[[], object], timeout_s: float, rule: str) -> None:
    """Wait until ``holds``; after ``timeout_s`` the rule counts as broken."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not holds():
        require(loop.time() < deadline, f"{rule} (within {timeout_s:g} s)")
        await asyncio.sleep(POLL_S)


def new_context(name: str, *, kind: AdapterKind = "source") -> AdapterContext:
    """What the agent would give to one instance, with its own metrics."""
    return AdapterContext(name, SystemClock(), random.Random(1), Metrics(), kind=kind)  # jitter only


@asynccontextmanager
async def nothing_left_over() -> AsyncIterator[None]:
    """Whatever starts inside has ended at the end: tasks, threads and sockets."""
    tasks, threads, sockets = asyncio.all_tasks(), set(threading.enumerate()), _sockets()
    yield
    await until(lambda: asyncio.all_tasks() <= tasks, LEFT_OVER_S, "no task is left after the adapter has stopped")
    # Threads of the default executor are kept by the event loop for whoever needs one next.
    await until(
        lambda: all(thread.name.startswith("asyncio_") for thread in set(threading.enumerate()) - threads),
        LEFT_OVER_S,
        "no thread is left after the adapter has stopped",
    )
    await until(lambda: _sockets() <= sockets, LEFT_OVER_S, "no socket is left open after the adapter has stopped")


def _sockets() -> set[str]:
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:"):
            found.add(target)
    return found
