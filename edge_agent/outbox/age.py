"""How old an event is, on a gateway whose wall clock may not be set yet, or jump. Pure."""

from __future__ import annotations

from edge_agent.clock import CLOCK_SET_NS, NS_PER_S


def monotonic_of(time_ns: int, wall_ns: int, monotonic_ns: int) -> int:
    """When it was ``time_ns`` by the wall clock, given both clocks of one moment; never later than that moment.

    Where one of the wall times is of a clock that was not set, nothing is known, and the answer is that moment.
    """
    if time_ns < CLOCK_SET_NS or wall_ns < CLOCK_SET_NS:
        return monotonic_ns
    return monotonic_ns - max(0, wall_ns - time_ns)


def within(age_ns: int, max_age_s: float) -> bool:
    """Whether it is not too old."""
    return age_ns <= max_age_s * NS_PER_S
