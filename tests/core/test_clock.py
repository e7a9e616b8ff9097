"""Virtual time, and the map from wall time to pipeline time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.clock import NS_PER_S, Timeline, VirtualClock

T0 = 1_760_000_000 * NS_PER_S


async def test_sleepers_wake_in_time_and_not_before() -> None:
    clock = VirtualClock()
    sleeper = asyncio.ensure_future(clock.sleep_until(10))
    await asyncio.sleep(0)
    clock.advance(9)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(1)
    await sleeper


def test_the_virtual_clock_does_not_go_back() -> None:
    clock = VirtualClock()
    clock.advance(5)
    with pytest.raises(ValueError, match="before"):
        clock.advance_to(4)


def test_ticks_lie_on_whole_periods_of_wall_time() -> None:
    clock = VirtualClock(T0 + 123)
    timeline = Timeline(clock, NS_PER_S)
    tick_ns = timeline.tick_after_ns(clock.monotonic_ns())
    assert timeline.to_wall_ns(tick_ns) == T0 + NS_PER_S
    assert timeline.tick_after_ns(tick_ns) == tick_ns + NS_PER_S


@pytest.mark.parametrize("jump_s", [-365 * 86400, 365 * 86400, 2, -2])
def test_a_jump_of_wall_time_is_told_once_and_pipeline_time_goes_on(jump_s: int) -> None:
    clock = VirtualClock(T0)
    timeline = Timeline(clock, NS_PER_S)
    before_ns = timeline.now_ns()
    clock.set_wall_ns(T0 + jump_s * NS_PER_S)
    assert timeline.correct() == jump_s * NS_PER_S
    assert timeline.correct() == 0
    assert timeline.now_ns() == before_ns
    assert timeline.to_wall_ns(timeline.now_ns()) == clock.wall_ns()


def test_a_slow_drift_is_followed_without_a_word() -> None:
    clock = VirtualClock(T0)
    timeline = Timeline(clock, NS_PER_S)
    clock.set_wall_ns(T0 + 200_000_000)
    assert timeline.correct() == 0
    assert timeline.to_wall_ns(timeline.now_ns()) == clock.wall_ns()


@given(st.integers(0, 10**15), st.integers(10_000_000, 3600 * NS_PER_S))
def test_the_next_tick_is_after_now_and_within_one_period(now_ns: int, period_ns: int) -> None:
    clock = VirtualClock(T0)
    clock.advance(now_ns)
    tick_ns = Timeline(clock, period_ns).tick_after_ns(now_ns)
    assert now_ns < tick_ns <= now_ns + period_ns
