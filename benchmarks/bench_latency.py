"""From a reading on MQTT to its incident on MQTT: what comes on top of the tick, through a real broker and daemon."""

from __future__ import annotations

import json
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from bench_ingest import broker, daemon, free_port, status, wait_for
from result import Result

INCIDENTS = 150
TICK_S = 0.1


def run() -> Iterator[Result]:
    """99 % quantile over ``INCIDENTS``; the control is a client that sends on what it receives."""
    if shutil.which("mosquitto") is None:
        print("latency skipped: mosquitto is not installed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as name, broker(Path(name)) as port:
        relayed = float(np.quantile(_relay(port), 0.99)) * 1e3
        beyond = float(np.quantile(_incidents(Path(name), port), 0.99)) * 1e3
    yield Result(
        "incident_beyond_tick_p99",
        float(beyond),
        "ms",
        float(relayed),
        "a bare paho relay, p99",
        "< 50 ms",
        beyond < 50,
    )


def _client(port: int, topic: str) -> tuple[mqtt.Client, queue.Queue[tuple[float, bytes]]]:
    found: queue.Queue[tuple[float, bytes]] = queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: found.put((time.time(), message.payload))
    client.connect("127.0.0.1", port)
    client.subscribe(topic, qos=1)
    client.loop_start()
    return client, found


def _relay(port: int) -> list[float]:
    relay = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    relay.on_message = lambda client, _data, message: client.publish("relay/out", message.payload, qos=1)
    relay.connect("127.0.0.1", port)
    relay.subscribe("relay/in", qos=1)
    relay.loop_start()
    client, found = _client(port, "relay/out")
    time.sleep(0.5)
    spent = []
    for _ in range(INCIDENTS):
        client.publish("relay/in", b"{}", qos=1)
        sent = time.time()
        spent.append(found.get(timeout=10)[0] - sent)
        time.sleep(0.02)
    for one in (client, relay):
        one.loop_stop()
        one.disconnect()
    return spent


def _incidents(folder: Path, port: int) -> list[float]:
    api = free_port()
    config = f"""
agent: {{data_dir: {folder}/data, log: {{level: warning}}}}
tick: {{period: 100ms}}
decision: {{cooldown: 0s, flap_after: 0}}
sources: {{plant: {{type: mqtt, host: 127.0.0.1, port: {port}, subscriptions: [{{topic: plant/#}}]}}}}
rules: {{high: {{limit: {{above: 10}}, sensors: ["*level*"], clear_after: 100ms}}}}
sinks: {{out: {{type: mqtt, host: 127.0.0.1, port: {port}, topic: "out/{{kind}}", qos: 1}}}}
api: {{listen: 127.0.0.1:{api}}}
"""
    client, found = _client(port, "out/incident")
    spent: list[float] = []
    with daemon(folder, config):
        wait_for(lambda: status(api))
        for value in [1] * 30 + [20, 20, 20, 1, 1, 1, 1, 1] * INCIDENTS:
            client.publish("plant/level", json.dumps({"value": value}))
            time.sleep(TICK_S)
        deadline = time.monotonic() + 5
        while len(spent) < INCIDENTS and time.monotonic() < deadline:
            spent += _beyond(found)
            time.sleep(0.1)
    client.loop_stop()
    client.disconnect()
    return spent


def _beyond(found: queue.Queue[tuple[float, bytes]]) -> Iterator[float]:
    """Seconds from the tick at which an incident opened to its arrival."""
    while not found.empty():
        at, payload = found.get()
        body: dict[str, Any] = json.loads(payload)
        if body["state"] == "open":
            yield at - datetime.fromisoformat(body["updated"]).timestamp()
