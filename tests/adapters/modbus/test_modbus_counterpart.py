"""Against software that we did not write: a server made with libmodbus, and the client mbpoll."""

from __future__ import annotations

import ast
import asyncio
import math
import re
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from modbus_stand import Counterpart, Running, SerialCable, running_source
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import edge_adapters.modbus as package
from edge_agent.errors import RetryableAdapterError
from edge_agent.sample import Quality

pytestmark = pytest.mark.counterpart

REGISTERS: list[dict[str, Any]] = [
    {"name": "int16", "address": 0, "type": "int16"},
    {"name": "absent", "address": 1, "type": "int16", "not_available": [0x8000]},
    {"name": "abcd", "address": 10, "type": "float32"},
    {"name": "cdab", "address": 12, "type": "float32", "word_order": "little"},
    {"name": "badc", "address": 14, "type": "float32", "byte_order": "little"},
    {"name": "dcba", "address": 16, "type": "float32", "byte_order": "little", "word_order": "little"},
    {"name": "int32", "address": 20, "type": "int32"},
    {"name": "int64", "address": 24, "type": "int64"},
    {"name": "clock", "address": 30, "type": "uint32", "time": "s"},
    {"name": "bcd", "address": 40, "type": "bcd16"},
    {"name": "nibble", "address": 40, "type": "uint16", "bits": [8, 11]},
    {"name": "beyond", "address": 201},
    {"name": "last", "address": 199},
    {"name": "input", "address": 149, "table": "input"},
    {"name": "discrete", "address": 5, "table": "discrete"},
    *({"name": f"coil{address}", "address": address, "table": "coil"} for address in range(0, 2000, 3)),
]
EXPECTED = {
    "int16": -2.0,
    "abcd": -12.375,
    "cdab": 3.5e6,
    "badc": struct.unpack("f", struct.pack("f", 0.1))[0],
    "dcba": 230.25,
    "int32": -123456.0,
    "int64": -9876543210.0,
    "bcd": 1234.0,
    "nibble": 2.0,
    "last": 199.0,
    "input": 1049.0,
    "discrete": 1.0,
}
FAST = {"interval": "50ms", "timeout": "500ms"}


async def check_readings(run: Running) -> None:
    await run.until(lambda: len(run.taken.latest()) == len(REGISTERS) - 1)
    latest = run.taken.latest()
    assert {name: latest[name] for name in EXPECTED} == EXPECTED
    assert math.isnan(latest["absent"])
    assert math.isnan(latest["beyond"])
    assert all(value == 1.0 for name, value in latest.items() if name.startswith("coil"))
    assert run.rejected("exception_02") >= 1
    beyond = [batch for batch in run.taken.batches if batch.sensors == ("beyond",)]
    assert beyond[0].quality == Quality.BAD
    timed = [batch for batch in run.taken.batches if "abcd" in batch.sensors]
    assert {batch.source_time_ns for batch in timed} == {1_700_000_000 * 10**9}


async def test_libmodbus_server_over_tcp_is_read_and_sees_function_codes_1_to_4_only(
    start_counterpart: Callable[..., Counterpart],
) -> None:
    server = start_counterpart("tcp")
    devices = [{"unit": 1, "registers": REGISTERS}]
    async with running_source(host="127.0.0.1", port=server.port, devices=devices, **FAST) as run:
        await check_readings(run)
    assert set(server.stop()) == {1, 2, 3, 4}


async def test_libmodbus_server_on_a_serial_line_is_read_and_a_missing_unit_does_not_stop_it(
    start_counterpart: Callable[..., Counterpart], serial_pair: tuple[str, str]
) -> None:
    theirs, ours = serial_pair
    server = start_counterpart("rtu", theirs)
    devices = [
        {"unit": 7, "registers": REGISTERS},
        {"unit": 8, "name": "missing", "registers": [{"name": "a", "address": 0}]},
    ]
    options = {"parity": "none", "interval": "50ms", "timeout": "150ms"}
    async with running_source(transport="rtu", device=ours, devices=devices, **options) as run:
        await run.until(lambda: len(run.taken.latest()) == len(REGISTERS) - 1)
        await check_readings(run)
        assert run.rejected("timeout") >= 1
    assert set(server.stop()) == {1, 2, 3, 4}


async def test_rtu_over_tcp_is_read_through_a_serial_server(
    start_counterpart: Callable[..., Counterpart], serial_pair: tuple[str, str], unused_tcp_port: int
) -> None:
    theirs, ours = serial_pair
    start_counterpart("rtu", theirs)
    listen = f"tcp-listen:{unused_tcp_port},bind=127.0.0.1,reuseaddr"
    serial_server = await asyncio.create_subprocess_exec(
        *("socat", "-d", "-d", listen, f"{ours},raw,echo=0"), stderr=asyncio.subprocess.PIPE
    )
    assert serial_server.stderr is not None
    assert b"listening" in await serial_server.stderr.readline()
    try:
        options = {"transport": "rtu_over_tcp", "host": "127.0.0.1", "port": unused_tcp_port, **FAST}
        async with running_source(**options, devices=[{"unit": 7, "registers": REGISTERS}]) as run:
            await check_readings(run)
    finally:
        serial_server.terminate()
        await serial_server.wait()


