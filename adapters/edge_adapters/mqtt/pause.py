"""How long to wait before trying a broker again."""

from __future__ import annotations

from random import Random

_FIRST_S = 0.5


def reconnect_pause_s(rng: Random, failures: int, longest_s: float) -> float:
    """Full jitter, doubling: a fleet that lost its broker must not return in step."""
    return rng.uniform(0.0, min(longest_s, _FIRST_S * 2.0 ** min(failures, 32)))
