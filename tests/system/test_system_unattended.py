"""A minute of what a gateway does for years: nothing grows, nothing is missed, nothing is written."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import paho.mqtt.client as paho
import psutil
import pytest
from daemon_process import DaemonProcess, MosquittoProcess, free_port, until
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = pytest.mark.counterpart

SENSORS = 50
PERIOD_S = 0.05
WARM_UP_S = 20.0  # edges learned, calibration fitted, every buffer touched once
WATCHED_S = 40.0
MOST_GROWTH = 3_000_000  # bytes of resident memory
MOST_MISSED = 5  # ticks, on a machine that others use too
BUDGET = 5.0  # bytes on the disk for each reading while sinks are up
# The last two change with an incident only: on a machine that stalls, readings come late, and that may be told as one.
MAY_CHANGE = ("learned.npz", "history.db", "history.db-wal", "history.db-shm", "incidents.json", "notify.json")
CONFIG = """
tick: {{period: 50ms, lateness: 200ms}}
decision: {{calibration_ticks: 100}}
sources:
  plant:
    type: mqtt
    port: {port}
    client_id: under-test
    session_expiry: 1h
    subscriptions: [{{topic: "plant/{{sensor}}", qos: 1, payload: {{value: $.v, time: $.t}}}}]
sinks: {{events: {{type: file, path: {events}}}}}
"""


class Plant:
    """Single-value messages, QoS 1, all sensors once a period."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._random = random.Random(0)
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the plant to reach the broker")

    def run(self, seconds: float) -> Iterator[float]:
        """Send for ``seconds``; yields the time passed after each round."""
        began = time.monotonic()
        for number in range(round(seconds / PERIOD_S)):
            time.sleep(max(0.0, began + number * PERIOD_S - time.monotonic()))
            now = time.time()
            wave = math.sin(math.tau * now)  # many rounds of it fit into the calibration
            for sensor in range(SENSORS):
                value = (1 + sensor % 5) * wave + self._random.gauss(0, 0.1)
                self._client.publish(f"plant/s{sensor:02}", json.dumps({"v": value, "t": now}), qos=1)
            self.sent += SENSORS
            yield time.monotonic() - began

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def plant(broker: MosquittoProcess) -> Iterator[Plant]:
    plant = Plant(broker.port)
    yield plant
    plant.close()


@pytest.mark.slow
def test_a_minute_unattended_leaves_memory_and_disk_as_they_were(
    broker: MosquittoProcess, plant: Plant, daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    events = tmp_path / "events.jsonl"
    agent = daemon(CONFIG.format(port=broker.port, events=events))
    agent.events_path = events
    agent.start()
    until(lambda: agent.connected("plant"), "the connection")
    assert agent.process is not None
    process = psutil.Process(agent.process.pid)

    for _ in plant.run(WARM_UP_S):
        pass
    before = process.io_counters().write_bytes
    files, handles = sizes(agent), process.num_fds()
    missed = agent.metric("edge_agent_ticks_missed_total")
    memory = [process.memory_info().rss for _ in plant.run(WATCHED_S)]

    second = round(1 / PERIOD_S)
    growth = median(memory[-5 * second :]) - median(memory[: 5 * second])
    assert growth < MOST_GROWTH, f"{growth / 1e6:.1f} MB more than {WATCHED_S:g} s before"
    assert agent.metric("edge_agent_ticks_missed_total") - missed <= MOST_MISSED
    assert unlike(files, sizes(agent)) == {}
    # Sockets do not count: what goes to disk is incidents in the history and in the sink's file, nothing per reading.
    written = (process.io_counters().write_bytes - before) / (SENSORS * len(memory))
    assert written < BUDGET, f"{written:.1f} bytes a reading with {len(agent.events('incident'))} incident events"
    until(lambda: process.num_fds() <= handles, "our own requests to be over, and no other handle open")
    until(lambda: taken(agent) == plant.sent, "every reading")
    assert agent.stop() == 0


@pytest.mark.parametrize(("stall_s", "loses_ticks"), [(0.6, False), (2.5, True)])
def test_ticks_that_a_short_stall_held_up_follow_at_once(
    daemon: Callable[..., DaemonProcess], stall_s: float, loses_ticks: bool
) -> None:
    nobody = f'{{type: mqtt, port: {free_port()}, subscriptions: [{{topic: "plant/{{sensor}}"}}]}}'
    agent = daemon(f"tick: {{period: 50ms}}\nsources: {{plant: {nobody}}}\n").start()
    assert agent.process is not None
    until(lambda: len(agent.events("scores")) > 20, "some ticks")
    agent.process.send_signal(signal.SIGSTOP)
    time.sleep(stall_s)
    agent.process.send_signal(signal.SIGCONT)
    before = len(agent.events("scores"))
    until(lambda: len(agent.events("scores")) > before + 60, "ticks after the stall")
    assert agent.stop() == 0
    times = [datetime.fromisoformat(event["time"]).timestamp() for event in agent.events("scores")]
    longest_s = max(after - time_s for time_s, after in pairwise(times))
    assert (longest_s > 1.5 * PERIOD_S) is loses_ticks


def taken(agent: DaemonProcess) -> float:
    repeated = agent.metric("edge_agent_readings_duplicate_total")
    return agent.metric("edge_agent_readings_total", source="plant") - repeated


def sizes(agent: DaemonProcess) -> dict[str, int]:
    data = agent.folder / "data"
    return {str(file.relative_to(data)): file.stat().st_size for file in data.rglob("*") if file.is_file()}


def unlike(before: dict[str, int], after: dict[str, int]) -> dict[str, tuple[int | None, int | None]]:
    names = {name for name in before | after if name not in MAY_CHANGE}
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}
