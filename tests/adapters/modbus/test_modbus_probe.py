from __future__ import annotations

import asyncio
import importlib.metadata
import json
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from modbus_stand import ScriptedServer, mbap
from pydantic import ValidationError

from edge_adapters.modbus.cli import command
from edge_adapters.modbus.probe import ProbeOptions, decodings, doubt, probe
from edge_adapters.modbus.registers import Kind, Order, Table
from edge_agent.errors import PayloadError, RetryableAdapterError

HIGH, LOW = struct.unpack(">HH", struct.pack(">f", 21.5))


def holds(words: list[int], exception: int | None = None) -> Any:
    def reply(request: bytes) -> bytes:
        if exception is not None:
            return mbap(request, bytes([request[7] | 0x80, exception]))
        if request[7] in (1, 2):
            return mbap(request, bytes([request[7], 1, 0b101]))
        first, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        data = b"".join(word.to_bytes(2, "big") for word in words[first : first + count])
        return mbap(request, bytes([request[7], len(data)]) + data)

    return reply


@pytest.fixture
def device() -> Iterator[int]:
    """A device with 21.5 as float, low register first, in a thread of its own: the command runs its own loop."""
    ready, stop = threading.Event(), asyncio.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        async with ScriptedServer(holds([LOW, HIGH, 0x1234])) as server:
            state.update(port=server.port, loop=asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(5)
    yield state["port"]
    state["loop"].call_soon_threadsafe(stop.set)
    thread.join(5)


async def test_probe_shows_every_type_in_every_order_at_every_position() -> None:
    async with ScriptedServer(holds([LOW, HIGH, 0x1234])) as server:
        rows = await probe(ProbeOptions(host="127.0.0.1", port=server.port, count=3))
    by_key = {(row.address, row.type, row.byte_order, row.word_order): row for row in rows}
    assert len(by_key) == len(rows)
    assert by_key[0, Kind.FLOAT32, Order.BIG, Order.LITTLE].value == 21.5
    assert by_key[0, Kind.FLOAT32, Order.BIG, Order.LITTLE].doubt is None
    assert by_key[2, Kind.BCD16, Order.BIG, Order.BIG].value == 1234
    assert by_key[2, Kind.UINT16, Order.LITTLE, Order.BIG].value == 0x3412
    assert by_key[0, Kind.UINT16, Order.BIG, Order.BIG].raw == f"{LOW:04X}"
    one_register = {Kind.INT16, Kind.UINT16, Kind.FLOAT16, Kind.BCD16}
    two_registers = {Kind.INT32, Kind.UINT32, Kind.FLOAT32, Kind.BCD32}
    assert {row.type for row in rows if row.address == 2} == one_register
    assert {row.type for row in rows if row.address == 0} == one_register | two_registers
    assert len([row for row in rows if row.address == 0]) == 4 * 2 + 4 * 4


async def test_probe_of_bits() -> None:
    async with ScriptedServer(holds([])) as server:
        rows = await probe(ProbeOptions(host="127.0.0.1", port=server.port, table=Table.COIL, address=4, count=3))
    assert [(row.address, row.value) for row in rows] == [(4, 1.0), (5, 0.0), (6, 1.0)]


async def test_probe_says_what_went_wrong() -> None:
    async with ScriptedServer(holds([], exception=2)) as server:
        with pytest.raises(PayloadError, match=r"unit 1, holding 0 to 9: exception 02 \(illegal data address\)"):
            await probe(ProbeOptions(host="127.0.0.1", port=server.port))
    with pytest.raises(RetryableAdapterError, match="refused"):
        await probe(ProbeOptions(host="127.0.0.1", port=server.port))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.FLOAT32, 0.0, None),
        (Kind.FLOAT32, 21.5, None),
        (Kind.FLOAT32, float("nan"), "not a finite number"),
        (Kind.FLOAT32, float("-inf"), "not a finite number"),
        (Kind.FLOAT32, 1e-40, "denormal"),
        (Kind.FLOAT64, 1e-40, "tiny"),
        (Kind.FLOAT32, 3e30, "huge"),
        (Kind.FLOAT16, 1e-6, "denormal"),
        (Kind.INT64, -(2.0**60), "huge"),
        (Kind.BCD16, float("nan"), "not decimal digits"),
    ],
)
def test_implausible_values_are_flagged(kind: Kind, value: float, expected: str | None) -> None:
    assert doubt(kind, value) == expected


def test_any_registers_can_be_decoded() -> None:
    for seed in range(50):
        words = np.random.default_rng(seed).integers(0, 65_536, 8).astype(np.uint16)
        json.dumps([row.to_dict() for row in decodings(words, Table.HOLDING, 0)], allow_nan=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 126}, "at most 125"),
        ({"count": 2_001, "table": "coil"}, "2000"),
        ({"address": 65_530}, "ends behind"),
    ],
)
def test_impossible_ranges_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ProbeOptions.model_validate({"host": "x", **given})


def test_command_is_found_by_its_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="edge_agent.commands", name="modbus")
    assert entry.load() is command


def test_command_prints_a_table_of_plausible_readings(device: int) -> None:
    done = CliRunner().invoke(command, ["probe", f"127.0.0.1:{device}", "--count", "3"], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "CDAB" in done.output
    assert "21.5" in done.output
    assert "denormal" not in done.output.replace("(not finite, denormal", "")
    everything = CliRunner().invoke(command, ["probe", f"127.0.0.1:{device}", "--count", "3", "--all"])
    assert len(everything.output) > len(done.output)


def test_command_prints_json(device: int) -> None:
    done = CliRunner().invoke(command, ["probe", f"127.0.0.1:{device}", "--count", "2", "--json"])
    rows = json.loads(done.output)
    assert {row["value"] for row in rows if row["type"] == "float32"} >= {21.5}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["127.0.0.1:1", "--timeout", "200ms"], 1, "tcp 127.0.0.1:1: cannot connect: Connection refused"),
        (["/nowhere/tty", "--timeout", "200ms"], 1, "rtu /nowhere/tty: cannot connect: No such file or directory"),
        (["host:port"], 2, "got 'host:port', expected HOST, HOST:PORT, [IPv6]:PORT or a serial device"),
        (["host", "--count", "500"], 2, "Error: count: got 500, expected at most 125"),
        (["host:99999"], 2, "Error: port: got 99999, expected less than or equal to 65535"),
        (["host", "--timeout", "5"], 2, "Error: timeout: got '5', expected a duration with its unit"),
        (["host", "--table", "relay"], 2, "'relay' is not one of"),
        ([], 2, "Missing argument"),
    ],
)
def test_command_fails_with_a_clear_sentence(arguments: list[str], code: int, message: str) -> None:
    done = CliRunner().invoke(command, ["probe", *arguments])
    assert done.exit_code == code
    assert message in " ".join(done.output.split())


def test_command_without_the_library_says_what_to_install() -> None:
    code = "import sys; sys.modules['pymodbus'] = None; from edge_adapters.modbus.cli import command; command()"
    done = subprocess.run([sys.executable, "-c", code, "probe", "plc"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "pip install 'edge-graph-agent[modbus]'" in done.stderr


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("plc", "tcp plc:502"),
        ("plc:1502", "tcp plc:1502"),
        ("[::1]:1502", "tcp ::1:1502"),
        ("::1", "tcp ::1:502"),
        ("/dev/ttyUSB0", "rtu /dev/ttyUSB0"),
    ],
)
def test_targets_in_usual_forms(target: str, where: str) -> None:
    from edge_adapters.modbus.cli import options_from

    given = {"rtu_over_tcp": False, "stopbits": "1"}
    assert options_from(target, given).where == where
