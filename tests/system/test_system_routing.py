"""An attack on a plant behind a real broker, from the first reading to the people who are told of it, or told twice."""

from __future__ import annotations

import json
import random
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from daemon_process import DaemonProcess, MosquittoProcess, until
from paho.mqtt.enums import CallbackAPIVersion

pytestmark = [pytest.mark.counterpart, pytest.mark.slow]

SENSORS = 12
PERIOD_S = 0.1
PATIENCE_S = 2.0
CONFIG = """
tick: {{period: 100ms, lateness: 100ms}}
decision: {{calibration_ticks: 100, false_alarms: 1 per hour, detect_within: 1s, close_after: 3s, cooldown: 100ms}}

sensors: {{north_*: {{area: north}}, south_*: {{area: south}}}}
graph: {{learn: false, edges: [[north_0, north_1], [north_1, north_2], [south_0, south_1], [south_1, south_2]]}}
sources:
  plant:
    type: mqtt
    port: {broker}
    client_id: under-test
    session_expiry: 1h
    subscriptions: [{{topic: "plant/{{sensor}}", qos: 1, payload: {{value: $.v, time: $.t}}}}]
sinks:
  events: {{type: file, path: {events}}}
  desk: {{type: webhook, url: "http://127.0.0.1:{web}/desk", escalate: {{after: {patience}s, to: pager}}}}
  south: {{type: webhook, url: "http://127.0.0.1:{web}/south", areas: [south]}}
  pager: {{type: webhook, url: "http://127.0.0.1:{web}/pager", events: [incident], kinds: []}}
"""


class Plant:
    """Two halves of a plant, each under its own load; one sensor can be made to report nonsense."""

    def __init__(self, port: int) -> None:
        self.attacked: str | None = None
        self._random = random.Random(0)
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        until(self._client.is_connected, "the plant to reach the broker")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plant")
        self._thread.start()

    def _run(self) -> None:
        began, number, load = time.monotonic(), 0, {"north": 0.0, "south": 0.0}
        while not self._stop.wait(max(0.0, began + number * PERIOD_S - time.monotonic())):
            now = time.time()
            for half in load:
                load[half] = 0.7 * load[half] + self._random.gauss(0, 1)
                for sensor in range(SENSORS // 2):
                    name = f"{half}_{sensor}"
                    value = (1 + sensor) * load[half] + self._random.gauss(0, 0.1)
                    value += self._random.choice((-100, 100)) * (name == self.attacked)
                    self._client.publish(f"plant/{name}", json.dumps({"v": value, "t": now}), qos=1)
            number += 1

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


class Web:
    """Takes what webhooks send; by path."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, Any]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.received += [(self.path, event) for event in (body if isinstance(body, list) else [body])]
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="web")
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def incidents(self, path: str) -> list[dict[str, Any]]:
        return [event["body"] for where, event in list(self.received) if where == path and event["kind"] == "incident"]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def plant(broker: MosquittoProcess) -> Iterator[Plant]:
    plant = Plant(broker.port)
    yield plant
    plant.close()


Make = Callable[..., DaemonProcess]


@pytest.fixture
def agent(broker: MosquittoProcess, plant: Plant, web: Web, daemon: Make, tmp_path: Path) -> DaemonProcess:
    """A daemon that has learned how the plant usually is."""
    events = tmp_path / "events.jsonl"
    text = CONFIG.format(broker=broker.port, web=web.port, events=events, patience=PATIENCE_S)
    agent = daemon(text)
    agent.events_path = events
    agent.start()
    until(lambda: not detection(agent)["warming_up"], "the calibration", 60)
    return agent


def detection(agent: DaemonProcess) -> dict[str, Any]:
    status = agent.status()
    return {"warming_up": True} if status is None else status["detection"]


def attack(plant: Plant, web: Web, sensor: str) -> str:
    """Let ``sensor`` report nonsense until the desk has been told; the incident's id."""
    known = {body["id"] for body in web.incidents("/desk")}
    plant.attacked = sensor
    return str(
        until(
            lambda: [
                body["id"]
                for body in web.incidents("/desk")
                if body["id"] not in known and any(part["sensor"] == sensor for part in body["sensors"])
            ],
            f"an incident at {sensor}",
        )[0]
    )


def of(web: Web, path: str, incident: str) -> list[dict[str, Any]]:
    return [body for body in web.incidents(path) if body["id"] == incident]


def states(web: Web, path: str, incident: str) -> list[str]:
    return [body["state"] for body in of(web, path, incident)]


def seen_by(body: dict[str, Any]) -> str:
    return "nobody" if body["acknowledged"] is None else str(body["acknowledged"]["by"])


def acknowledge(agent: DaemonProcess, incident: str) -> None:
    token = (agent.folder / "data" / "api-token").read_text().strip()
    request = urllib.request.Request(
        f"http://127.0.0.1:{agent.api}/api/v1/incidents/{incident}/acknowledge",
        json.dumps({"note": "on my way", "by": "anna"}).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_an_attack_is_told_where_it_concerns_and_escalated_when_nobody_acknowledges_it(
    plant: Plant, web: Web, agent: DaemonProcess
) -> None:
    first = attack(plant, web, "south_2")
    acknowledge(agent, first)
    until(
        lambda: any(seen_by(body).startswith("anna") for body in of(web, "/desk", first)),
        "the acknowledgement at the desk",
    )
    until(lambda: states(web, "/south", first), "the incident at the sink of its area")
    plant.attacked = None
    until(lambda: "closed" in states(web, "/desk", first), "its end", 60)
    time.sleep(PATIENCE_S + 1.5)  # that nothing comes can only be waited for
    assert web.incidents("/pager") == []

    second = attack(plant, web, "north_2")
    [told] = until(lambda: of(web, "/pager", second)[:1], "the escalation")
    assert (told["state"], told["escalated"], told["escalated_from"]) == ("open", True, "desk")
    plant.attacked = None
    until(lambda: "closed" in states(web, "/pager", second), "the end of it at the pager", 60)
    assert states(web, "/south", second) == []
    assert {event["body"]["id"] for event in agent.events("incident")} >= {first, second}
    assert of(web, "/pager", first) == []
    assert agent.stop() == 0


def test_a_restart_neither_repeats_nor_forgets_an_escalation(plant: Plant, web: Web, agent: DaemonProcess) -> None:
    incident = attack(plant, web, "south_2")
    until(lambda: states(web, "/pager", incident), "the escalation")
    assert agent.metric("edge_agent_escalations_total", sink="desk", to="pager") == 1
    assert agent.stop() == 0
    agent.start()
    plant.attacked = None
    until(lambda: "closed" in states(web, "/pager", incident), "the end of it at the pager", 60)
    until(lambda: "closed" in states(web, "/desk", incident), "the end of it at the desk")
    assert states(web, "/pager", incident).count("open") == 1
    assert agent.metric("edge_agent_escalations_total", sink="desk", to="pager") == 0
    assert agent.stop() == 0
