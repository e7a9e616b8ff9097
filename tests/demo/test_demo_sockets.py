"""The served plant, looked at with programs that we did not write, and driven through its control channel."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable

import aiocoap
import aiocoap.resource
import numpy as np
import orjson
import pytest
from plant_process import PlantProcess

from edge_agent.demo.serve_coap import senml
from edge_agent.demo.serve_modbus import ModbusPlcs
from edge_agent.demo.tags import BY_NAME, INDEX, TAGS
from edge_agent.demo.wiring import (
    MODBUS_POINTS,
    NO_READING,
    OBSERVED,
    POSTED,
    PUBLISHED,
    SENML_DEVICE_PATH,
    Address,
    Table,
    topic,
)


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=15, check=True).stdout


def poll(plant: PlantProcess, unit: int, kind: str, first: int, count: int) -> list[float]:
    output = run(
        "mbpoll", "-m", "tcp", "-p", str(plant.port("modbus")), "-a", str(unit), "-0", "-r", str(first),
        "-c", str(count), "-t", kind, *(["-B"] if "float" in kind else []), "-1", "127.0.0.1",
    )  # fmt: skip
    return [float(value) for value in re.findall(r"^\[\d+\]:\s+(\S+)", output, re.MULTILINE)]


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_every_tag_is_wired_exactly_once():
    wired = [point.tag for point in MODBUS_POINTS] + [*OBSERVED, *POSTED, *PUBLISHED]
    assert sorted(tag.name for tag in wired) == sorted(tag.name for tag in TAGS)


def test_scaled_registers_hold_the_whole_range_of_their_tag():
    for point in MODBUS_POINTS:
        if point.table is Table.HOLDING:
            assert point.tag.low / point.scale > NO_READING
            assert point.tag.high / point.scale < 0x8000


@pytest.mark.counterpart
def test_mbpoll_reads_scaled_registers(plant_process):
    points = [point for point in MODBUS_POINTS if point.table is Table.HOLDING]
    raw = poll(plant_process, 3, "4", 0, len(points))
    for point, value in zip(points, raw, strict=True):
        signed = value - 65536 if value > 32767 else value
        assert point.tag.low <= signed * point.scale <= point.tag.high, point.tag.name
    assert 400 < raw[0] * points[0].scale < 1000  # LIT301


@pytest.mark.counterpart
def test_mbpoll_reads_floats(plant_process):
    points = [point for point in MODBUS_POINTS if point.table is Table.INPUT]
    values = poll(plant_process, 5, "3:float", 0, len(points))
    for point, value in zip(points, values, strict=True):
        assert point.tag.low <= value <= point.tag.high, point.tag.name


@pytest.mark.counterpart
def test_mbpoll_reads_coils(plant_process):
    coils = poll(plant_process, 3, "0", 0, 5)
    assert len(coils) == 5
    assert set(coils) <= {0.0, 1.0}


@pytest.mark.counterpart
def test_the_plc_refuses_writes(plant_process):
    command = ["mbpoll", "-m", "tcp", "-p", str(plant_process.port("modbus")), "-a", "3", "-r", "1", "127.0.0.1", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    assert "Illegal function" in done.stdout + done.stderr


@pytest.mark.counterpart
def test_mosquitto_sub_hears_every_published_tag(plant_process):
    output = run(
        "mosquitto_sub", "-p", str(plant_process.port("mqtt")), "-t", "plant/#", "-v",
        "-C", str(len(PUBLISHED)), "-W", "10",
    )  # fmt: skip
    heard = dict(line.split(" ", 1) for line in output.splitlines())
    assert set(heard) == {topic(tag) for tag in PUBLISHED}
    for tag in PUBLISHED:
        message = json.loads(heard[topic(tag)])
        assert tag.low <= message["value"] <= tag.high
        assert message["unit"] == tag.unit
        assert abs(np.datetime64(message["time"][:-1], "ms").astype(int) / 1000 - time.time()) < 30


@pytest.mark.counterpart
def test_coap_client_gets_and_observes(plant_process):
    where = f"coap://127.0.0.1:{plant_process.port('coap')}"
    for tag in OBSERVED:
        value = float(run("coap-client-notls", "-m", "get", f"{where}/{tag.name}"))
        assert tag.low <= value <= tag.high
    observed = run("coap-client-notls", "-s", "2", "-m", "get", f"{where}/LIT401")
    assert len(re.findall(r"\d{3}(?:\.5)?", observed)) >= 4
    assert "LIT401" in run("coap-client-notls", "-m", "get", f"{where}/.well-known/core")


@pytest.mark.counterpart
def test_an_attack_through_the_control_channel_shows_on_the_wire(plant_process):
    def level_register() -> float:
        return poll(plant_process, 3, "4", 0, 1)[0]

    plant_process.say("attack stale-plc 600")
    started = plant_process.wait_for(lambda message: message.get("event") == "attack_started")
    assert started["attack"] == "stale-plc"
    assert "LIT301" in started["affected"]
    frozen = level_register()
    for _ in range(3):
        time.sleep(0.4)  # two steps of the plant
        assert level_register() == frozen
    plant_process.say("stop stale-plc")
    ended = plant_process.wait_for(lambda message: message.get("event") == "attack_ended")
    assert ended["attack"] == "stale-plc"
    until(lambda: level_register() != frozen)


@pytest.mark.counterpart
def test_a_dropout_is_silent_on_coap_and_ends_by_itself():
    received: asyncio.Queue[list[dict[str, object]]] = asyncio.Queue()

    class Agent(aiocoap.resource.Resource):
        async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
            assert request.opt.content_format == 110
            received.put_nowait(orjson.loads(request.payload))
            return aiocoap.Message(code=aiocoap.Code.CHANGED)

    async def scenario() -> None:
        port = free_port()
        site = aiocoap.resource.Site()
        site.add_resource(SENML_DEVICE_PATH.split("/"), Agent())
        context = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["udp6"])
        plant = await asyncio.to_thread(PlantProcess, "--speed", "10", "--agent", f"127.0.0.1:{port}")
        try:
            async with asyncio.timeout(20):
                pack = await received.get()
                assert [record["n"] for record in pack] == [tag.name for tag in POSTED]
                plant.say("attack dropout 8")
                await asyncio.to_thread(plant.wait_for, lambda message: message.get("event") == "attack_started")
                while not received.empty():
                    received.get_nowait()
                await asyncio.to_thread(plant.wait_for, lambda message: message.get("event") == "attack_ended")
                assert received.qsize() <= 2
                await received.get()
        finally:
            await asyncio.to_thread(plant.close)
            await context.shutdown()

    asyncio.run(scenario())


def test_a_wrong_command_is_answered_and_the_plant_goes_on(plant_process):
    for line, part in (
        ("attack relpay", "did you mean 'replay'"),
        ("attack", "expected attack NAME"),
        ("attack leak soon", "could not convert"),
        ("attack leak -5", "expected a number from 0"),
        ("jump", "expected attack NAME"),
    ):
        plant_process.say(line)
        assert part in plant_process.wait_for(lambda message: "error" in message)["error"]
    plant_process.say("list")
    assert "replay" in plant_process.wait_for(lambda message: "attacks" in message)["attacks"]


def test_the_end_of_its_input_ends_the_plant(tmp_path):
    ports = tmp_path / "ports.json"
    plant = PlantProcess("--speed", "10", "--ports-file", str(ports))
    try:
        assert json.loads(ports.read_text())["mqtt"]["port"] == plant.port("mqtt")
        assert plant.end_input() == 0
    finally:
        plant.close()


def test_a_taken_port_is_said_in_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent.demo.serve", "--modbus-port", str(port)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert f"Modbus: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_register_without_a_reading_says_so():
    plcs = ModbusPlcs()
    values = np.zeros(len(TAGS))
    values[INDEX["LIT301"]] = math.nan
    values[INDEX["PIT501"]] = math.nan
    plcs.update(values)
    old, new = (plcs._images[unit]._registers for unit in (3, 5))
    assert old[Table.HOLDING][0] == 0x8000
    address = next(point.address for point in MODBUS_POINTS if point.tag.name == "PIT501")
    packed = struct.pack(">HH", *new[Table.INPUT][address : address + 2])
    assert math.isnan(struct.unpack(">f", packed)[0])


def test_a_senml_pack_leaves_out_what_has_no_reading():
    values = np.arange(len(TAGS), dtype=float)
    values[INDEX["AIT201"]] = math.nan
    pack = senml(values, 1_700_000_000_500_000_000)
    assert [record["n"] for record in pack] == ["AIT202", "AIT203", "AIT204"]
    assert pack[0]["bt"] == 1_700_000_000.5
    assert pack[0]["u"] == BY_NAME["AIT202"].unit
    assert senml(np.full(len(TAGS), math.nan), 0) == []


@pytest.mark.parametrize("text", ["", "host", "host:", ":1883", "host:0", "host:70000", "host:x"])
def test_a_wrong_address_is_refused(text):
    with pytest.raises(ValueError, match="expected host:port"):
        Address.parse(text)
