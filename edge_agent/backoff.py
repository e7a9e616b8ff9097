"""Between attempts: how long to wait, and whether there will be another one."""

from __future__ import annotations

import asyncio
import random

_FIRST_PAUSE_S = 0.5


def full_jitter(rng: random.Random, attempt: int, longest_s: float) -> float:
    """Pause in seconds before attempt number ``attempt`` (1 is the first retry): uniform below a doubling bound.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): a broker that comes back is not hit by all at once.
    """
    return rng.uniform(0.0, min(longest_s, _FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 20)))


def is_own_cancellation(error: BaseException) -> bool:
    """True when the running task was told to stop; False when ``error`` came out of a library by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
