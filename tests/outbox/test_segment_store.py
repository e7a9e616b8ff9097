"""Segments: in order, bounded, durable, and usable whatever happens to them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from outbox_rig import T0, buffer, record

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.outbox.record import Record
from edge_agent.outbox.store import SegmentStore

DAY = 86_400 * NS_PER_S


class Bench:
    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder / "desk"
        self.clock = VirtualClock(T0)
        self.options = buffer(**{"max_bytes": "160kB", **options})
        self.store = self.again()

    def again(self) -> SegmentStore:
        self.store = SegmentStore(self.folder, self.options, self.clock)
        self.store.open()
        return self.store

    def fill(self, first: int, last: int, size: int = 1_000, rank: int = 2) -> list[int]:
        """Append ``first`` to ``last`` one by one; a segment holds ten of the default size."""
        for seq in range(first, last + 1):
            self.store.append([record(seq, size, rank, self.clock.wall_ns())])
        return list(range(first, last + 1))

    def read(self, limit: int = 100_000) -> list[int]:
        return [found.seq for found in self.store.read(limit)]

    def segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.events"))


@pytest.fixture
def bench(memory: Path) -> Bench:
    return Bench(memory)


def test_nothing_kept_is_nothing_written(bench: Bench) -> None:
    assert bench.read() == []
    bench.store.close()
    assert not bench.folder.exists()
    assert bench.store.bytes_written == 0


def test_first_in_first_out_over_segments_and_runs(bench: Bench) -> None:
    kept = bench.fill(1, 35)
    assert len(bench.segments()) > 2
    assert [bench.store.read(7)[0].seq for _ in range(5)] == [1, 8, 15, 22, 29]
    bench.again()
    assert bench.read() == kept
    assert bench.store.count == 35


def test_a_record_comes_back_as_it_was(bench: Bench) -> None:
    given = Record(7, T0, 1, b'{"a": 1}' * 100)
    bench.store.append([given])
    assert bench.again().read(1) == [given]


def test_what_is_done_is_removed_and_not_read_again(bench: Bench) -> None:
    bench.fill(1, 30)
    before = len(bench.segments())
    bench.store.acknowledge([found.seq for found in bench.store.read(12)], 12)
    assert len(bench.segments()) == before - 1
    assert bench.store.count == 18
    assert bench.read() == list(range(13, 31))
    bench.store.rewind()
    assert bench.read(1) == [13]
    assert bench.again().read(1)[0].seq == 13
    bench.store.acknowledge([*bench.read(), 13], 30)
    assert bench.segments() == []
    assert bench.store.size == 0


def test_what_is_done_out_of_order_is_not_read(bench: Bench) -> None:
    bench.fill(1, 8)
    bench.store.acknowledge([7, 8], 0)
    assert bench.read() == [1, 2, 3, 4, 5, 6]
    bench.store.acknowledge([1, 2, 3, 4, 5, 6], 6)
    assert bench.segments() == []


def test_sequence_numbers_of_another_run_are_never_used_again(bench: Bench) -> None:
    bench.fill(1, 8)
    assert bench.again().next_seq > 8
    first = bench.store.next_seq
    bench.fill(first, first + 1)
    bench.store.acknowledge(bench.read(), first + 1)
    assert bench.segments() == []
    assert bench.again().next_seq > first + 1


def test_reading_what_is_still_written_to_sees_all_of_it_later(bench: Bench) -> None:
    bench.fill(1, 3)
    assert bench.read() == [1, 2, 3]
    bench.fill(4, 6)
    assert bench.read() == [4, 5, 6]


# -- bounds ----------------------------------------------------------------------------------------------------


def test_the_oldest_go_first(memory: Path) -> None:
    bench = Bench(memory, when_full="drop_oldest")
    bench.fill(1, 300)
    left = bench.read()
    assert bench.store.size <= 160_000
    assert left == list(range(301 - len(left), 301))
    assert bench.store.dropped == {"full": 300 - len(left)}
    assert len(left) > 130


def test_the_newest_go_first(memory: Path) -> None:
    bench = Bench(memory, when_full="drop_newest")
    bench.fill(1, 300)
    left = bench.read()
    assert left == list(range(1, len(left) + 1))
    assert bench.store.dropped == {"full": 300 - len(left)}


def test_samples_go_first_then_news_then_the_essential(memory: Path) -> None:
    bench = Bench(memory, when_full="reduce")
    for seq in range(1, 1001):
        bench.store.append([record(seq, 1_000, seq % 3)])
        if seq in (210, 420):
            ranks = [found.rank for found in bench.store.read(10_000)]
            bench.store.rewind()
            assert ranks.count(2) == seq // 3
            assert (ranks.count(1) == seq // 3) == (seq == 210)
            assert ranks.count(0) < 20
    found = bench.store.read(10_000)
    assert {one.rank for one in found} == {2}
    assert [one.seq for one in found] == list(range(found[0].seq, 1000, 3))
    assert bench.store.dropped["full"] == 1000 - len(found)
    assert bench.store.size <= 160_000


def test_what_is_on_its_way_to_the_sink_is_not_dropped(memory: Path) -> None:
    bench = Bench(memory, when_full="drop_oldest")
    bench.fill(1, 140)
    assert bench.read(5) == [1, 2, 3, 4, 5]
    bench.fill(141, 300)
    assert bench.read(3) == [6, 7, 8]


@pytest.mark.parametrize("when_full", ["drop_oldest", "drop_newest", "reduce"])
def test_an_event_larger_than_everything_goes_alone(memory: Path, when_full: str) -> None:
    bench = Bench(memory, when_full=when_full)
    bench.fill(1, 5)
    bench.store.append([record(6, 500_000)])
    bench.fill(7, 7)
    assert bench.read() == [1, 2, 3, 4, 5, 7]
    assert bench.store.dropped == {"full": 1}


def test_what_is_too_old_goes_and_the_clock_of_the_wall_has_no_say(memory: Path) -> None:
    bench = Bench(memory, max_age="10d")
    bench.fill(1, 3)
    bench.clock.set_wall_ns(0)
    bench.clock.advance(9 * DAY)
    bench.clock.set_wall_ns(T0 + 1000 * DAY)
    bench.fill(4, 6)
    assert bench.read() == [1, 2, 3, 4, 5, 6]
    bench.store.rewind()
    bench.clock.advance(2 * DAY)
    assert bench.read() == [4, 5, 6]
    assert bench.store.dropped == {"expired": 3}


def test_old_events_among_young_ones_of_an_earlier_run_expire(memory: Path) -> None:
    bench = Bench(memory, max_age="400d", max_bytes="10MB")
    bench.fill(1, 2)
    bench.clock.advance(20 * DAY)
    bench.fill(3, 4)
    assert len(bench.segments()) == 1
    bench.options = buffer(max_age="10d")
    bench.again()
    assert bench.read() == [3, 4]
    assert bench.store.dropped == {"expired": 2}


def test_events_of_a_clock_that_was_not_set_do_not_expire_after_a_restart(memory: Path) -> None:
    bench = Bench(memory, max_age="10d")
    bench.clock.set_wall_ns(1000)
    bench.fill(1, 2)
    bench.clock.set_wall_ns(T0)
    bench.again()
    assert bench.read() == [1, 2]


# -- damage ----------------------------------------------------------------------------------------------------


def test_a_tail_that_was_cut_off_is_passed_over_wherever_it_is_cut(memory: Path) -> None:
    bench = Bench(memory)
    sizes = []
    for seq in range(1, 4):
        bench.store.append([record(seq, 60)])
        sizes.append(bench.store.size)
    (path,) = bench.segments()
    content = path.read_bytes()
    for length in range(sizes[0], len(content) + 1):
        path.write_bytes(content[:length])
        store = bench.again()
        assert bench.read() == list(range(1, 1 + sum(size <= length for size in sizes)))
        assert store.dropped == {}
        path.write_bytes(content)


def test_any_damaged_byte_costs_one_event_at_most_and_is_told(memory: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    bench = Bench(memory)
    bench.fill(1, 3, size=60)
    bench.fill(4, 4, size=9_990)  # in a segment of its own, so that the first one is not the last
    path = bench.segments()[0]
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x41]) + content[position + 1 :])
        caplog.clear()
        store = bench.again()
        found = bench.read()
        touched = min(3, 1 + max(0, position - 8) // ((len(content) - 8) // 3))
        assert found == ([1, 2, 3, 4] if position < 8 else [seq for seq in (1, 2, 3, 4) if seq != touched])
        assert store.dropped["damaged"] == (position >= 8)
        assert ("damaged, 1 events in it are lost" in caplog.text) == (position >= 8)


def test_a_damaged_segment_is_put_aside_once_its_good_events_are_done(bench: Bench) -> None:
    bench.fill(1, 25)
    path = bench.segments()[1]
    content = bytearray(path.read_bytes())
    content[3_000] ^= 1
    path.write_bytes(content)
    bench.again()
    found = bench.read()
    assert len(found) == 24
    bench.store.acknowledge(found, found[-1])
    assert bench.segments() == []
    (kept,) = bench.folder.glob("segment.damaged-*")
    assert kept.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"EDGEOUT1", b"EDGEO", b"\0" * 500, b"garbage " * 100])
def test_a_file_with_no_event_in_it_stops_nothing(bench: Bench, content: bytes) -> None:
    bench.fill(1, 15)
    first, second = bench.segments()
    first.write_bytes(content)
    bench.again()
    assert bench.read() == [seq for seq in range(1, 16) if seq >= int(second.stem)]
    assert len(list(bench.folder.glob("segment.damaged-*"))) == (len(content) > 8)


def test_a_segment_that_cannot_be_read_stops_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.fill(1, 25)
    bench.segments()[0].unlink()
    bench.segments()[0].with_name(f"{1:020d}.events").mkdir()
    bench.again()
    assert bench.read()[-1] == 25
    assert "cannot be read: Is a directory" in caplog.text


def test_a_segment_that_vanishes_while_it_is_used_stops_nothing(bench: Bench) -> None:
    bench.fill(1, 25)
    first, second = bench.segments()[:2]
    first.unlink()
    found = bench.read()
    assert found == list(range(int(second.stem), 26))
    assert bench.store.dropped == {"damaged": 25 - len(found)}


def test_the_position_damaged_or_lost_repeats_events_and_loses_none(bench: Bench) -> None:
    bench.fill(1, 8)
    bench.store.acknowledge([found.seq for found in bench.store.read(5)], 5)
    bench.store.close()
    position = bench.folder / "position"
    for content in (b"", b"garbage!" * 3, position.read_bytes()[:11]):
        position.write_bytes(content)
        bench.again()
        assert bench.read() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_rewrite_that_was_interrupted_is_undone(bench: Bench) -> None:
    bench.fill(1, 5)
    bench.segments()[0].with_name("00000000000000000001.events.new").write_bytes(b"half")
    bench.again()
    assert bench.read() == [1, 2, 3, 4, 5]
    assert not list(bench.folder.glob("*.new"))


def test_only_two_damaged_segments_are_kept(bench: Bench) -> None:
    for number in range(4):
        bench.folder.mkdir(exist_ok=True)
        (bench.folder / f"{number + 1:020d}.events").write_bytes(b"garbage garbage")
        bench.clock.advance(NS_PER_S)
        bench.again()
    assert len(list(bench.folder.glob("segment.damaged-*"))) == 2
