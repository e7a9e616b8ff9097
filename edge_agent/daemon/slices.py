"""Work that takes longer than a tick may wait, done bit by bit between ticks.

A thread would not do: Python's lock goes to and fro between it and the tick, and whoever has it may be put aside by the
system; measured, ticks then took ten times as long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

_SLICE_S = 0.002
_ROOM_S = 0.004  # a slice, and one step more


async def in_slices(steps: Iterator[object], pause: Callable[[float], Awaitable[None]]) -> None:
    """Go through ``steps``, each of which should take less than a millisecond; others have their turn in between.

    ``pause``: waits until the next tick is so many seconds away (:meth:`edge_agent.daemon.beat.Beat.pause`).
    """
    while True:
        await pause(_ROOM_S)
        until_s = time.perf_counter() + _SLICE_S
        for _ in steps:
            if time.perf_counter() >= until_s:
                break
        else:
            return
        await asyncio.sleep(0)
