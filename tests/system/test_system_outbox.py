"""Events over a broker that goes away, a daemon that is killed meanwhile, and one that is stopped in order."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, until

pytestmark = pytest.mark.counterpart

Make = Callable[..., DaemonProcess]
CONFIG = """
agent: {{name: {name}, data_dir: {folder}/data, log: {{format: text}}}}
tick: {{period: 100ms}}
history: {{enabled: false}}
sources: {{plant: {{type: mqtt, port: {port}, subscriptions: [{{topic: "plant/{{sensor}}"}}]}}}}
sinks:
  out:
    type: mqtt
    port: {port}
    topic: "out/{{id}}"
    events: [scores]
    retry_max: 500ms
    buffer: {{spill_after: 500ms, replay_rate: 100}}
"""


class Watcher:
    """Another MQTT client, with a session that outlives the broker."""

    def __init__(self, folder: Path, port: int) -> None:
        self.path = folder / "received"
        command = ["mosquitto_sub", "-c", "-i", "watcher", "-q", "1", "-p", str(port), "-t", "out/#", "-F", "%t %p"]
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)

    def received(self) -> dict[str, Any]:
        """Bodies by the id of the event."""
        lines = [line.split(" ", 1) for line in self.path.read_text().splitlines() if line.endswith("}")]
        return {topic.removeprefix("out/"): json.loads(body) for topic, body in lines}

    def ticks(self, agent: str) -> list[int]:
        """Ticks that ``agent`` has told of, as they came."""
        return [body["tick"] for body in self.received().values() if body["agent"] == agent]

    def late(self) -> list[int]:
        """Ticks that were told late, as they came."""
        return [body["tick"] for body in self.received().values() if body.get("replayed")]


@contextmanager
def watching(folder: Path, port: int) -> Iterator[Watcher]:
    watcher = Watcher(folder, port)
    try:
        yield watcher
    finally:
        watcher.process.kill()
        watcher.process.wait()


def start(agent: DaemonProcess, broker: MosquittoProcess, name: str) -> None:
    agent.write(CONFIG.format(name=name, folder=agent.folder, port=broker.port))
    agent.start()


def outbox(agent: DaemonProcess) -> list[Path]:
    return sorted((agent.folder / "data" / "outbox" / "out").glob("*.events"))


def backlog(agent: DaemonProcess) -> int:
    status = agent.status()
    return -1 if status is None else int(status["sinks"]["out"]["backlog"])


def test_a_broker_that_is_gone_while_the_agent_is_killed_costs_nothing_that_was_kept(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon("")
    with watching(tmp_path, broker.port) as watcher:
        start(agent, broker, "first")
        until(lambda: len(watcher.received()) > 5, "events to arrive")
        assert outbox(agent) == []
        assert agent.metric("edge_agent_store_written_bytes_total", store="outbox") == 0
        broker.stop()
        until(lambda: backlog(agent) > 30 and outbox(agent), "events to be kept")
        agent.kill()
        kept = sum(path.read_bytes().count(b"\xedR\x0b\x01") for path in outbox(agent))
        assert kept > 10

        start(agent, broker, "second")
        broker.start()
        until(lambda: len(watcher.late()) >= kept and not outbox(agent), "the late ones")
        ticks = watcher.ticks("first")
        assert ticks == list(range(len(ticks)))
        assert len(set(watcher.late())) >= kept
        assert agent.stop() == 0


def test_a_stop_while_the_broker_is_gone_is_quick_and_keeps_everything(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon("")
    with watching(tmp_path, broker.port) as watcher:
        start(agent, broker, "first")
        until(lambda: len(watcher.received()) > 5, "events to arrive")
        broker.stop()
        until(lambda: backlog(agent) > 20, "events to wait")
        last = agent.status()["tick"]["count"] - 1  # type: ignore[index]
        began = time.monotonic()
        assert agent.stop() == 0
        assert time.monotonic() - began < 8
        assert "undelivered events are in the outbox" in agent.log()
        broker.start()
        start(agent, broker, "second")
        until(lambda: max(watcher.ticks("first")) >= last and not outbox(agent), "the late ones")
        ticks = watcher.ticks("first")
        assert ticks == list(range(len(ticks)))
        assert "late events follow" in agent.log()
        assert agent.stop() == 0
