"""Readings in: in process, and over MQTT through a real broker into a real daemon."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from result import Result

from edge_agent.clock import VirtualClock
from edge_agent.contract import SourceOptions
from edge_agent.inference import StatisticalDetector
from edge_agent.metrics import Metrics
from edge_agent.pipeline.engine import Pipeline, PipelineOptions
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.sample import Batch

MESSAGES = 100_000
SENSORS = 50


def run() -> Iterator[Result]:
    """In-process ingest by frame size, then MQTT."""
    yield from _in_process()
    if shutil.which("mosquitto") is None:
        print("mqtt_ingest skipped: mosquitto is not installed", file=sys.stderr)
        return
    yield _mqtt()


def _in_process() -> Iterator[Result]:
    for width, goal in ((1, 100_000.0), (100, 1_000_000.0)):
        clock = VirtualClock(1_760_000_000_000_000_000)
        detector = StatisticalDetector()
        pipeline = Pipeline(
            PipelineOptions(), detector, StatisticalDetector, clock, Metrics(), UlidMaker(random.Random(0))
        )
        port = pipeline.port("bench", SourceOptions(type="bench"))
        names = tuple(f"s{i}" for i in range(width))
        values: object = (1.0,) if width == 1 else np.ones(width)
        batch = Batch(names, values, 0)  # type: ignore[arg-type]
        frames = 200_000 // width if width > 1 else 200_000
        began = time.perf_counter()
        for _ in range(frames):
            pipeline.take(port, batch)
        pipeline.intake.collect(clock.monotonic_ns())
        rate = frames * width / (time.perf_counter() - began)
        column: list[float] = []
        began = time.perf_counter()
        for _ in range(frames * width):
            column.append(1.0)  # noqa: PERF401 - the control is this very loop
        control = frames * width / (time.perf_counter() - began)
        yield Result(
            f"ingest_frames_of_{width}",
            rate,
            "readings/s",
            control,
            "list.append in a loop",
            f">= {goal:g}/s",
            rate >= goal,
        )


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A mosquitto on loopback; yields its port."""
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
        "max_queued_messages 0\nmax_inflight_messages 0\npersistence false\n"
    )
    process = subprocess.Popen(["mosquitto", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        yield port
    finally:
        process.terminate()
        process.wait()


def wait_for(attempt: object, timeout_s: float = 20.0) -> None:
    """Call ``attempt`` until it does not raise."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            attempt()  # type: ignore[operator]
            return
        except (OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@contextlib.contextmanager
def daemon(folder: Path, config: str) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-agent run`` with this configuration."""
    path = folder / "agent.yaml"
    path.write_text(config)
    log = (folder / "agent.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "edge_agent", "run", "-c", str(path)], stderr=log, stdout=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def status(port: int) -> dict[str, object]:
    """``/api/v1/status`` of the daemon."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/status", timeout=5) as answer:
        return dict(json.load(answer))


def readings(port: int) -> float:
    """How many readings the daemon has taken in."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("edge_agent_readings_total"):
                return float(line.rsplit(" ", 1)[1])
    return 0.0


def publish(port: int, messages: int) -> None:
    """Pre-encoded PUBLISH packets (QoS 0, JSON with one value) straight into a socket."""
    packets = []
    for i in range(SENSORS):
        topic = f"plant/s{i}".encode()
        body = b'{"v": %d.5, "unit": "mm"}' % i
        rest = len(topic).to_bytes(2, "big") + topic + body
        packets.append(bytes([0x30, len(rest)]) + rest)
    block = b"".join(packets)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(bytes([0x10, 14]) + b"\x00\x04MQTT\x04\x02\x00\x00\x00\x02bp")
        sock.recv(4)
        for _ in range(messages // SENSORS):
            sock.sendall(block)
        sock.sendall(bytes([0xE0, 0]))


def _bare(port: int) -> float:
    """Messages a second of a paho client that only counts."""
    code = f"""
import paho.mqtt.client as mqtt, time
count = 0; began = 0.0
def on_message(c, u, m):
    global count, began
    if count == 0: began = time.perf_counter()
    count += 1
    if count >= {MESSAGES}: print(count / (time.perf_counter() - began), flush=True); c.disconnect()
c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
c.on_message = on_message
c.on_connect = lambda c, *a: c.subscribe("plant/#")
c.on_subscribe = lambda *a: print("ready", flush=True)
c.connect("127.0.0.1", {port}); c.loop_forever()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    publish(port, MESSAGES)
    rate = float(process.stdout.readline())
    process.wait(20)
    return rate


def _mqtt() -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder, api = Path(name), free_port()
        with broker(folder) as port:
            control = _bare(port)
            config = f"""
agent: {{name: bench, data_dir: {folder}/data}}
sources:
  m:
    type: mqtt
    port: {port}
    subscriptions:
      - topic: plant/{{sensor}}
        payload: {{format: json, value: $.v}}
api: {{listen: "127.0.0.1:{api}"}}
sinks: {{out: {{type: file, path: {folder}/events.jsonl}}}}
"""
            with daemon(folder, config):
                wait_for(lambda: _assert_connected(api))
                began = time.perf_counter()
                publish(port, MESSAGES)
                before = -1.0
                while (now := readings(api)) < MESSAGES and (now > before or time.perf_counter() - began < 2):
                    before = now
                    time.sleep(0.1)
                rate = readings(api) / (time.perf_counter() - began)
    return Result(
        "mqtt_ingest", rate, "messages/s", control, "bare paho loop that counts", ">= 10000/s", rate >= 10_000
    )


def _assert_connected(api: int) -> None:
    sources = status(api)["sources"]
    assert isinstance(sources, dict)
    assert sources["m"]["state"] == "connected"
