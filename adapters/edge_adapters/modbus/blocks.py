"""Which registers are read together. Pure.

One request costs a round trip, so neighbours share one; what lies in small gaps between them is read and thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from edge_adapters.modbus.registers import Field, Table

MAX_BITS = 2_000
"""Most coils or discrete inputs in one request (Modbus Application Protocol V1.1b3, section 6.1)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One request: ``count`` registers (or bits) from ``address``. ``fields`` lie inside, sorted by address."""

    table: Table
    address: int
    count: int
    fields: tuple[Field, ...]


def block_of(fields: Sequence[Field]) -> Block:
    """The smallest block that holds ``fields`` (at least one, of one table)."""
    ordered = tuple(sorted(fields, key=lambda field: (field.address, field.end)))
    address = ordered[0].address
    return Block(ordered[0].table, address, max(field.end for field in ordered) - address, ordered)


def merge(fields: Sequence[Field], max_gap: int, max_registers: int) -> list[Block]:
    """Every field in exactly one block; gaps of at most ``max_gap`` registers (16 times as many bits) are bridged.

    A value longer than ``max_registers`` gets a block of its own.
    """
    blocks: list[Block] = []
    run: list[Field] = []
    end = 0
    for field in sorted(fields, key=lambda field: (field.table, field.address, field.end)):
        bits = field.table.single_bits
        gap, limit = (max_gap * 16, MAX_BITS) if bits else (max_gap, max_registers)
        joins = (
            bool(run)
            and field.table is run[0].table
            and field.address - end <= gap
            and max(end, field.end) - run[0].address <= limit
        )
        if run and not joins:
            blocks.append(block_of(run))
            run = []
        end = max(end, field.end) if run else field.end
        run.append(field)
    return [*blocks, block_of(run)] if run else blocks


def split(block: Block) -> tuple[Block, Block] | None:
    """Two parts at the widest gap (the nearest to the middle of several); None when there is one field only.

    Devices refuse a whole block for one address that does not exist, and most often it lies in a gap.
    """
    fields = block.fields
    if len(fields) < 2:
        return None
    middle = len(fields) / 2
    ends = list(accumulate((field.end for field in fields), max))
    at = max(range(1, len(fields)), key=lambda i: (fields[i].address - ends[i - 1], -abs(i - middle)))
    return block_of(fields[:at]), block_of(fields[at:])
