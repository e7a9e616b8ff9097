"""Where each tag is found on the wire: Modbus addresses, CoAP paths, MQTT topics. Pure; derived from ``TAGS``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.demo.tags import STAGES, TAGS, Protocol, Tag

NO_READING = -0x8000
"""What a 16-bit register holds when there is no reading."""

SENML_DEVICE_PATH = "s/dosing-analyser"
"""Path on the agent's CoAP server that the analysers of stage 2 post to."""

TOPIC_ROOT = "plant"


class Table(StrEnum):
    """Modbus table of a point."""

    COIL = "coil"
    HOLDING = "holding"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class ModbusPoint:
    """A tag in a PLC. ``width`` is in registers (or bits, in the coil table); 2 means an IEEE 754 float.

    Reading = raw value * ``scale``.
    """

    tag: Tag
    unit: int
    table: Table
    address: int
    width: int
    scale: float


def _modbus_points() -> tuple[ModbusPoint, ...]:
    """Stage 3 is an old PLC (coils and scaled 16-bit holding registers), stage 5 a newer one (floats)."""
    points = []
    next_address: dict[tuple[int, Table], int] = {}
    for tag in TAGS:
        if tag.protocol is not Protocol.MODBUS:
            continue
        if tag.stage == 5:
            table, width, scale = Table.INPUT, 2, 1.0
        elif tag.switch:
            table, width, scale = Table.COIL, 1, 1.0
        else:
            table, width, scale = Table.HOLDING, 1, tag.resolution
        address = next_address.get((tag.stage, table), 0)
        next_address[tag.stage, table] = address + width
        points.append(ModbusPoint(tag, tag.stage, table, address, width, scale))
    return tuple(points)


MODBUS_POINTS: tuple[ModbusPoint, ...] = _modbus_points()
OBSERVED: tuple[Tag, ...] = tuple(tag for tag in TAGS if tag.protocol is Protocol.COAP_OBSERVE)
POSTED: tuple[Tag, ...] = tuple(tag for tag in TAGS if tag.protocol is Protocol.COAP_POST)
PUBLISHED: tuple[Tag, ...] = tuple(tag for tag in TAGS if tag.protocol is Protocol.MQTT)


def topic(tag: Tag) -> str:
    """MQTT topic of a tag: ``plant/raw-water/LIT101``."""
    return f"{TOPIC_ROOT}/{STAGES[tag.stage].lower().replace(' ', '-')}/{tag.name}"


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port of one end of the wire."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``host:port``. :raises ValueError: saying what was expected."""
        host, colon, port = text.rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise ValueError(f"got {text!r}, expected host:port such as 127.0.0.1:1883")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where the running plant is reached; ``agent`` is the CoAP server that its analysers post to."""

    modbus: Address
    coap: Address
    mqtt: Address
    agent: Address
