"""From registers to readings, for a whole block at once. Pure.

Byte order and word order are separate: a device sends each register with the high byte first (the standard) or last,
and a value of several registers with the high register first or last. ``ABCD`` is big/big, ``CDAB`` word little,
``BADC`` byte little, ``DCBA`` both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_adapters.modbus.blocks import Block
from edge_adapters.modbus.registers import Field, Kind, Order, sensor_fields
from edge_agent.sample import Quality

Words = NDArray[np.uint16]
Floats = NDArray[np.float64]

_FLOATS = (Kind.FLOAT16, Kind.FLOAT32, Kind.FLOAT64)
_SIGNED = (Kind.INT16, Kind.INT32, Kind.INT64)
_BCD = (Kind.BCD16, Kind.BCD32)


def assemble(words: Words, kind: Kind, byte_order: Order, word_order: Order) -> NDArray[np.unsignedinteger]:
    """Unsigned integers from rows of registers (shape n x registers of ``kind``), in machine order."""
    if byte_order is Order.LITTLE:
        words = words.byteswap()
    if word_order is Order.LITTLE:
        words = words[:, ::-1]
    width = 2 * kind.registers
    joined = np.ascontiguousarray(words, dtype=">u2").view(f">u{width}")
    return joined[:, 0].astype(f"u{width}")


def interpret(raw: NDArray[np.unsignedinteger], kind: Kind) -> Floats:
    """Numbers from unsigned integers; NaN for BCD with a digit above 9."""
    if kind in _BCD:
        return _bcd(raw)
    if kind is Kind.BOOL:
        return np.asarray(raw != 0, dtype=np.float64)
    letter = "f" if kind in _FLOATS else "i" if kind in _SIGNED else "u"
    with np.errstate(invalid="ignore"):  # signalling NaN
        return np.asarray(raw.view(f"{letter}{raw.dtype.itemsize}"), dtype=np.float64)


def _bcd(raw: NDArray[np.unsignedinteger]) -> Floats:
    places = np.arange(raw.dtype.itemsize * 2)
    digits = (raw.astype(np.int64)[:, None] >> (4 * places)) & 15
    values = (digits * 10**places).sum(axis=1).astype(np.float64)
    return np.where((digits > 9).any(axis=1), np.nan, values)


class _Group:
    """Fields of one block that are decoded in one go: same type and orders."""

    def __init__(self, fields: Sequence[tuple[int, Field]], start: int) -> None:
        first = fields[0][1]
        self._kind, self._byte_order, self._word_order = first.kind, first.byte_order, first.word_order
        registers = 1 if first.table.single_bits else first.kind.registers
        self._index = np.array([[field.address - start + i for i in range(registers)] for _, field in fields])
        self.at = np.array([position for position, _ in fields])
        self._scale = np.array([field.scale for _, field in fields])
        self._offset = np.array([field.offset for _, field in fields])
        self._plain = all(field.scale == 1.0 and field.offset == 0.0 for _, field in fields)
        self._shift = np.array([field.low_bit for _, field in fields], dtype=np.uint64)
        self._mask = np.array([(1 << (field.bit_count or 64)) - 1 for _, field in fields], dtype=np.uint64)
        self._has_bits = any(field.bit_count for _, field in fields)
        absent = [(i, value) for i, (_, field) in enumerate(fields) for value in field.not_available]
        self._absent_at = np.array([i for i, _ in absent], dtype=np.int64)
        self._absent_raw = np.array([value for _, value in absent], dtype=np.uint64)

    def decode(self, words: Words) -> tuple[Floats, NDArray[np.bool_]]:
        """Readings, and which of them the device has marked as not available."""
        raw = assemble(words[self._index], self._kind, self._byte_order, self._word_order)
        absent = np.zeros(len(raw), dtype=np.bool_)
        if len(self._absent_at):
            absent[self._absent_at[raw[self._absent_at] == self._absent_raw]] = True
        if self._has_bits:
            raw = ((raw.astype(np.uint64) >> self._shift) & self._mask).astype(raw.dtype)
        values = interpret(raw, self._kind)
        if self._kind in _BCD:
            absent |= np.isnan(values)
        if not self._plain:
            values = values * self._scale + self._offset
        values[absent] = np.nan
        return values, absent


class Decoder:
    """Decodes the answers to one block; ``sensors`` is the same tuple object for the life of the decoder."""

    def __init__(self, block: Block) -> None:
        fields = sensor_fields(block.fields)
        self.sensors = tuple(field.sensor for field in fields)
        self._time = next((field for field in block.fields if field.time is not None), None)
        self._start = block.address
        grouped: dict[tuple[Kind, Order, Order], list[tuple[int, Field]]] = {}
        for position, field in enumerate(fields):
            grouped.setdefault((field.kind, field.byte_order, field.word_order), []).append((position, field))
        self._groups = [_Group(group, block.address) for group in grouped.values()]

    def decode(self, words: Words) -> tuple[Floats, int | list[int]]:
        """Readings in the order of ``sensors``, and their quality: one for all, or one each."""
        values = np.empty(len(self.sensors))
        bad: NDArray[np.bool_] | None = None
        for group in self._groups:
            values[group.at], absent = group.decode(words)
            if absent.any():
                bad = np.zeros(len(values), dtype=np.bool_) if bad is None else bad
                bad[group.at] = absent
        return values, 0 if bad is None else (bad * int(Quality.BAD)).tolist()

    def time_ns(self, words: Words) -> int | None:
        """Time of measurement (ns since 1970), None when the block has no such register or it says 0 or not available.

        Integers throughout: a double would round nanoseconds of today to 256 ns.
        """
        field = self._time
        if field is None or field.time is None:
            return None
        start = field.address - self._start
        row = words[start : start + field.kind.registers].reshape(1, -1)
        raw = int(assemble(row, field.kind, field.byte_order, field.word_order)[0])
        width = 16 * field.kind.registers
        value = raw - (1 << width) if field.kind in _SIGNED and raw >> (width - 1) else raw
        if value <= 0 or raw in field.not_available or raw == (1 << width) - 1:
            return None
        return value * field.time.nanoseconds
