"""The devices of a recorded plant. Each sends its columns of one row, and knows when the row has arrived."""

from __future__ import annotations

import csv
import json
import select
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as paho
from daemon_process import until
from paho.mqtt.enums import CallbackAPIVersion

ARRIVES_WITHIN_S = 30.0
SENML_JSON = "110"  # Content-Format, RFC 8428 section 12.3
_AFTER_THE_TICK_S = 0.002  # nothing is measured after it arrives: a row is sent once its time has come


@dataclass(frozen=True)
class Excerpt:
    """Rows of a recording, to be taken at ``first_ns``, ``first_ns + period_ns`` … (UTC)."""

    sensors: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    first_ns: int
    period_ns: int

    def time_ns(self, row: int) -> int:
        return self.first_ns + row * self.period_ns

    def write(self, path: Path) -> Path:
        """As the CSV file that ``edge-agent detect`` reads; every number comes back as the same double."""
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("timestamp", *self.sensors))
            for number, row in enumerate(self.rows):
                table.writerow((self.time_ns(number), *map(repr, row)))
        return path


def read_rows(path: Path, sensors: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    with path.open(newline="") as file:
        return tuple(tuple(float(row[name]) for name in sensors) for row in csv.DictReader(file))


class Device(Protocol):
    """Something that measures ``sensors``."""

    sensors: tuple[str, ...]

    def send(self, time_ns: int, values: Sequence[float]) -> None:
        """Hand one row to the network."""

    def confirm(self) -> None:
        """Return when the far side has what was sent last."""


class MqttMotes:
    """One QoS 1 message a sensor: JSON with the time in seconds since 1970."""

    def __init__(self, port: int, sensors: tuple[str, ...]) -> None:
        self.sensors = sensors
        self._sent: list[paho.MQTTMessageInfo] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the motes to reach the broker")

    def send(self, time_ns: int, values: Sequence[float]) -> None:
        for name, value in zip(self.sensors, values, strict=True):
            payload = json.dumps({"v": value, "t": time_ns / 1e9})
            self._sent.append(self._client.publish(f"plant/{name}", payload, qos=1))

    def confirm(self) -> None:
        for message in self._sent:
            message.wait_for_publish(ARRIVES_WITHIN_S)
            assert message.is_published(), "no PUBACK"
        self._sent.clear()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class CoapNodes:
    """libcoap's client: one SenML pack (RFC 8428) a row with absolute time, sent to every gateway in ``ports``."""

    def __init__(self, ports: Sequence[int], sensors: tuple[str, ...]) -> None:
        self.sensors = sensors
        self._uris = [f"coap://127.0.0.1:{port}/senml" for port in ports]
        self._sent: list[subprocess.Popen[str]] = []

    def send(self, time_ns: int, values: Sequence[float]) -> None:
        records = [{"n": name, "v": value} for name, value in zip(self.sensors, values, strict=True)]
        pack = json.dumps([{"bt": time_ns / 1e9, **records[0]}, *records[1:]])
        for uri in self._uris:
            command = ["coap-client-notls", "-m", "post", "-t", SENML_JSON, "-v", "7"]
            command += ["-B", f"{ARRIVES_WITHIN_S:g}", "-f", "-", uri]
            client = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert client.stdin is not None
            client.stdin.write(pack)
            client.stdin.close()
            self._sent.append(client)

    def confirm(self) -> None:
        for client in self._sent:
            assert client.stdout is not None
            with client.stdout:
                said = client.stdout.read()
            client.wait(ARRIVES_WITHIN_S)
            assert "c:2.04" in said, said
        self._sent.clear()


class ModbusPlc:
    """Registers of a server made with libmodbus: float64 a sensor, then the row's time in ms as uint64.

    It listens from the first row on. ``clients`` read it; a row has arrived when each of them has.
    """

    def __init__(self, program: Path, port: int, sensors: tuple[str, ...], clients: int) -> None:
        self.sensors = sensors
        self._clients = clients
        self.process = subprocess.Popen([program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def send(self, time_ns: int, values: Sequence[float]) -> None:
        raw = struct.pack(f">{len(values)}dQ", *values, time_ns // 1_000_000)
        words = struct.unpack(f">{len(raw) // 2}H", raw)
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(f"{word:04x}" for word in words).encode() + b"\n")

    def confirm(self) -> None:
        assert self.process.stdout is not None
        for _ in range(self._clients):
            readable, _, _ = select.select([self.process.stdout], [], [], ARRIVES_WITHIN_S)
            assert readable, "nobody reads the registers"
            assert self.process.stdout.readline().startswith(b"read ")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(ARRIVES_WITHIN_S)


def build_modbus_server(folder: Path) -> Path:
    program = folder / "recording_modbus_server"
    source = Path(__file__).with_name("recording_modbus_server.c")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], check=True, capture_output=True, text=True
    ).stdout.split()
    subprocess.run(["gcc", "-o", str(program), str(source), *flags], check=True, capture_output=True)
    return program


def play(excerpt: Excerpt, devices: Sequence[Device], first_arrived: Mapping[Device, Callable[[], Any]]) -> float:
    """Send every row when its time has come and the row before has arrived; returns the largest delay in seconds.

    The devices send the first row one after the other, as their sensors take their places in this order;
    ``first_arrived`` says, as a condition to wait for, that a device's part was taken.
    """
    slowest_s = 0.0
    for number, row in enumerate(excerpt.rows):
        time_ns = excerpt.time_ns(number)
        time.sleep(max(0.0, time_ns / 1e9 + _AFTER_THE_TICK_S - time.time()))
        parts = dict(zip(excerpt.sensors, row, strict=True))
        for device in devices:
            device.send(time_ns, [parts[name] for name in device.sensors])
            if number == 0:
                device.confirm()
                until(first_arrived[device], f"the first row of {type(device).__name__}")
        if number:
            for device in devices:
                device.confirm()
        slowest_s = max(slowest_s, time.time() - time_ns / 1e9)
    return slowest_s
