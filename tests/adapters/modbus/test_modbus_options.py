from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

import edge_adapters.modbus as package
from edge_adapters.modbus import SOURCE
from edge_adapters.modbus.options import DeviceOptions, ModbusOptions
from edge_adapters.modbus.registers import Addressing, Kind, Table

FOLDER = Path(package.__file__).parent
ONE = [{"name": "a", "address": 0}]


def options(**given: Any) -> ModbusOptions:
    base = {"type": "modbus", "host": "plc", "devices": [{"registers": ONE}]}
    return ModbusOptions.model_validate({**base, **given})


def device(*registers: dict[str, Any], **given: Any) -> DeviceOptions:
    return DeviceOptions.model_validate({"registers": list(registers), **given})


def test_loading_the_adapter_does_not_import_the_client_library() -> None:
    code = "import sys, edge_adapters.modbus; print([m for m in sys.modules if m.startswith(('pymodbus', 'serial'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30).stdout == "[]\n"


def test_adapter_is_announced() -> None:
    assert (SOURCE.name, SOURCE.extra, SOURCE.options) == ("modbus", "modbus", ModbusOptions)


def test_sample_is_valid_and_its_map_too() -> None:
    sample = yaml.safe_load((FOLDER / "sample.yaml").read_text())["sources"]["boiler_house"]
    parsed = ModbusOptions.model_validate(sample, context={"directory": FOLDER})
    sensors = [field.sensor for device in parsed.devices for field in device.fields(parsed.interval)]
    assert "pump.flow" in sensors
    assert "meter.energy" in sensors
    assert "meter.serial_number" not in sensors


