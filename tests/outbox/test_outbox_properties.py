"""Any order of events, writes, deliveries, failures, crashes: nothing is lost, and without a crash nothing repeats."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from outbox_rig import Box, event

from edge_agent.outbox import Waiting


class OutboxMachine(RuleBasedStateMachine):
    """An outbox beside sets of what it has to hold. The rules do what a sink's runner may do, in the order it may."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.box = Box(Path(self.folder.name), max_bytes="100MB")
        self.number = 0
        self.waiting: set[int] = set()
        self.durable: set[int] = set()
        self.got: list[int] = []
        self.in_hand: list[Waiting] = []

    @rule(count=st.integers(1, 5), size=st.sampled_from([0, 300, 40_000]))
    def offer(self, count: int, size: int) -> None:
        for _ in range(count):
            self.box.outbox.offer(event(self.number, size=size))
            self.waiting.add(self.number)
            self.number += 1

    @rule()
    def gather(self) -> None:
        self.box.outbox.gather()

    @rule()
    def write(self) -> None:
        self.box.outbox.gather()
        assert self.box.outbox.write()
        self.durable |= self.waiting

    @precondition(lambda self: not self.in_hand)
    @rule(limit=st.integers(1, 4))
    def take_live(self, limit: int) -> None:
        self.in_hand = self.box.outbox.live(limit)

    @precondition(lambda self: not self.in_hand)
    @rule(limit=st.integers(1, 4))
    def take_late(self, limit: int) -> None:
        self.in_hand = self.box.fetch(limit)

    @precondition(lambda self: self.in_hand)
    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        items, self.in_hand = self.in_hand[:count], self.in_hand[count:]
        self.box.outbox.delivered(items)
        numbers = [int(item.event.id[1:]) for item in items]
        assert self.waiting >= set(numbers), "delivered twice, or never given"
        self.got += numbers
        self.waiting -= set(numbers)
        self.durable -= set(numbers)

    @rule()
    def fail(self) -> None:
        self.in_hand = []
        self.box.outbox.rewind()

    @precondition(lambda self: not self.in_hand)
    @rule()
    def settle(self) -> None:
        self.box.outbox.settle()

    @rule()
    def crash(self) -> None:
        self.in_hand = []
        there = {int(name[1:]) for name in _left(self.box)}
        assert there >= self.durable
        assert there <= self.waiting | set(self.got)
        self.waiting, self.durable = set(there), set(there)
        self.box.again()

    @rule()
    def stop_and_start(self) -> None:
        self.in_hand = []
        self.box.outbox.close()
        self.durable = set(self.waiting)
        there = {int(name[1:]) for name in _left(self.box)}
        assert there == self.waiting
        self.box.again()

    @invariant()
    def the_count_is_right(self) -> None:
        assert len(self.box.outbox) == len(self.waiting)
        assert self.box.outbox.dropped == {}

    def teardown(self) -> None:
        self.box.outbox.rewind()
        late = self.box.take()
        late += self.box.take()  # what is not on the disk comes when the disk has been read
        live = self.box.outbox.live(10_000)
        numbers = [int(item.event.id[1:]) for item in late]
        assert numbers == sorted(set(numbers))
        assert set(numbers) | {int(item.event.id[1:]) for item in live} == self.waiting
        self.folder.cleanup()


def _left(box: Box) -> list[str]:
    """What the next run finds."""
    box.again()
    return box.late()


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
