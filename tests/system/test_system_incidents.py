"""Open incidents, orders and operators with a real daemon: through the commands, a kill -9 and a restart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
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
tick: {{period: 100ms}}
decision: {{quality_after: 500ms, close_after: 1s, detect_within: 5s, cooldown: 1m}}
intake: {{stale_after: 1s}}
sensors:
  "pump.*": {{max: 100, area: pumps}}
sinks: {{events: {{type: file, path: {events}, events: [incident], suppressed: true}}}}
sources:
  plant:
    type: mqtt
    port: {port}
    retry_max: 500ms
    subscriptions: [{{topic: "plant/{{sensor}}", payload: {{format: json, value: $.v}}}}]
"""


def config(broker: MosquittoProcess, folder: Path) -> str:
    return CONFIG.format(port=broker.port, events=folder / "agent-0" / "events.jsonl")


@contextmanager
def sending(broker: MosquittoProcess, values: dict[str, float]) -> Iterator[None]:
    """Publish ``values``, as they are at the time, ten times a second."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.1):
            for sensor, value in list(values.items()):
                broker.publish(f"plant/{sensor}", json.dumps({"v": value}).encode())

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def command(agent: DaemonProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "edge_agent", "incidents", *arguments, "-c", str(agent.path)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=30, env={**os.environ, "LOGNAME": "kim"})


def told(agent: DaemonProcess, since: int = 0) -> list[dict[str, Any]]:
    return [event["body"] for event in agent.events("incident")[since:]]


def states(agent: DaemonProcess) -> list[str]:
    return [incident["state"] for incident in told(agent)]


def test_an_incident_its_acknowledgement_and_an_order_outlive_a_kill(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon(config(broker, tmp_path)).start()
    values = {"pump.P1": 5.0, "tank.L1": 3.0}
    with sending(broker, values):
        until(lambda: agent.get("/api/v1/status")["sensors"]["usable"] == 2, "the sensors")
        values["pump.P1"] = 500.0
        until(lambda: states(agent) == ["open"], "the incident")
        incident_id = told(agent)[0]["id"]
        assert told(agent)[0]["areas"] == ["pumps"]

        done = command(agent, "acknowledge", incident_id, "--note", "on my way")
        assert (done.returncode, "acknowledged" in done.stdout) == (0, True), done.stderr
        done = command(agent, "suppress", "--areas", "pumps", "--for", "1h", "--json")
        order_id = json.loads(done.stdout)["id"]
        assert json.loads(done.stdout)["matches"] == 1
        until(lambda: states(agent) == ["open", "updated", "updated"], "both to be told")
        assert told(agent)[1]["acknowledged"]["by"].startswith("kim (api client ")
        assert told(agent)[2]["suppressed"] == f"order {order_id} by {told(agent)[1]['acknowledged']['by']}"

        until((agent.folder / "data" / "notify.json").exists, "who was told what to be on the disk")
        agent.kill()
        agent.start()
        until(lambda: len(told(agent)) == 4, "the incident to be found again")
        again = told(agent)[3]
        assert (again["id"], again["state"], again["reopened"]) == (incident_id, "updated", 0)
        assert again["acknowledged"]["note"] == "on my way"
        assert again["suppressed"] is not None

        values["pump.P1"] = 5.0
        until(lambda: states(agent)[-1] == "closed", "the end")
        assert {incident["id"] for incident in told(agent)} == {incident_id}
        done = command(agent, "lift", order_id)
        assert (done.returncode, done.stdout) == (0, f"{order_id}: lifted\n")
        assert command(agent, "orders").stdout == "no orders\n"
        done = command(agent, "acknowledge", incident_id)
        assert (done.returncode, "is closed" in done.stderr) == (4, True)
        assert command(agent, "feedback", incident_id, "false_alarm").returncode == 0
        listed = command(agent, "list").stdout
        assert "acknowledged by kim" in listed
        assert "false alarm" in listed
        assert [line.split()[1] for line in command(agent, "audit").stdout.splitlines()[1:]] == [
            "feedback",
            "lift",
            "suppress",
            "acknowledge",
        ]
    assert agent.stop() == 0


def test_an_incident_that_is_over_after_a_restart_is_closed(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon(config(broker, tmp_path)).start()
    values = {"pump.P1": 5.0, "tank.L1": 3.0}
    with sending(broker, values):
        until(lambda: agent.get("/api/v1/status")["sensors"]["usable"] == 2, "the sensors")
        values["pump.P1"] = 500.0
        until(lambda: states(agent) == ["open"], "the incident")
        assert agent.stop() == 0
        values["pump.P1"] = 5.0
        agent.start()
        assert agent.get("/api/v1/status")["detection"]["incidents_open"] == 1
        began = time.monotonic()
        until(lambda: states(agent) == ["open", "closed"], "the end")
        assert time.monotonic() - began > 1.0
        until(lambda: agent.get("/api/v1/status")["detection"]["incidents_open"] == 0, "none to be open")
        assert command(agent, "list", "--state", "open").stdout == "no incidents\n"
    assert agent.stop() == 0


def test_a_damaged_file_of_open_incidents_is_no_reason_not_to_start(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon(config(broker, tmp_path)).start()
    assert agent.stop() == 0
    (agent.folder / "data" / "incidents.json").write_bytes(b"EDGESTATE1\n" + b"x" * 100)
    agent.start()
    assert "incidents.json" in agent.log()
    assert agent.stop() == 0


def test_an_incident_that_a_damaged_file_has_taken_does_not_stay_open_for_ever(
    broker: MosquittoProcess, daemon: Make, tmp_path: Path
) -> None:
    agent = daemon(config(broker, tmp_path)).start()
    values = {"pump.P1": 5.0, "tank.L1": 3.0}
    with sending(broker, values):
        until(lambda: agent.get("/api/v1/status")["sensors"]["usable"] == 2, "the sensors")
        values["pump.P1"] = 500.0
        until(lambda: states(agent) == ["open"], "the incident")
        assert agent.stop() == 0
        (agent.folder / "data" / "incidents.json").write_bytes(b"x")
        agent.start()
        until(lambda: len(told(agent)) == 3, "its end, and what is found anew")
        assert [(one["id"] == told(agent)[0]["id"], one["state"]) for one in told(agent)[1:]] == [
            (True, "closed"),
            (False, "open"),
        ]
        assert agent.log().count("closed") == 1
        (still_open,) = agent.get("/api/v1/incidents?state=open")["incidents"]
        assert still_open["id"] == told(agent)[2]["id"]
    assert agent.stop() == 0
