from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_adapters.modbus.blocks import Block, block_of
from edge_adapters.modbus.decode import Decoder
from edge_adapters.modbus.registers import Field, Kind, Order, Table, TimeUnit
from edge_agent.sample import Quality

FORMATS = {
    Kind.INT16: "h",
    Kind.UINT16: "H",
    Kind.INT32: "i",
    Kind.UINT32: "I",
    Kind.INT64: "q",
    Kind.UINT64: "Q",
    Kind.FLOAT16: "e",
    Kind.FLOAT32: "f",
    Kind.FLOAT64: "d",
}


def encode(raw: bytes, byte_order: Order, word_order: Order) -> list[int]:
    """Registers as a device of these orders sends the big-endian bytes ``raw``; apart from the code under test."""
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if word_order is Order.LITTLE:
        words.reverse()
    return [int.from_bytes(word[::-1] if byte_order is Order.LITTLE else word, "big") for word in words]


def make_field(kind: Kind, address: int = 0, **given: Any) -> Field:
    values: dict[str, Any] = {
        "sensor": f"s{address}", "table": Table.HOLDING, "address": address, "kind": kind, "byte_order": Order.BIG,
        "word_order": Order.BIG, "low_bit": 0, "bit_count": 0, "scale": 1.0, "offset": 0.0, "not_available": (),
        "time": None, "interval_s": 1.0, **given,
    }  # fmt: skip
    return Field(**values)


def decode_one(field: Field, words: list[int]) -> tuple[float, int]:
    values, quality = Decoder(block_of([field])).decode(np.array(words, dtype=np.uint16))
    return float(values[0]), quality if isinstance(quality, int) else quality[0]


orders = st.sampled_from(Order)


@given(data=st.data(), kind=st.sampled_from(list(FORMATS)), byte_order=orders, word_order=orders)
def test_every_type_in_every_order_is_read_back(data: Any, kind: Kind, byte_order: Order, word_order: Order) -> None:
    code = ">" + FORMATS[kind]
    raw = data.draw(st.binary(min_size=struct.calcsize(code), max_size=struct.calcsize(code)))
    expected = float(struct.unpack(code, raw)[0])
    value, quality = decode_one(
        make_field(kind, byte_order=byte_order, word_order=word_order), encode(raw, byte_order, word_order)
    )
    assert quality == 0
    assert value == expected or (math.isnan(value) and math.isnan(expected))


@given(number=st.integers(0, 99_999_999), byte_order=orders, word_order=orders)
def test_bcd_is_read_back(number: int, byte_order: Order, word_order: Order) -> None:
    raw = bytes.fromhex(f"{number:08d}")
    field = make_field(Kind.BCD32, byte_order=byte_order, word_order=word_order)
    assert decode_one(field, encode(raw, byte_order, word_order)) == (number, 0)
    assert decode_one(make_field(Kind.BCD16), encode(raw[2:], Order.BIG, Order.BIG)) == (number % 10_000, 0)


@pytest.mark.parametrize("raw", [0x12A4, 0xF000, 0x000A])
def test_bcd_with_other_digits_is_bad(raw: int) -> None:
    value, quality = decode_one(make_field(Kind.BCD16), [raw])
    assert math.isnan(value)
    assert quality == Quality.BAD


@pytest.mark.parametrize(
    ("low_bit", "bit_count", "kind", "words", "expected"),
    [
        (0, 1, Kind.BOOL, [0b0001], 1),
        (3, 1, Kind.BOOL, [0b0111], 0),
        (15, 1, Kind.BOOL, [0x8000], 1),
        (4, 4, Kind.UINT16, [0x12A4], 0xA),
        (0, 16, Kind.UINT16, [0xFFFF], 0xFFFF),
        (16, 8, Kind.UINT32, [0x12A4, 0xFFFF], 0xA4),
        (63, 1, Kind.UINT64, [0x8000, 0, 0, 0], 1),
        (0, 0, Kind.BOOL, [0x0100], 1),
        (0, 0, Kind.BOOL, [0], 0),
    ],
)
def test_bit_fields(low_bit: int, bit_count: int, kind: Kind, words: list[int], expected: float) -> None:
    assert decode_one(make_field(kind, low_bit=low_bit, bit_count=bit_count), words) == (expected, 0)


