"""What one register of a map is: the options a user writes, and the resolved :class:`Field` the poller works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Option

from edge_agent.options import Duration, Options

MAX_ADDRESS = 65_535


class Table(StrEnum):
    """The four tables of the Modbus data model (Modbus Application Protocol V1.1b3, section 4.3)."""

    COIL = "coil"
    DISCRETE = "discrete"
    HOLDING = "holding"
    INPUT = "input"

    @property
    def single_bits(self) -> bool:
        """True for the tables of bits, False for those of 16-bit registers."""
        return self in (Table.COIL, Table.DISCRETE)


class Kind(StrEnum):
    """How the bits of a value are to be read. ``string`` may stand in a map; it is not read."""

    BOOL = "bool"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"

    @property
    def registers(self) -> int:
        """Registers one value takes."""
        return _REGISTERS.get(self, 1)


_REGISTERS = {
    **dict.fromkeys((Kind.INT32, Kind.UINT32, Kind.FLOAT32, Kind.BCD32), 2),
    **dict.fromkeys((Kind.INT64, Kind.UINT64, Kind.FLOAT64), 4),
}
UNSIGNED = (Kind.BOOL, Kind.UINT16, Kind.UINT32, Kind.UINT64)
TIME_KINDS = (Kind.UINT32, Kind.INT32, Kind.UINT64, Kind.INT64)


class Order(StrEnum):
    """Which end comes first."""

    BIG = "big"
    LITTLE = "little"


class Addressing(StrEnum):
    """How addresses are written: from 0 (as on the wire), from 1, or with the table in front (40001)."""

    ZERO = "zero"
    ONE = "one"
    MODICON = "modicon"


class TimeUnit(StrEnum):
    """Unit of a register that holds the time of measurement, counted from 1970 in UTC."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"

    @property
    def nanoseconds(self) -> int:
        """Length of one unit in ns."""
        return {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[self.value]


def _whole_number(value: Any) -> Any:
    """Numbers may be written as text, so that YAML does not read 00010 as octal and CSV can say 0x8000."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    try:
        return int(text, 16) if text.lstrip("-").startswith("0x") else int(text, 10)
    except ValueError:
        raise ValueError(f"got {value!r}, expected a whole number such as 12, 40001 or 0x1A") from None


def _bit_range(value: Any) -> Any:
    """``4-7`` (as in a CSV map) or ``[4, 7]``."""
    if isinstance(value, str):
        return [_whole_number(part) for part in value.split("-")]
    return value


def _number_list(value: Any) -> Any:
    """``0x8000; 0x7FFF`` (as in a CSV map), one number, or a list."""
    if isinstance(value, str):
        value = value.replace(";", " ").split()
    return [value] if isinstance(value, int) else value


WholeNumber = Annotated[int, BeforeValidator(_whole_number)]


class RegisterOptions(Options):
    """One value to read; the columns of a CSV map have the same names."""

    name: str = Option(min_length=1, max_length=200, description="Name of the sensor (behind the name of the device).")
    address: WholeNumber = Option(
        ge=0, le=465_536, description="Address, written as the device's `addressing` says; hexadecimal as text, `0x1A`."
    )
    table: Table | None = Option(
        default=None,
        description="`coil`, `discrete`, `holding` or `input`. Default: `holding`, or what a Modicon address says.",
    )
    type: Kind | None = Option(
        default=None, description="How to read the bits. Default: `bool` for coils and discrete inputs, else `uint16`."
    )
    bit: WholeNumber | None = Option(
        default=None, ge=0, le=63, description="Take this bit only; 0 is the least significant one."
    )
    bits: Annotated[tuple[int, int], BeforeValidator(_bit_range)] | None = Option(
        default=None, description="Take these bits only, lowest and highest, both included: `[4, 7]` or `4-7`."
    )
    byte_order: Order | None = Option(default=None, description="Order of the two bytes inside a register.")
    word_order: Order | None = Option(default=None, description="Order of the registers of a value that takes several.")
    scale: float = Option(default=1.0, allow_inf_nan=False, description="Reading = raw value * `scale` + `offset`.")
    offset: float = Option(default=0.0, allow_inf_nan=False, description="Reading = raw value * `scale` + `offset`.")
    unit: str | None = Option(default=None, description="Unit of the reading, for the people who read the map.")
    interval: Duration | None = Option(default=None, gt=0, description="Time between two polls of this register.")
    not_available: Annotated[tuple[WholeNumber, ...], BeforeValidator(_number_list)] = Option(
        default=(), description="Raw values by which the device says that it has no reading, such as `0x8000`."
    )
    time: TimeUnit | None = Option(
        default=None,
        description="This register is no sensor but the time of measurement (`s`, `ms`, `us` or `ns` since 1970 UTC) "
        "of everything read from the device in the same poll.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> RegisterOptions:
        kind = self.type or Kind.UINT16
        if self.table is not None and self.table.single_bits and self.type not in (None, Kind.BOOL):
            raise ValueError(f"type: got {self.type!s} in table {self.table!s}, expected bool")
        if self.bit is not None and self.bits is not None:
            raise ValueError("bit and bits: got both, expected one of them")
        if self.bit is not None or self.bits is not None:
            low, high = self.bits or (self.bit or 0, self.bit or 0)
            if kind not in UNSIGNED:
                raise ValueError(f"bit, bits: got type {kind!s}, expected bool or an unsigned integer")
            if not 0 <= low <= high < 16 * kind.registers:
                raise ValueError(f"bits: got {low} to {high}, expected 0 to {16 * kind.registers - 1}, lowest first")
        if self.time is not None and kind not in TIME_KINDS:
            raise ValueError(f"time: got type {kind!s}, expected one of {', '.join(TIME_KINDS)}")
        return self


@dataclass(frozen=True, slots=True)
class Field:
    """One value on the wire. ``address`` counts from 0; ``low_bit`` and ``bit_count`` are 0 when all bits count."""

    sensor: str
    table: Table
    address: int
    kind: Kind
    byte_order: Order
    word_order: Order
    low_bit: int
    bit_count: int
    scale: float
    offset: float
    not_available: tuple[int, ...]
    time: TimeUnit | None
    interval_s: float

    @property
    def end(self) -> int:
        """First address behind the value."""
        return self.address + (1 if self.table.single_bits else self.kind.registers)


_MODICON = ((Table.DISCRETE, 1), (Table.INPUT, 3), (Table.HOLDING, 4))


def locate(address: int, table: Table | None, addressing: Addressing) -> tuple[Table, int]:
    """Table and address on the wire. :raises ValueError: saying what was expected."""
    if addressing is Addressing.ZERO:
        return _within(table or Table.HOLDING, address, address)
    if addressing is Addressing.ONE:
        return _within(table or Table.HOLDING, address - 1, address)
    for modicon_table, digit in _MODICON:
        for base, last in ((digit * 10_000, 9_999), (digit * 100_000, 65_536)):
            if base + 1 <= address <= base + last:
                return _agreed(modicon_table, table, address), address - base - 1
    if 1 <= address <= 9_999:
        return _agreed(Table.COIL, table, address), address - 1
    raise ValueError(
        f"address: got {address}, expected a Modicon address: 1 to 9999 (coil), 10001 (discrete), 30001 (input) "
        "or 40001 (holding) and up, or the same with six digits"
    )


def _within(table: Table, address: int, written: int) -> tuple[Table, int]:
    if not 0 <= address <= MAX_ADDRESS:
        raise ValueError(f"address: got {written}, which is outside the table of {MAX_ADDRESS + 1} addresses")
    return table, address


def _agreed(found: Table, given: Table | None, address: int) -> Table:
    if given not in (None, found):
        raise ValueError(f"table: got {given!s}, but {address} is a Modicon address of the table {found!s}")
    return found


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a device says for all its registers."""

    name: str
    addressing: Addressing
    byte_order: Order
    word_order: Order
    interval_s: float


def resolve(register: RegisterOptions, defaults: Defaults) -> Field:
    """The field that ``register`` means. :raises ValueError: its address does not exist."""
    table, address = locate(register.address, register.table, defaults.addressing)
    kind = register.type or (Kind.BOOL if table.single_bits else Kind.UINT16)
    if table.single_bits and (kind is not Kind.BOOL or register.bit is not None or register.bits is not None):
        raise ValueError(f"type: got {kind!s} with bits in table {table!s}, expected a plain bool")
    low_bit, bit_count = _selected_bits(register)
    field = Field(
        sensor=f"{defaults.name}.{register.name}" if defaults.name else register.name,
        table=table,
        address=address,
        kind=kind,
        byte_order=register.byte_order or defaults.byte_order,
        word_order=register.word_order or defaults.word_order,
        low_bit=low_bit,
        bit_count=bit_count,
        scale=register.scale,
        offset=register.offset,
        not_available=tuple(value % (1 << 16 * kind.registers) for value in register.not_available),
        time=register.time,
        interval_s=register.interval or defaults.interval_s,
    )
    if field.end > MAX_ADDRESS + 1:
        raise ValueError(f"address: got {register.address}, but {kind!s} would end behind the last register")
    return field


def _selected_bits(register: RegisterOptions) -> tuple[int, int]:
    if register.bit is not None:
        return register.bit, 1
    if register.bits is not None:
        return register.bits[0], register.bits[1] - register.bits[0] + 1
    return 0, 0


def sensor_fields(fields: Sequence[Field]) -> tuple[Field, ...]:
    """Those that are sensors: without the registers that hold the time."""
    return tuple(field for field in fields if field.time is None)
