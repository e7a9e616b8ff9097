"""The PLCs of stages 3 and 5 as Modbus TCP units 3 and 5 of one server. They can be read, not written."""

from __future__ import annotations

import math
import struct
from functools import partial
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge_agent.demo.effects import Vector
from edge_agent.demo.tags import INDEX
from edge_agent.demo.wiring import MODBUS_POINTS, NO_READING, Address, ModbusPoint, Table

_FUNCTION_TABLE = {1: Table.COIL, 3: Table.HOLDING, 4: Table.INPUT}


class ModbusPlcs:
    """A Modbus TCP server whose registers show the last values given to :meth:`update`."""

    def __init__(self) -> None:
        self._images = {unit: _Image(unit) for unit in sorted({point.unit for point in MODBUS_POINTS})}
        self._server: ModbusTcpServer | None = None

    async def start(self, host: str, port: int) -> Address:
        """Listen (port 0: any free one) and give the address. :raises OSError: the port is taken."""
        devices = [image.device() for image in self._images.values()]
        server = ModbusTcpServer(devices, address=(host, port))
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise OSError(f"Modbus: cannot listen on {host}:{port}") from error
        self._server = server
        listener: Any = server.transport
        return Address(host, int(listener.sockets[0].getsockname()[1]))

    def update(self, values: Vector) -> None:
        """Show ``values`` (of all tags) from now on."""
        for image in self._images.values():
            image.update(values)

    async def stop(self) -> None:
        """Close the server and its connections."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus leaves it so


class _Image:
    """The registers of one unit."""

    def __init__(self, unit: int) -> None:
        self._unit = unit
        self._points = [point for point in MODBUS_POINTS if point.unit == unit]
        # A table that the unit does not have still needs one register: the server's data model asks for it.
        self._registers = {table: [0] * max(1, self._words(table)) for table in Table}

    def device(self) -> SimDevice:
        blocks = {table: self._block(table, len(registers)) for table, registers in self._registers.items()}
        unused = [SimData(0, count=16, values=False, datatype=DataType.BITS)]
        return SimDevice(
            self._unit,
            (blocks[Table.COIL], unused, blocks[Table.HOLDING], blocks[Table.INPUT]),
            action=partial(_answer, self._registers),
        )

    def update(self, values: Vector) -> None:
        for registers in self._registers.values():
            registers[:] = [0] * len(registers)
        for point in self._points:
            _put(self._registers[point.table], point, float(values[INDEX[point.tag.name]]))

    def _words(self, table: Table) -> int:
        bits_or_words = sum(point.width for point in self._points if point.table is table)
        return math.ceil(bits_or_words / 16) if table is Table.COIL else bits_or_words

    @staticmethod
    def _block(table: Table, words: int) -> list[SimData]:
        if table is Table.COIL:
            return [SimData(0, count=16 * words, values=False, datatype=DataType.BITS)]
        return [SimData(0, count=words, values=0, datatype=DataType.REGISTERS)]


def _put(registers: list[int], point: ModbusPoint, value: float) -> None:
    if point.table is Table.COIL:
        if value == 1.0:
            registers[point.address // 16] |= 1 << (point.address % 16)
    elif point.width == 2:
        registers[point.address : point.address + 2] = struct.unpack(">HH", struct.pack(">f", value))
    else:
        raw = NO_READING if math.isnan(value) else round(value / point.scale)
        registers[point.address] = raw & 0xFFFF


async def _answer(
    image: dict[Table, list[int]],
    function: int,
    _start: int,
    _address: int,
    _count: int,
    registers: list[int],
    written: list[int] | list[bool] | None,
) -> ExcCodes | None:
    """Called by the server before it answers: refuse writes, bring the registers up to date."""
    if written is not None:
        return ExcCodes.ILLEGAL_FUNCTION
    table = _FUNCTION_TABLE.get(function)
    if table is not None:
        registers[: len(image[table])] = image[table]
    return None