def test_every_option_is_in_the_readme() -> None:
    readme = (FOLDER / "README.md").read_text()
    from edge_adapters.modbus.options import LineOptions
    from edge_adapters.modbus.registers import RegisterOptions
    from edge_agent.contract import SourceOptions

    named = {*LineOptions.model_fields, *RegisterOptions.model_fields, *DeviceOptions.model_fields}
    named |= set(ModbusOptions.model_fields) - set(SourceOptions.model_fields)
    assert {name for name in named if f"`{name}`" not in readme} == set()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"host": None}, "transport tcp: expected `host` and no `device`"),
        ({"device": "/dev/ttyS0"}, "transport tcp: expected `host` and no `device`"),
        ({"transport": "rtu"}, "transport rtu: expected `device`"),
        ({"port": 70_000}, "less than or equal to 65535"),
        ({"parity": "mark"}, "'none', 'even' or 'odd'"),
        ({"stopbits": 3}, "1 or 2"),
        ({"interval": "5"}, "expected a duration with its unit"),
        ({"interval": "0s"}, "greater than 0"),
        ({"timeout": "2m"}, "less than or equal to 60"),
        ({"devices": []}, "devices: got none, expected at least one"),
        ({"devices": [{"registers": []}]}, "registers: got none"),
        ({"devices": [{"registers": ONE, "unit": 256}]}, "less than or equal to 255"),
        ({"devices": [{"registers": ONE, "max_block": 126}]}, "less than or equal to 125"),
        ({"devices": [{"registers": ONE}, {"unit": 2, "registers": ONE}]}, "got the sensor 'a' twice"),
        ({"transport": "rtu_over_tcp", "devices": [{"registers": ONE, "unit": 0}]}, "got unit 0 on an RTU bus"),
        ({"hosts": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_option_of_the_bus_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        options(**given)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        ({"name": "a"}, "Field required"),
        ({"name": "", "address": 1}, "at least 1 character"),
        ({"name": "a", "address": "x1"}, "got 'x1', expected a whole number"),
        ({"name": "a", "address": -1}, "greater than or equal to 0"),
        ({"name": "a", "address": 65_536}, "which is outside the table"),
        ({"name": "a", "address": 65_533, "type": "float64"}, "would end behind the last register"),
        ({"name": "a", "address": 0, "type": "float"}, "type"),
        ({"name": "a", "address": 0, "table": "coil", "type": "int16"}, "type: got int16 in table coil, expected bool"),
        ({"name": "a", "address": 0, "table": "coil", "bit": 1}, "expected a plain bool"),
        ({"name": "a", "address": 0, "bit": 16}, "got 16 to 16, expected 0 to 15"),
        ({"name": "a", "address": 0, "bits": [5, 4]}, "got 5 to 4"),
        ({"name": "a", "address": 0, "bit": 1, "bits": [1, 2]}, "bit and bits: got both"),
        ({"name": "a", "address": 0, "type": "int16", "bit": 1}, "bit, bits: got type int16"),
        ({"name": "a", "address": 0, "type": "float32", "time": "s"}, "time: got type float32"),
        ({"name": "a", "address": 0, "scale": float("nan")}, "finite number"),
        ({"name": "a", "address": 0, "type": "string"}, "got no sensors"),
        ({"name": "a", "address": 0, "type": "uint32", "time": "s"}, "got no sensors"),
    ],
)
def test_wrong_register_is_refused(register: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        device(register)
    assert message in str(error.value)


def test_two_clocks_in_a_device_are_refused() -> None:
    clock = {"address": 2, "type": "uint32", "time": "s"}
    with pytest.raises(ValidationError, match="got several with `time`"):
        device(*ONE, {"name": "t1", **clock}, {"name": "t2", **clock})


@pytest.mark.parametrize(
    ("addressing", "written", "given", "table", "address"),
    [
        ("zero", 0, None, "holding", 0),
        ("zero", "0x1A", "input", "input", 26),
        ("one", 1, "coil", "coil", 0),
        ("one", 65_536, None, "holding", 65_535),
        ("modicon", 1, None, "coil", 0),
        ("modicon", "00010", None, "coil", 9),
        ("modicon", 9_999, None, "coil", 9_998),
        ("modicon", 10_001, None, "discrete", 0),
        ("modicon", 30_101, "input", "input", 100),
        ("modicon", 40_001, None, "holding", 0),
        ("modicon", 400_001, None, "holding", 0),
        ("modicon", 465_536, None, "holding", 65_535),
        ("modicon", 165_536, None, "discrete", 65_535),
    ],
)
def test_addresses_as_written(addressing: str, written: Any, given: str | None, table: str, address: int) -> None:
    (field,) = device({"name": "a", "address": written, "table": given}, addressing=addressing).fields(1.0)
    assert (field.table, field.address) == (Table(table), address)


@pytest.mark.parametrize(
    ("addressing", "written", "table"),
    [(Addressing.MODICON, 0, None), (Addressing.MODICON, 20_001, None), (Addressing.MODICON, 40_001, "input"),
     (Addressing.MODICON, 40_000, None), (Addressing.ONE, 0, None)],
)  # fmt: skip
def test_addresses_that_do_not_exist(addressing: Addressing, written: int, table: str | None) -> None:
    with pytest.raises(ValidationError, match=r"register 'a': (address|table): got"):
        device({"name": "a", "address": written, "table": table}, addressing=addressing)


def test_register_inherits_and_overrides_what_the_device_says() -> None:
    first, second = device(
        {"name": "a", "address": 0},
        {"name": "b", "address": 1, "type": "bcd32", "word_order": "big", "interval": "5s"},
        name="dev",
        word_order="little",
        interval="2s",
    ).fields(1.0)
    assert (first.sensor, first.word_order, first.interval_s) == ("dev.a", "little", 2.0)
    assert (second.sensor, second.word_order, second.interval_s) == ("dev.b", "big", 5.0)
    assert second.kind is Kind.BCD32


def map_problem(tmp_path: Path, name: str, text: str | bytes) -> str:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValidationError) as error:
        DeviceOptions.model_validate({"map": name}, context={"directory": tmp_path})
    return str(error.value)


