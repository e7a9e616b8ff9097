"""A sink down for seconds, minutes, days: nothing lost, nothing twice, in order, paced, and new events first."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
from outage import Outage, until

from edge_agent.clock import NS_PER_S


def in_order(ids: list[str]) -> bool:
    return ids == sorted(set(ids))


def assert_all_delivered_once(outage: Outage) -> None:
    assert Counter(event.id for _, event in outage.far_side.got) == Counter(outage.given)
    assert in_order(outage.far_side.ids(replayed=False))
    assert in_order(outage.far_side.ids(replayed=True))
    assert outage.runner.outbox.dropped == {}
    assert list(outage.folder.glob("*.events")) == []


@pytest.mark.parametrize(
    ("seconds", "length_s"), [(20, 1), (600, 1), (3 * 24 * 60, 60)], ids=["20 s", "10 min", "3 days"]
)
async def test_an_outage_loses_nothing(memory: Path, seconds: int, length_s: int) -> None:
    outage = Outage(memory / "desk")
    async with outage.running():
        await outage.live(5)
        assert outage.runner.outbox.bytes_written == 0
        await outage.down(seconds, length_s)
        took_s = await outage.catch_up()
        await outage.live(3)
    assert_all_delivered_once(outage)
    late = outage.far_side.ids(replayed=True)
    assert set(late) >= set(outage.given[10 : 10 + 2 * seconds - 10])
    assert took_s == pytest.approx(len(late) / 200, abs=2.0)
    assert outage.metrics.events_replayed.labels("desk").value == len(late)
    assert outage.metrics.events_delivered.labels("desk").value == len(outage.given)


async def test_late_events_are_paced(memory: Path) -> None:
    outage = Outage(memory / "desk", replay_rate=50)
    async with outage.running():
        await outage.down(120)
        await outage.catch_up()
    times = [now_ns for now_ns, event in outage.far_side.got if event.replayed]
    for begin in range(times[0], times[-1], NS_PER_S):
        assert sum(begin <= now_ns < begin + NS_PER_S for now_ns in times) <= 50


async def test_new_events_do_not_wait_for_late_ones(memory: Path) -> None:
    outage = Outage(memory / "desk", replay_rate=20)
    async with outage.running():
        await outage.down(300)
        await outage.live(10)
        assert outage.runner.backlog > 300
        assert outage.far_side.ids(replayed=False) == outage.given[-20:]
        await outage.catch_up()
    assert_all_delivered_once(outage)


async def test_an_outage_shorter_than_the_spill_time_is_no_outage(memory: Path) -> None:
    outage = Outage(memory / "desk", spill_after="5s")
    async with outage.running():
        await outage.live(2)
        outage.far_side.down = "restarts"
        outage.second()
        await until(lambda: outage.runner.context.state.startswith("disconnected"))
        outage.far_side.down = None
        await outage.catch_up()
    assert outage.runner.outbox.bytes_written == 0
    assert outage.far_side.ids(replayed=False) == outage.given


async def test_outage_over_a_restart(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage(memory / "desk")
    async with outage.running():
        await outage.live(2)
        await outage.down(30)
        outage.far_side.down = "still down"
        await until(lambda: outage.metrics.events_retried.labels("desk").value >= 20)
    assert "late events follow" not in caplog.text
    assert "60 undelivered events are in the outbox" in caplog.text
    outage.far_side.down = None
    async with outage.running():
        await until(lambda: outage.runner.backlog == 60)
        await outage.live(2)
        await outage.catch_up()
    assert "60 late events follow, at most 200 a second" in caplog.text
    assert caplog.text.count("late events follow") == 1
    assert outage.far_side.ids(replayed=True) == outage.given[4:64]
    assert_all_delivered_once(outage)


async def test_an_outage_during_the_catching_up(memory: Path) -> None:
    outage = Outage(memory / "desk", replay_rate=20)
    async with outage.running():
        for _ in range(5):
            await outage.down(40)
            await outage.live(2)
        await outage.catch_up()
    assert_all_delivered_once(outage)


async def test_what_waits_is_measured(memory: Path) -> None:
    outage = Outage(memory / "desk")
    async with outage.running() as runner:
        await outage.down(60)
        outage.clock.advance(60 * NS_PER_S)
        runner.measure()
        metrics = outage.metrics
        assert metrics.sink_backlog.labels("desk").value == 120
        assert metrics.sink_backlog_bytes.labels("desk").value > 10_000
        assert 60 <= metrics.sink_backlog_age.labels("desk").value < 125
        assert metrics.store_bytes.labels("outbox").value == runner.outbox.bytes_written > 0
        await outage.catch_up()
        await until(lambda: runner.outbox.size == 0)
        runner.measure()
        assert metrics.sink_backlog_bytes.labels("desk").value == 0
        assert metrics.sink_backlog_age.labels("desk").value == 0


async def test_a_full_outbox_counts_what_goes(memory: Path) -> None:
    outage = Outage(memory / "desk", max_bytes="100kB", when_full="reduce")
    async with outage.running():
        await outage.down(900)
        await outage.catch_up()
    dropped = outage.metrics.events_dropped.labels("desk", "full").value
    assert dropped > 0
    assert len(outage.far_side.got) == len(outage.given) - dropped
    kinds = Counter(event.kind for _, event in outage.far_side.got)
    assert kinds["incident"] > 3 * kinds["readings"]
