"""Pauses between attempts."""

from __future__ import annotations

import random

_FIRST_PAUSE_S = 0.5


def full_jitter(rng: random.Random, attempt: int, longest_s: float) -> float:
    """Pause in seconds before attempt number ``attempt`` (1 is the first retry): uniform below a doubling bound.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): a broker that comes back is not hit by all at once.
    """
    return rng.uniform(0.0, min(longest_s, _FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 20)))
