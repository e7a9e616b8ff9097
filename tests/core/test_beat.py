"""Work between ticks: when it may begin, that no tick runs beside it, that it ends with the ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from edge_agent.clock import NS_PER_S, Timeline, VirtualClock
from edge_agent.daemon.beat import Beat
from edge_agent.daemon.slices import in_slices
from edge_agent.metrics import Metrics


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_760_000_000 * NS_PER_S)


@pytest.fixture
def beat(clock: VirtualClock) -> Beat:
    beat = Beat(clock, 0.0, Metrics())
    beat.begin(Timeline(clock, NS_PER_S))
    return beat


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_pause_is_there_at_once_while_the_next_tick_is_far(beat: Beat) -> None:
    await asyncio.wait_for(beat.pause(0.2), 1)


async def test_a_pause_too_short_is_waited_out_until_the_tick_is_done(beat: Beat, clock: VirtualClock) -> None:
    clock.advance(beat.tick_ns - clock.monotonic_ns() - NS_PER_S // 10)
    waiting = asyncio.create_task(beat.pause(0.2))
    await settled()
    assert not waiting.done()
    clock.advance(NS_PER_S // 10)
    beat.done()
    await asyncio.wait_for(waiting, 1)


async def test_ticks_closer_together_than_what_is_wanted_leave_half_of_the_time(clock: VirtualClock) -> None:
    beat = Beat(clock, 0.0, Metrics())
    beat.begin(Timeline(clock, NS_PER_S // 100))
    clock.advance(beat.tick_ns - clock.monotonic_ns())
    beat.done()
    await asyncio.wait_for(beat.pause(0.2), 1)


async def test_nobody_waits_for_ticks_that_do_not_come(beat: Beat, clock: VirtualClock) -> None:
    clock.advance(beat.tick_ns - clock.monotonic_ns())
    waiting = asyncio.create_task(beat.pause(0.2))
    await settled()
    beat.end()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(beat.pause(0.2), 1)
    await asyncio.wait_for(Beat(clock, 0.0, Metrics()).pause(0.2), 1)  # and for those that have not begun


async def test_slices_go_through_all_steps_and_let_others_have_their_turn() -> None:
    turns: list[str] = []

    def steps() -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for k in range(5):
            deadline = loop.time() + 0.003
            while loop.time() < deadline:  # longer than a slice
                pass
            turns.append(f"step {k}")
            yield

    async def pause(_wanted_s: float) -> None:
        turns.append("pause")

    async def other() -> None:
        for _ in range(4):
            turns.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(in_slices(steps(), pause), other())
    assert [turn for turn in turns if turn.startswith("step")] == [f"step {k}" for k in range(5)]
    assert turns.index("other") < turns.index("step 1")
    assert turns.count("pause") == 6


async def test_slices_of_nothing_end() -> None:
    async def pause(_wanted_s: float) -> None:
        await asyncio.sleep(0)

    await asyncio.wait_for(in_slices(iter(()), pause), 1)