def test_scale_and_offset() -> None:
    value, _ = decode_one(make_field(Kind.INT16, scale=0.1, offset=-40.0), [0xFFFE])
    assert value == pytest.approx(-40.2)


@pytest.mark.parametrize(
    ("kind", "words", "marker"),
    [
        (Kind.INT16, [0x8000], 0x8000),
        (Kind.FLOAT32, [0x7FC0, 0x0000], 0x7FC00000),
        (Kind.UINT64, [0xFFFF] * 4, 2**64 - 1),
    ],
)
def test_value_that_means_not_available_is_bad(kind: Kind, words: list[int], marker: int) -> None:
    field = make_field(kind, not_available=(1, marker), scale=2.0)
    value, quality = decode_one(field, words)
    assert math.isnan(value)
    assert quality == Quality.BAD
    assert decode_one(field, [0] * len(words)) == (0.0, 0)


def test_block_of_mixed_types_keeps_the_order_of_its_fields() -> None:
    fields = [
        make_field(Kind.UINT16, 100, not_available=(7,)),
        make_field(Kind.FLOAT32, 101),
        make_field(Kind.INT16, 105, scale=10.0),
        make_field(Kind.FLOAT32, 103, word_order=Order.LITTLE),
        make_field(Kind.UINT16, 106),
    ]
    high, low = struct.unpack(">HH", struct.pack(">f", 2.5))
    words = np.array([7, high, low, low, high, 0xFFFF, 3], dtype=np.uint16)
    decoder = Decoder(block_of(fields))
    values, quality = decoder.decode(words)
    assert decoder.sensors == ("s100", "s101", "s103", "s105", "s106")
    np.testing.assert_array_equal(values, [np.nan, 2.5, 2.5, -10.0, 3.0])
    assert quality == [1, 0, 0, 0, 0]
    assert values.dtype == np.float64


def test_bits_of_a_bit_table() -> None:
    fields = [make_field(Kind.BOOL, address, table=Table.COIL) for address in (5, 6, 9)]
    values, quality = Decoder(block_of(fields)).decode(np.array([1, 0, 0, 0, 1], dtype=np.uint16))
    assert (values.tolist(), quality) == ([1.0, 0.0, 1.0], 0)


@pytest.mark.parametrize(
    ("kind", "unit", "raw", "expected"),
    [
        (Kind.UINT32, TimeUnit.S, 1_700_000_000, 1_700_000_000 * 10**9),
        (Kind.UINT64, TimeUnit.MS, 1_700_000_000_123, 1_700_000_000_123 * 10**6),
        (Kind.UINT64, TimeUnit.NS, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (Kind.INT64, TimeUnit.US, 5, 5_000),
        (Kind.UINT32, TimeUnit.S, 0, None),
        (Kind.UINT32, TimeUnit.S, 0xFFFFFFFF, None),
        (Kind.INT32, TimeUnit.S, 0x80000000, None),
        (Kind.UINT32, TimeUnit.S, 77, None),
    ],
)
def test_time_of_the_device(kind: Kind, unit: TimeUnit, raw: int, expected: int | None) -> None:
    field = make_field(kind, time=unit, not_available=(77,), word_order=Order.LITTLE)
    words = encode(raw.to_bytes(2 * kind.registers, "big"), Order.BIG, Order.LITTLE)
    decoder = Decoder(Block(Table.HOLDING, 0, len(words), (field,)))
    assert decoder.time_ns(np.array(words, dtype=np.uint16)) == expected
    assert decoder.sensors == ()
