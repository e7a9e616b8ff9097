"""When what is polled: groups of registers of one unit with one interval, due on a grid that does not drift."""

from __future__ import annotations

import random
from collections.abc import Iterable

from edge_adapters.modbus.blocks import Block, merge
from edge_adapters.modbus.decode import Decoder
from edge_adapters.modbus.options import ModbusOptions
from edge_adapters.modbus.registers import Field
from edge_agent.clock import NS_PER_S

_MAX_SKIPPED_POLLS = 64


class Unit:
    """One unit on the bus and whether it answers. A silent one is left alone for a while, so the others go on."""

    def __init__(self, number: int, name: str, pause_s: float, pause_max_s: float) -> None:
        self.number = number
        self.label = f"unit {number}" + (f" ({name})" if name else "")
        self.failures = 0
        self.paused_until_ns = 0
        self._pause_s = pause_s
        self._pause_max_s = pause_max_s

    def answered(self) -> None:
        """Forget the failures."""
        self.failures = 0

    def give_another_chance(self) -> None:
        """End the pause: the connection was to blame, perhaps not the unit."""
        self.paused_until_ns = 0

    def failed(self, now_ns: int, rng: random.Random) -> float | None:
        """Count a poll without answer; from the second on, pause. Returns the pause (seconds, with jitter) or None."""
        self.failures += 1
        if self.failures < 2:
            return None
        pause = min(self._pause_max_s, self._pause_s * 2.0 ** min(self.failures - 2, 30))
        pause *= rng.uniform(0.5, 1.0)
        self.paused_until_ns = now_ns + int(pause * NS_PER_S)
        return pause


class BlockPoll:
    """A block with its decoder, and how often it may be asked."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.decoder = Decoder(block)
        self._refusals = 0
        self._skip = 0

    def take_turn(self) -> bool:
        """False when the block was refused lately and is to be left out of this poll."""
        if self._skip:
            self._skip -= 1
            return False
        return True

    def refused(self) -> None:
        """Ask less often: every 2nd, 4th … 64th poll."""
        self._refusals += 1
        self._skip = min(_MAX_SKIPPED_POLLS, 1 << min(self._refusals, 6)) - 1

    def accepted(self) -> None:
        """Ask in every poll again."""
        self._refusals = 0


class Group:
    """Everything of one unit with the same interval. ``due_ns`` is on the monotonic clock."""

    def __init__(self, unit: Unit, interval_ns: int, blocks: Iterable[Block]) -> None:
        self.unit = unit
        self.interval_ns = interval_ns
        self.blocks = [BlockPoll(block) for block in blocks]
        self.due_ns = 0

    def start(self, now_ns: int, rng: random.Random) -> None:
        """Poll once now; afterwards on a grid with a random phase, so that gateways and groups do not beat in step."""
        self.due_ns = now_ns - int(rng.random() * self.interval_ns)

    def next_poll(self, now_ns: int) -> int:
        """Move on by one interval. Polls that are a whole interval late are skipped, not queued; returns how many."""
        self.due_ns += self.interval_ns
        missed = max(0, (now_ns - self.due_ns) // self.interval_ns)
        self.due_ns += missed * self.interval_ns
        return missed

    @property
    def ready_ns(self) -> int:
        """When to poll: when it is due, but not while the unit is paused."""
        return max(self.due_ns, self.unit.paused_until_ns)

    def forget_missed(self, now_ns: int) -> None:
        """Move to the last poll due before ``now_ns``: there was a reason to leave out those before it."""
        self.due_ns += max(0, (now_ns - self.due_ns) // self.interval_ns) * self.interval_ns

    def postpone(self, poll: BlockPoll) -> None:
        """Ask for this block last from now on: the others may be answered."""
        self.blocks.remove(poll)
        self.blocks.append(poll)

    def replace(self, poll: BlockPoll, parts: Iterable[Block]) -> list[BlockPoll]:
        """Put ``parts`` in the place of ``poll``."""
        at = self.blocks.index(poll)
        fresh = [BlockPoll(part) for part in parts]
        self.blocks[at : at + 1] = fresh
        return fresh


def groups_of(options: ModbusOptions) -> list[Group]:
    """The groups of all devices. A register that holds the time is read first in each group of its device."""
    groups: list[Group] = []
    for device in options.devices:
        unit = Unit(device.unit, device.name, options.unit_pause, options.unit_pause_max)
        fields = device.fields(options.interval)
        times = [field for field in fields if field.time is not None]
        by_interval: dict[float, list[Field]] = {}
        for field in fields:
            if field.time is None:
                by_interval.setdefault(field.interval_s, list(times)).append(field)
        for interval_s, members in by_interval.items():
            blocks = merge(members, device.max_gap, device.max_block)
            blocks.sort(key=lambda block: all(field.time is None for field in block.fields))
            groups.append(Group(unit, max(1, int(interval_s * NS_PER_S)), blocks))
    return groups
