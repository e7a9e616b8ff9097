from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.modbus.blocks import Block, merge, split
from edge_adapters.modbus.registers import Field, Kind, Order, Table

KINDS = (Kind.UINT16, Kind.FLOAT32, Kind.FLOAT64)


def field(address: int, kind: Kind = Kind.UINT16, table: Table = Table.HOLDING, name: str = "") -> Field:
    return Field(name or f"{table}{address}", table, address, kind, Order.BIG, Order.BIG, 0, 0, 1.0, 0.0, (), None, 1.0)


def spans(blocks: list[Block]) -> list[tuple[int, int]]:
    return [(block.address, block.count) for block in blocks]


fields = st.lists(
    st.builds(
        lambda address, kind, table: field(address, Kind.BOOL if table.single_bits else kind, table),
        st.integers(0, 600),
        st.sampled_from(KINDS),
        st.sampled_from(Table),
    ),
    max_size=60,
)


@given(fields=fields, max_gap=st.integers(0, 20), most=st.integers(4, 125))
def test_every_field_is_in_one_block_and_no_block_is_too_long(fields: list[Field], max_gap: int, most: int) -> None:
    blocks = merge(fields, max_gap, most)
    assert Counter(f for block in blocks for f in block.fields) == Counter(fields)
    for block in blocks:
        assert block.count <= (2_000 if block.table.single_bits else most)
        assert all(f.table is block.table for f in block.fields)
        assert min(f.address for f in block.fields) == block.address
        assert max(f.end for f in block.fields) == block.address + block.count
        covered = {a for f in block.fields for a in range(f.address, f.end)}
        gap = max_gap * 16 if block.table.single_bits else max_gap
        run = longest = 0
        for address in range(block.address, block.address + block.count):
            run = 0 if address in covered else run + 1
            longest = max(longest, run)
        assert longest <= gap


@given(fields=fields)
def test_splitting_to_the_end_leaves_each_field_once(fields: list[Field]) -> None:
    queue, leaves = merge(fields, 20, 125), []
    while queue:
        block = queue.pop()
        parts = split(block)
        if parts is None:
            leaves.append(block)
        else:
            assert sum(len(part.fields) for part in parts) == len(block.fields)
            queue += parts
    assert Counter(leaf.fields[0] for leaf in leaves) == Counter(fields)


def test_gap_at_the_limit_is_bridged_and_one_beyond_is_not() -> None:
    assert spans(merge([field(0), field(9)], 8, 125)) == [(0, 10)]
    assert spans(merge([field(0), field(10)], 8, 125)) == [(0, 1), (10, 1)]


def test_block_of_125_registers_is_full() -> None:
    assert spans(merge([field(address) for address in range(126)], 8, 125)) == [(0, 125), (125, 1)]
    assert spans(merge([field(0), field(124, Kind.FLOAT32)], 124, 125)) == [(0, 1), (124, 2)]


def test_block_of_2000_bits_is_full() -> None:
    bits = [field(address, Kind.BOOL, Table.COIL) for address in range(2_001)]
    assert spans(merge(bits, 8, 125)) == [(0, 2_000), (2_000, 1)]


def test_tables_are_not_mixed() -> None:
    assert len(merge([field(0), field(1, table=Table.INPUT)], 8, 125)) == 2


def test_overlapping_registers_are_read_once() -> None:
    shared = [field(0, Kind.FLOAT64, name="long"), field(1, name="inside"), field(1, Kind.FLOAT32, name="half")]
    (block,) = merge(shared, 8, 125)
    assert (block.address, block.count, len(block.fields)) == (0, 4, 3)


def test_split_is_at_the_widest_gap_or_else_in_the_middle() -> None:
    gapped = merge([field(0), field(1), field(2), field(8)], 8, 125)[0]
    parts = split(gapped)
    assert parts is not None
    assert spans(list(parts)) == [(0, 3), (8, 1)]
    even = split(merge([field(address) for address in range(8)], 8, 125)[0])
    assert even is not None
    assert spans(list(even)) == [(0, 4), (4, 4)]
    assert split(merge([field(0)], 8, 125)[0]) is None