@asynccontextmanager
async def simulator(words: list[int]) -> AsyncIterator[tuple[int, list[int]]]:
    """A pymodbus server with these registers; its port and the function codes that it has received."""
    seen: list[int] = []

    def trace(sending: bool, pdu: Any) -> Any:
        if not sending:
            seen.append(pdu.function_code)
        return pdu

    device = SimDevice(1, [SimData(0, values=words, datatype=DataType.REGISTERS)])
    server = ModbusTcpServer([device], address=("127.0.0.1", 0), trace_pdu=trace)
    await server.serve_forever(background=True)
    try:
        yield server.transport.sockets[0].getsockname()[1], seen
    finally:
        await server.shutdown()


async def mbpoll(port: int, *arguments: str) -> list[float]:
    process = await asyncio.create_subprocess_exec(
        "mbpoll", "-m", "tcp", "-p", str(port), "-a", "1", "-0", "-1", "-q", *arguments, "127.0.0.1",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors
    return [float(text) for text in re.findall(r"^\[\d+\]:\s+(\S+)", out.decode(), re.MULTILINE)]


@pytest.mark.parametrize(
    ("kind", "word_order", "flags"),
    [
        ("uint16", "big", ["-t", "4"]),
        ("float32", "big", ["-t", "4:float", "-B"]),
        ("float32", "little", ["-t", "4:float"]),
        ("int32", "big", ["-t", "4:int", "-B"]),
        ("int32", "little", ["-t", "4:int"]),
    ],
)
async def test_our_readings_agree_with_mbpoll(kind: str, word_order: str, flags: list[str]) -> None:
    floats = [21.5, -0.0078125, 1013.25, 3.5e6]
    words = [word for value in floats for word in struct.unpack(">HH", struct.pack(">f", value))]
    words += [0x0001, 0xE240, 0xFFFF, 0xFFFE]
    if word_order == "little":
        words = [word for pair in zip(words[1::2], words[::2], strict=True) for word in pair]
    width = 1 if kind == "uint16" else 2
    count = (8 if kind == "float32" else len(words)) // width
    registers = [{"name": str(i), "address": i * width, "type": kind, "word_order": word_order} for i in range(count)]
    async with simulator(words) as (port, seen):
        theirs = await mbpoll(port, "-r", "0", "-c", str(count), *flags)
        seen.clear()
        options = {"host": "127.0.0.1", "port": port, "devices": [{"registers": registers}], **FAST}
        async with running_source(**options) as run:
            ours = (await run.batches(1))[0].values
        assert set(seen) == {3}
    shown = [float(f"{value:g}") for value in ours] if kind == "float32" else list(ours)
    signed = [value % 65_536 for value in theirs] if kind == "uint16" else theirs
    assert shown == signed
    assert len(shown) == count


WRITES = ("write", "mask_write", "readwrite", "diag", "set_", "force")


def test_no_write_function_of_the_library_is_named_in_the_package() -> None:
    library = {name for name in dir(ModbusClientMixin) if name.startswith(WRITES)}
    assert {"write_coil", "write_register", "write_registers", "mask_write_register"} <= library
    for file in Path(package.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = {
                ast.Attribute: lambda n: [n.attr],
                ast.Name: lambda n: [n.id],
                ast.alias: lambda n: n.name.split("."),
                ast.Constant: lambda n: [n.value] if isinstance(n.value, str) else [],
            }.get(type(node), lambda n: [])(node)
            for name in names:
                assert name not in library, f"{file.name}: {name}"
                assert not re.match(r"(Write|Mask|ReadWrite|Diagnostic|Force)\w*Request", name), f"{file.name}: {name}"


async def test_serial_settings_that_the_device_refuses_are_named(serial_pair: tuple[str, str]) -> None:
    registers = [{"name": "a", "address": 0}]
    with pytest.raises(RetryableAdapterError, match="the device refuses these settings of the line"):
        async with running_source(
            transport="rtu", device=serial_pair[0], parity="even", devices=[{"registers": registers}]
        ) as run:
            await run.task


async def test_unplugged_serial_line_is_used_again_once_it_is_back(
    start_counterpart: Callable[..., Counterpart], tmp_path: Path
) -> None:
    with SerialCable(tmp_path) as cable:
        first = start_counterpart("rtu", cable.ends[0])
        options = {"transport": "rtu", "device": cable.ends[1], "parity": "none", "retry_max": "100ms", **FAST}
        devices = [{"unit": 7, "registers": [{"name": "a", "address": 199}]}]
        async with running_source(**options, devices=devices) as run:
            await run.batches(2)
            first.stop()
            cable.unplug()
            await run.until(lambda: "No such file" in run.context.state)
            cable.plug_in()
            start_counterpart("rtu", cable.ends[0])
            run.taken.batches.clear()
            await run.batches(1)
            assert run.taken.latest() == {"a": 199.0}
            assert run.context.state == "connected"
