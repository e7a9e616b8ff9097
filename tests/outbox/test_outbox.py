"""The outbox of one sink: two lanes, nothing written while the sink is up, nothing lost while it is down."""

from __future__ import annotations

import logging
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from outbox_rig import Box, buffer, event

from edge_agent.clock import NS_PER_S
from edge_agent.outbox import Outbox


def ids(first: int, last: int) -> list[str]:
    return [f"E{number:06d}" for number in range(first, last + 1)]


def offer(outbox: Outbox, first: int, last: int, kind: str = "open", size: int = 0) -> None:
    for number in range(first, last + 1):
        outbox.offer(event(number, kind, size))


def test_what_is_delivered_at_once_is_never_written(memory: Path) -> None:
    box = Box(memory)
    offer(box.outbox, 1, 250)
    while items := box.outbox.live(100):
        box.outbox.delivered(items)
    assert box.outbox.write()
    box.outbox.close()
    assert len(box.outbox) == 0
    assert box.outbox.bytes_written == 0
    assert box.files() == []


def test_live_events_stay_until_they_are_delivered_and_in_order(memory: Path) -> None:
    box = Box(memory)
    offer(box.outbox, 1, 5)
    items = box.outbox.live(3)
    assert [item.event.id for item in items] == ids(1, 3)
    assert box.outbox.live(3) == items
    box.outbox.delivered(items)
    assert [item.event.id for item in box.outbox.live(9)] == ids(4, 5)
    assert not box.outbox.live(1)[0].event.replayed


def test_gathered_events_are_durable_late_and_flagged(memory: Path) -> None:
    box = Box(memory)
    given = event(1, size=500)
    assert box.keep(given)
    assert box.outbox.live(1) == []
    assert (len(box.outbox), box.outbox.late) == (1, 1)
    box.again()
    (item,) = box.fetch(5)
    assert item.event.replayed
    assert (item.event.id, item.event.kind, item.event.time_ns) == (given.id, given.kind, given.time_ns)
    assert item.event.body == given.body


def test_an_event_gathered_on_its_way_to_the_sink_is_not_delivered_twice(memory: Path) -> None:
    box = Box(memory)
    offer(box.outbox, 1, 4)
    in_hand = box.outbox.live(2)
    box.outbox.gather()
    assert box.outbox.write()
    box.outbox.delivered(in_hand)
    assert box.outbox.late == 2
    assert box.late() == ids(3, 4)


def test_what_was_delivered_out_of_order_is_not_delivered_again_after_a_stop(memory: Path) -> None:
    box = Box(memory)
    box.keep(*map(event, range(1, 4)))
    offer(box.outbox, 4, 6)
    in_hand = box.outbox.live(1)
    box.outbox.gather()
    assert box.outbox.write()
    box.outbox.delivered(in_hand)
    box.outbox.close()
    box.again()
    assert box.late() == [*ids(1, 3), *ids(5, 6)]


def test_what_is_delivered_before_it_is_written_is_not_written(memory: Path) -> None:
    box = Box(memory)
    offer(box.outbox, 1, 2)
    in_hand = box.outbox.live(2)
    box.outbox.gather()
    box.outbox.delivered(in_hand)
    assert box.outbox.write()
    assert box.outbox.bytes_written == 0


def test_what_was_fetched_and_not_delivered_comes_again_in_order(memory: Path) -> None:
    box = Box(memory)
    box.keep(*map(event, range(1, 8)))
    box.outbox.delivered(box.fetch(2))
    assert box.late(2) == ids(3, 4)
    assert box.late(2) == ids(5, 6)
    box.outbox.rewind()
    assert box.late() == ids(3, 7)


def test_what_was_fetched_for_nobody_comes_again(memory: Path) -> None:
    box = Box(memory)
    box.keep(*map(event, range(1, 8)))
    turn = box.outbox.turn
    assert box.late(2) == ids(1, 2)
    box.outbox.rewind()
    assert box.outbox.fetch(2, turn) == []
    assert box.late() == ids(1, 7)


def test_events_kept_while_others_are_delivered_come_last(memory: Path) -> None:
    box = Box(memory)
    got = []
    number = 0
    for _ in range(30):
        box.keep(event(number), event(number + 1))
        number += 2
        got += [item.event.id for item in box.take(3)]
    got += [item.event.id for item in box.take()]
    assert got == ids(0, number - 1)
    assert [name for name in box.files() if name != "position"] == []
    assert len(box.outbox) == 0