BAD_MAPS = {
    "no such column": ("m.csv", "name,adress\na,1\n", "m.csv:1: column 'adress': unknown, did you mean 'address'?"),
    "strange column": ("m.csv", "name,address,xyz\na,1,2\n", "m.csv:1: column 'xyz': unknown, expected one of name"),
    "column missing": ("m.csv", "name\na\n", "m.csv:1: column 'address' is missing, found name"),
    "column twice": ("m.csv", "name,address,name\na,1,b\n", "m.csv:1: got a column twice"),
    "not a number": ("m.csv", "name,address\na,1\nb,x\n", "m.csv:3: address: got 'x', expected a whole number"),
    "name missing": ("m.csv", "name,address\na,1\n,2\n", "m.csv:3: name: missing"),
    "no such type": ("m.csv", "# vendor\n\nname,address,type\na,1,float99\n", "m.csv:4: type: got 'float99'"),
    "types do not fit": ("m.csv", "name,address,type,bit\na,1,int16,2\n", "m.csv:2: bit, bits: got type int16"),
    "too many cells": ("m.csv", "name,address\na,1,2\n", "m.csv:2: got 3 cells, expected 2"),
    "empty": ("m.csv", "", "m.csv: empty, expected a header line"),
    "header only": ("m.csv", "name,address\n", "m.csv: got no registers"),
    "not UTF-8": ("m.csv", b"name,address\n\xe9,1\n", "m.csv: not UTF-8 at byte 13"),
    "YAML: not a list": ("m.yaml", "name: a\n", "m.yaml:1: expected a list of registers"),
    "YAML: text in the list": ("m.yaml", "- name: a\n  address: 1\n- hello\n", "m.yaml:3: expected a register"),
    "YAML: wrong value": ("m.yaml", "- name: a\n  address: 1\n- name: b\n  address: x\n", "m.yaml:3: address: got 'x'"),
    "YAML: broken": ("m.yaml", "- name: [a\n  b: c\n", "m.yaml:"),
    "other file": ("m.txt", "", "m.txt: got '.txt', expected a .csv, .yaml or .yml file"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_mistake_in_a_map_is_named_by_file_and_line(tmp_path: Path, case: str) -> None:
    name, text, message = BAD_MAPS[case]
    assert message in map_problem(tmp_path, name, text)


def test_missing_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"none\.csv: cannot be read: No such file"):
        DeviceOptions.model_validate({"map": "none.csv"}, context={"directory": tmp_path})


def test_mistakes_of_different_kinds_in_a_map_are_named_together(tmp_path: Path) -> None:
    message = map_problem(tmp_path, "m.csv", "name,address\na,x\nb,1,2\n")
    assert "m.csv:2: address: got 'x'" in message
    assert "m.csv:3: got 3 cells" in message


def test_all_mistakes_of_a_map_are_named_but_not_without_end(tmp_path: Path) -> None:
    rows = "".join(f"r{number},x\n" for number in range(50))
    message = map_problem(tmp_path, "m.csv", "name,address\n" + rows)
    assert message.count("expected a whole number") == 20
    assert "… and 30 more" in message


def test_maps_are_read_with_semicolons_byte_order_mark_and_yaml(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("\ufeffname;address;not_available;bits\na;0x10;0x8000 0x7FFF;4-7\n")
    (tmp_path / "m.yml").write_text("- {name: a, address: 16, not_available: [0x8000, 0x7FFF], bits: [4, 7]}\n")
    fields = [
        DeviceOptions.model_validate({"map": name}, context={"directory": tmp_path}).fields(1.0)
        for name in ("m.csv", "m.yml")
    ]
    assert fields[0] == fields[1]
    assert fields[0][0].not_available == (0x8000, 0x7FFF)
    assert (fields[0][0].low_bit, fields[0][0].bit_count) == (4, 4)


def test_map_and_registers_add_up(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("name,address\na,0\n")
    given = {"map": "m.csv", "registers": [{"name": "b", "address": 1}]}
    parsed = DeviceOptions.model_validate(given, context={"directory": tmp_path})
    assert [register.name for register in parsed.registers] == ["a", "b"]
