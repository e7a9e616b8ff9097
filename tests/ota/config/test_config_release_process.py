"""Configuration over the air from publisher to gateway, each a process of its own: taken, kept, and taken back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, MosquittoProcess, until

pytestmark = pytest.mark.counterpart

CONFIG = """\
tick: {{period: 100ms}}
sources: {{plant: {{type: mqtt, port: {port}, subscriptions: [{{topic: "plant/{{sensor}}"}}]}}}}
sensors: {{a: {{max: 10, area: cell}}}}
ota: {{repository: "file://{repository}", root: {root}, poll_every: 10s, check_not_within: 1s}}
"""
GOOD = "rules:\n  low: {sensors: [a], limit: {below: -5}}\nsensors: {a: {max: 20, unit: bar}}\n"
BAD = "sensors: {a: {max: 1}, b: {max: 1}, c: {max: 1}}\n"  # every reading of the plant becomes impossible


class Publisher:
    """`edge-agent ota repo` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fleet"
        self._environ = {**os.environ, "EDGE_AGENT_OTA_PASSPHRASE": "a passphrase for tests"}
        self.run("init", str(self.folder), "--ring", "stable")
        self.root = self.folder / "repo/metadata/1.root.json"

    def run(self, *args: str) -> None:
        command = [sys.executable, "-m", "edge_agent", "ota", "repo", *args]
        subprocess.run(command, env=self._environ, check=True, capture_output=True, timeout=60)

    def publish(self, name: str, text: str, trial: str) -> None:
        path = self.folder.parent / f"{name}.yaml"
        path.write_text(text)
        how = ("--activate", "now", "--spread", "0s", "--trial", trial, "--trial-ticks", "5")
        self.run("publish", str(path), "-d", str(self.folder), "--release", name, *how)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MosquittoProcess]:
    broker = MosquittoProcess(tmp_path).start()
    yield broker
    broker.stop()


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path)


@pytest.fixture
def agent(tmp_path: Path, broker: MosquittoProcess, publisher: Publisher) -> Iterator[DaemonProcess]:
    config = CONFIG.format(port=broker.port, repository=publisher.folder / "repo", root=publisher.root)
    process = DaemonProcess(tmp_path, config).start()
    yield process
    process.kill()


def updates(agent: DaemonProcess) -> dict[str, object]:
    found = agent.get("/api/v1/ota")
    assert isinstance(found, dict)
    return found


def outcome(agent: DaemonProcess, release: str) -> str | None:
    found = updates(agent).get("outcome")
    return str(found["result"]) if isinstance(found, dict) and found["release"] == release else None


def outcome_of(broker: MosquittoProcess, agent: DaemonProcess, release: str) -> str | None:
    """While the plant goes on."""
    for sensor in "abc":
        broker.publish(f"plant/{sensor}", b"6.5")
    return outcome(agent, release)


def value_of_c(agent: DaemonProcess) -> object:
    return agent.get("/api/v1/sensors/c").get("value")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_release_is_taken_and_kept_over_a_restart(
    broker: MosquittoProcess, publisher: Publisher, agent: DaemonProcess
) -> None:
    overlay = agent.folder / "data/ota/config.yaml"
    until(lambda: agent.connected("plant"), "the connection")
    publisher.publish("spring", GOOD, trial="2s")
    until(lambda: outcome_of(broker, agent, "spring") == "committed", "the release to be in use", 60)
    assert overlay.read_text() == GOOD
    assert agent.get("/api/v1/sensors/a")["unit"] == "bar"
    assert agent.stop() == 0
    agent.start()
    until(lambda: agent.connected("plant"), "the connection")
    assert agent.get("/api/v1/sensors/a").get("unit", "bar") == "bar"
    assert agent.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not os.environ.get("EDGE_AGENT_LONG_TESTS"), reason="a trouble must last a minute")
def test_a_bad_release_is_taken_back(broker: MosquittoProcess, publisher: Publisher, agent: DaemonProcess) -> None:
    """The same by a clock that need not be waited for: ``test_overlay_in_force.py``."""
    overlay = agent.folder / "data/ota/config.yaml"
    until(lambda: outcome_of(broker, agent, "") is None and value_of_c(agent) == 6.5, "readings")
    publisher.publish("autumn", BAD, trial="10m")
    until(lambda: overlay.exists() and overlay.read_text() == BAD, "the bad release on trial", 60)
    began = time.monotonic()
    until(lambda: outcome_of(broker, agent, "autumn") == "rolled_back", "the bad release to be taken back", 110)
    assert time.monotonic() - began < 90
    until(lambda: not overlay.exists(), "the configuration before")  # the state says so first
    until(lambda: outcome_of(broker, agent, "autumn") and value_of_c(agent) == 6.5, "usable readings again")
    assert agent.stop() == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_release_that_the_file_does_not_fit_any_more_keeps_nothing_from_starting(
    broker: MosquittoProcess, publisher: Publisher, agent: DaemonProcess
) -> None:
    overlay = agent.folder / "data/ota/config.yaml"
    until(lambda: agent.connected("plant"), "the connection")
    publisher.publish("spring", GOOD, trial="2s")
    until(lambda: outcome(agent, "spring") == "committed", "the release to be in use", 60)
    assert agent.stop() == 0
    own = agent.path.read_text()
    agent.path.write_text(own.replace("max: 10", "max: 40, min: 30"))
    agent.start()
    said = "config over the air: line 3: sensors.a: min is 30 and max is 20, expected min below max"
    assert updates(agent)["problem"] == said
    until(lambda: any(said in str(event["body"]) for event in agent.events("status")), "the status event")
    assert overlay.read_text() == GOOD
    assert agent.stop() == 0
    overlay.write_bytes(b"\x00\xff not what was signed")
    agent.path.write_text(own)
    agent.start()  # what was signed is put there again
    assert overlay.read_text() == GOOD
    assert updates(agent)["in_force"]["config"] is not None  # type: ignore[index]
    assert agent.stop() == 0
