"""The channel: policies, exact counters, cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.channel import Channel, ClosedError, Full


async def test_items_come_out_in_the_order_they_went_in() -> None:
    channel: Channel[int] = Channel(3)
    for item in (1, 2, 3):
        assert channel.offer(item)
    assert [await channel.receive() for _ in range(3)] == [1, 2, 3]


async def test_a_full_blocking_channel_takes_exactly_its_capacity() -> None:
    channel: Channel[int] = Channel(4, Full.BLOCK)
    assert [channel.offer(i) for i in range(6)] == [True] * 4 + [False] * 2
    assert (channel.accepted, channel.dropped, len(channel)) == (4, 0, 4)


async def test_drop_oldest_keeps_the_newest_and_counts_the_others() -> None:
    channel: Channel[int] = Channel(3, Full.DROP_OLDEST)
    for i in range(10):
        assert channel.offer(i)
    assert channel.drain() == [7, 8, 9]
    assert (channel.accepted, channel.dropped, channel.delivered) == (10, 7, 3)


async def test_a_waiting_sender_goes_on_when_there_is_room() -> None:
    channel: Channel[int] = Channel(1)
    channel.offer(1)
    async with asyncio.TaskGroup() as tasks:
        sender = tasks.create_task(channel.send(2))
        await asyncio.sleep(0)
        assert not sender.done()
        assert await channel.receive() == 1
    assert channel.drain() == [2]


async def test_a_cancelled_sender_leaves_nothing_behind_and_the_next_is_woken() -> None:
    channel: Channel[int] = Channel(1)
    channel.offer(0)
    first = asyncio.ensure_future(channel.send(1))
    second = asyncio.ensure_future(channel.send(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert await channel.receive() == 0
    await second
    assert channel.drain() == [2]


async def test_a_wake_up_lost_to_a_cancelled_receiver_is_passed_on() -> None:
    channel: Channel[int] = Channel(2)
    first = asyncio.ensure_future(channel.receive())
    second = asyncio.ensure_future(channel.receive())
    await asyncio.sleep(0)
    channel.offer(7)
    first.cancel()  # together with the wake-up
    assert await second == 7


async def test_a_closed_channel_gives_what_it_has_and_then_ends() -> None:
    channel: Channel[int] = Channel(2)
    channel.offer(1)
    channel.close()
    with pytest.raises(ClosedError):
        channel.offer(2)
    assert await channel.receive() == 1
    assert not await channel.wait()
    with pytest.raises(ClosedError):
        await channel.receive()


async def test_closing_wakes_everyone_who_waits() -> None:
    full: Channel[int] = Channel(1)
    full.offer(1)
    empty: Channel[int] = Channel(1)
    waiting = [asyncio.ensure_future(full.send(2)), asyncio.ensure_future(empty.receive())]
    await asyncio.sleep(0)
    full.close()
    empty.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, ClosedError) for result in results)


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_below_one_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        Channel(capacity)


@given(
    capacity=st.integers(1, 5),
    policy=st.sampled_from(Full),
    steps=st.lists(st.one_of(st.integers(0, 100), st.none(), st.just("drain")), max_size=60),
)
def test_it_behaves_like_a_list_with_a_limit(capacity: int, policy: Full, steps: list[int | str | None]) -> None:
    channel: Channel[int] = Channel(capacity, policy)
    model: list[int] = []
    for step in steps:
        if isinstance(step, int):
            accepted = channel.offer(step)
            if len(model) < capacity:
                model.append(step)
                assert accepted
            elif policy is Full.DROP_OLDEST:
                model = [*model[1:], step]
                assert accepted
            else:
                assert not accepted
        else:
            limit = 1 if step is None else None
            taken = channel.drain(limit)
            assert taken == model[: len(taken)]
            assert len(taken) == (min(1, len(model)) if limit else len(model))
            model = model[len(taken) :]
        assert channel.accepted == channel.delivered + channel.dropped + len(channel)


@pytest.mark.parametrize("wake", ["drain", "close"])
async def test_a_wait_cancelled_in_the_very_moment_of_a_wake_up_ends_as_cancelled(wake: str) -> None:
    channel: Channel[int] = Channel(1)
    channel.offer(1)
    sender = asyncio.ensure_future(channel.send(2))
    await asyncio.sleep(0)
    sender.cancel()
    getattr(channel, wake)()  # before the sender gets its turn
    with pytest.raises(asyncio.CancelledError):
        await sender
    assert channel.accepted == 1
