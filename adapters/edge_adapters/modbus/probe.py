"""What does this register hold? Reads a range and shows every plausible way to read it.

The documents of a device often leave open whether it sends the low register first. Side by side, the sensible value
is seen at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from edge_adapters.modbus.blocks import MAX_BITS, Block
from edge_adapters.modbus.decode import assemble, interpret
from edge_adapters.modbus.options import LineOptions
from edge_adapters.modbus.registers import MAX_ADDRESS, Kind, Order, Table

_SMALLEST_NORMAL = {Kind.FLOAT16: 2.0**-14, Kind.FLOAT32: 2.0**-126, Kind.FLOAT64: 2.0**-1022}
_HUGE = 1e9
_TINY = 1e-9


class ProbeOptions(LineOptions):
    """What to read once."""

    unit: int = Field(default=1, ge=0, le=255, description="Unit (slave) id.")
    table: Table = Field(default=Table.HOLDING, description="`coil`, `discrete`, `holding` or `input`.")
    address: int = Field(default=0, ge=0, le=MAX_ADDRESS, description="First address, counted from 0.")
    count: int = Field(default=10, ge=1, le=MAX_BITS, description="Registers or bits to read.")

    @model_validator(mode="after")
    def _in_table(self) -> ProbeOptions:
        most = MAX_BITS if self.table.single_bits else 125
        if self.count > most:
            raise ValueError(f"count: got {self.count}, expected at most {most} in the table {self.table}")
        if self.address + self.count > MAX_ADDRESS + 1:
            raise ValueError(f"address, count: the range ends behind the last address {MAX_ADDRESS}")
        return self


@dataclass(frozen=True, slots=True)
class ProbeRow:
    """One way to read the registers from ``address`` on. ``doubt`` says why the value is implausible, else None."""

    address: int
    raw: str
    type: Kind
    byte_order: Order
    word_order: Order
    value: float | None
    doubt: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


async def probe(options: ProbeOptions) -> list[ProbeRow]:
    """Read the range once and decode it in every way.

    :raises RetryableAdapterError: no connection. :raises PayloadError: no answer, or the unit refuses.
    """
    from edge_adapters.modbus.bus import Bus

    bus = Bus(options)
    try:
        await bus.connect()
        words = await bus.read(options.unit, Block(options.table, options.address, options.count, ()))
    finally:
        bus.close()
    return list(decodings(words, options.table, options.address))


def decodings(words: NDArray[np.uint16], table: Table, address: int) -> Iterator[ProbeRow]:
    """Every reading of ``words``: by position, then type, then orders."""
    for position in range(len(words)):
        if table.single_bits:
            bit = int(words[position])
            yield ProbeRow(address + position, str(bit), Kind.BOOL, Order.BIG, Order.BIG, float(bit), None)
            continue
        for kind in Kind:
            rest = words[position : position + kind.registers]
            if kind not in (Kind.BOOL, Kind.STRING) and len(rest) == kind.registers:
                yield from _orders(rest, kind, address + position)


def _orders(words: NDArray[np.uint16], kind: Kind, address: int) -> Iterator[ProbeRow]:
    for byte_order in Order:
        for word_order in Order if kind.registers > 1 else (Order.BIG,):
            raw = assemble(words.reshape(1, -1), kind, byte_order, word_order)
            value = float(interpret(raw, kind)[0])
            yield ProbeRow(
                address=address,
                raw=" ".join(f"{word:04X}" for word in words),
                type=kind,
                byte_order=byte_order,
                word_order=word_order,
                value=value if math.isfinite(value) else None,
                doubt=doubt(kind, value),
            )


def doubt(kind: Kind, value: float) -> str | None:
    """Why ``value`` is hardly meant by a device, or None."""
    if kind in (Kind.BCD16, Kind.BCD32) and math.isnan(value):
        return "not decimal digits"
    if not math.isfinite(value):
        return "not a finite number"
    if value == 0:
        return None
    if kind in _SMALLEST_NORMAL and abs(value) < _SMALLEST_NORMAL[kind]:
        return "denormal"
    if kind in _SMALLEST_NORMAL and abs(value) < _TINY:
        return "tiny"
    return "huge" if abs(value) > _HUGE else None