def test_numbers_of_numpy_are_written_and_what_is_no_json_is_dropped_and_told(
    memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    box = Box(memory)
    strange, good = event(1), event(2)
    strange.body["x"] = object()
    good.body.update(x=np.float32(0.5), y=np.arange(2), z=float("nan"), w={1: "one"})
    assert box.keep(strange, good)
    (item,) = box.fetch(5)
    assert item.event.body == {"state": "open", "x": 0.5, "y": [0, 1], "z": None, "w": {"1": "one"}}
    assert box.outbox.dropped == {"unwritable": 1}
    assert "event E000001 cannot be written down and is lost" in caplog.text


def test_an_event_of_another_version_is_passed_over(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = Box(memory)
    box.keep(event(1, "scores"), event(2), event(3))
    path = next(box.folder.glob("*.events"))
    from edge_agent.outbox.record import encode, places

    content = path.read_bytes()
    records = [place.record(content) for place in places(content, 8)]
    changed = type(records[0])(records[0].seq, 0, 0, records[0].payload.replace(b"scores", b"sounds"))
    path.write_bytes(content[:8] + b"".join(map(encode, [changed, *records[1:]])))
    box.again()
    assert [item.event.id for item in box.take()] == ids(2, 3)
    assert box.outbox.dropped == {"damaged": 1}
    assert len(box.outbox) == 0
    assert "of another version" in caplog.text


def test_age_and_due_time_of_what_waits(memory: Path) -> None:
    box = Box(memory, spill_after="5s")
    assert (box.outbox.due_ns(), box.outbox.age_s()) == (None, 0.0)
    offer(box.outbox, 1, 1)
    box.clock.advance(3 * NS_PER_S)
    offer(box.outbox, 2, 2)
    assert box.outbox.due_ns() == 5 * NS_PER_S
    assert box.outbox.age_s() == 3.0
    box.outbox.gather()
    box.outbox.write()
    box.clock.advance(NS_PER_S)
    assert box.outbox.age_s() >= 1.0


# -- a disk that takes nothing -----------------------------------------------------------------------------------


@pytest.fixture
def blocked(memory: Path) -> Box:
    """An outbox whose folder cannot be made."""
    box = Box(memory, memory="10kB", when_full="drop_oldest")
    box.folder.write_text("in the way")
    return box


def test_what_the_disk_does_not_take_has_an_age(blocked: Box) -> None:
    offer(blocked.outbox, 1, 1)
    blocked.outbox.gather()
    assert not blocked.outbox.write()
    blocked.clock.advance(60 * NS_PER_S)
    assert blocked.outbox.age_s() == 60.0
    assert not blocked.keep(event(2))
    assert blocked.outbox.age_s() == 60.0


def test_without_a_disk_events_are_kept_in_memory_and_told_once(blocked: Box, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(3):
        assert not blocked.keep(event(number))
    assert caplog.text.count("its outbox cannot be written") == 1
    assert [item.event.id for item in blocked.take(2)] == ids(0, 1)
    blocked.folder.unlink()
    assert blocked.keep(event(3))
    assert "can be written again" in caplog.text
    blocked.again()
    assert blocked.late() == ids(2, 3)


@pytest.mark.parametrize(
    ("when_full", "kept"),
    [
        ("drop_oldest", [*range(21, 30)]),
        ("drop_newest", [*range(9)]),
        ("reduce", [*range(13, 30, 2)]),
    ],
)
def test_memory_is_bounded_as_the_policy_says(blocked: Box, when_full: str, kept: list[int]) -> None:
    blocked.outbox.use(buffer(memory="10kB", when_full=when_full))
    for number in range(30):
        blocked.keep(event(number, "scores" if number % 2 == 0 else "open", size=1_000))
    assert [int(name[1:]) for name in blocked.late()] == kept
    assert blocked.outbox.dropped == {"memory": 21}
    assert blocked.outbox.size <= 10_000


FULL_DISK = """
import resource, sys
from pathlib import Path
sys.path[:0] = [{rig!r}]
from outbox_rig import Box, event

box = Box(Path({folder!r}), max_bytes="10MB")
assert box.keep(*(event(number, size=3_000) for number in range(20)))
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
for number in range(20, 40):
    box.keep(event(number, size=3_000))
assert box.outbox.failing, "the limit did nothing"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert box.keep(event(40))
box.again()
print(*box.late())
"""


def test_a_full_disk_loses_nothing_and_recovers(memory: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert (soft, hard) == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    code = FULL_DISK.format(rig=str(Path(__file__).parent), folder=str(memory))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ids(0, 40), done.stderr
