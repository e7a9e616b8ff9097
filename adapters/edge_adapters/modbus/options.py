"""Options of the Modbus source. This module imports no client library."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from edge_adapters.modbus.map_file import load_map
from edge_adapters.modbus.registers import Addressing, Defaults, Kind, Order, RegisterOptions, resolve
from edge_adapters.modbus.registers import Field as RegisterField
from edge_agent.contract import SourceOptions
from edge_agent.options import Duration, Options


class Transport(StrEnum):
    """How frames travel."""

    TCP = "tcp"
    RTU = "rtu"
    RTU_OVER_TCP = "rtu_over_tcp"


class Parity(StrEnum):
    """Parity bit of a serial line."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class LineOptions(Options):
    """How to reach the bus; the `probe` command has the same."""

    transport: Transport = Field(
        default=Transport.TCP, description="`tcp`, `rtu` (serial line) or `rtu_over_tcp` (RTU frames, serial server)."
    )
    host: str | None = Field(default=None, min_length=1, description="Name or address of the device or gateway.")
    port: int = Field(default=502, ge=1, le=65_535, description="TCP port.")
    device: str | None = Field(
        default=None, min_length=1, description="Serial device, best by its lasting name: `/dev/serial/by-id/…`."
    )
    baudrate: int = Field(default=19_200, ge=300, le=4_000_000, description="Bits per second of the serial line.")
    parity: Parity = Field(
        default=Parity.EVEN, description="Parity of the serial line; the Modbus standard says `even`."
    )
    stopbits: Literal[1, 2] = Field(default=1, description="Stop bits of the serial line.")
    timeout: Duration = Field(
        default=1.0, gt=0, le=60, description="Time to wait for one answer. Connecting may take 3 s, or as long."
    )
    retries: int = Field(default=1, ge=0, le=10, description="How often a request without an answer is sent again.")

    @model_validator(mode="after")
    def _reachable(self) -> LineOptions:
        if self.transport is Transport.RTU:
            if self.device is None or self.host is not None:
                raise ValueError("transport rtu: expected `device` (a serial device) and no `host`")
        elif self.host is None or self.device is not None:
            raise ValueError(f"transport {self.transport}: expected `host` and no `device`")
        return self

    @property
    def where(self) -> str:
        """Address for messages: ``tcp 10.0.0.5:502`` or ``rtu /dev/ttyUSB0``."""
        if self.transport is Transport.RTU:
            return f"rtu {self.device}"
        return f"{self.transport} {self.host}:{self.port}"


class DeviceOptions(Options):
    """One unit on the bus and what to read from it."""

    unit: int = Field(
        default=1, ge=0, le=255, description="Unit (slave) id, 1 to 247; single TCP devices often use 0 or 255."
    )
    name: str = Field(default="", max_length=100, description="Put in front of every sensor: `<name>.<register>`.")
    registers: tuple[RegisterOptions, ...] = Field(default=(), description="What to read.")
    map: str | None = Field(
        default=None, description="File with more registers: `.csv` or `.yaml`.", json_schema_extra={"format": "path"}
    )
    addressing: Addressing = Field(
        default=Addressing.ZERO, description="Addresses count from `zero`, from `one`, or are `modicon` (40001)."
    )
    byte_order: Order = Field(default=Order.BIG, description="Order of the two bytes inside a register.")
    word_order: Order = Field(default=Order.BIG, description="Order of the registers of a value that takes several.")
    interval: Duration | None = Field(default=None, gt=0, description="Time between two polls of this device.")
    max_gap: int = Field(
        default=8, ge=0, le=124, description="Registers that may be read for nothing to merge two requests into one."
    )
    max_block: int = Field(
        default=125, ge=1, le=125, description="Most registers in one request; some devices answer fewer than 125."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_map(cls, data: Any, info: ValidationInfo) -> Any:
        """Put the registers of the map file in front of those given in place.

        A relative path starts at ``directory`` of the validation context, else at the working directory.
        """
        if not isinstance(data, dict) or not isinstance(data.get("map"), str):
            return data
        directory = Path((info.context or {}).get("directory", "."))
        return {**data, "registers": [*load_map(directory / data["map"]), *(data.get("registers") or ())]}

    @model_validator(mode="after")
    def _resolvable(self) -> DeviceOptions:
        if not self.registers:
            raise ValueError("registers: got none, expected at least one here or in `map`")
        fields = self.fields(1.0)
        if all(field.time is not None for field in fields):
            raise ValueError("registers: got no sensors (strings are not read), expected at least one")
        if sum(field.time is not None for field in fields) > 1:
            raise ValueError("registers: got several with `time`, expected at most one in a device")
        return self

    def fields(self, interval_s: float) -> tuple[RegisterField, ...]:
        """What is read, strings left out. ``interval_s`` holds where neither device nor register says another."""
        defaults = Defaults(
            name=self.name,
            addressing=self.addressing,
            byte_order=self.byte_order,
            word_order=self.word_order,
            interval_s=self.interval or interval_s,
        )
        return tuple(self._resolved(register, defaults) for register in self.registers if register.type != Kind.STRING)

    @staticmethod
    def _resolved(register: RegisterOptions, defaults: Defaults) -> RegisterField:
        try:
            return resolve(register, defaults)
        except ValueError as error:
            raise ValueError(f"register {register.name!r}: {error}") from error


class ModbusOptions(SourceOptions, LineOptions):
    """Options of a Modbus bus: one TCP connection or one serial line with all units on it."""

    interval: Duration = Field(default=1.0, gt=0, description="Time between two polls.")
    devices: tuple[DeviceOptions, ...] = Field(
        description="Units on this bus and what to read from each.", json_schema_extra={"minItems": 1}
    )
    unit_pause: Duration = Field(
        default=5.0, gt=0, description="First pause of a unit that does not answer; doubles each time."
    )
    unit_pause_max: Duration = Field(default=300.0, gt=0, description="Longest pause of a unit that does not answer.")

    @model_validator(mode="after")
    def _consistent(self) -> ModbusOptions:
        if not self.devices:
            raise ValueError("devices: got none, expected at least one")
        if self.transport is not Transport.TCP:
            for device in self.devices:
                if not 1 <= device.unit <= 247:
                    raise ValueError(f"devices: got unit {device.unit} on an RTU bus, expected 1 to 247")
        seen: set[str] = set()
        for device in self.devices:
            for field in device.fields(self.interval):
                if field.sensor in seen:
                    raise ValueError(
                        f"devices: got the sensor {field.sensor!r} twice; give each device a `name` of its own"
                    )
                seen.add(field.sensor)
        return self
