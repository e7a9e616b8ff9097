"""A publisher, its web server and a plant, for daemons that are updated over the air."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "inference"))

from bundle_factory import GraphBuilder, bundle_with, make_files, rewire
from daemon_process import DaemonProcess, until

from edge_agent.api.address import TcpAddress
from edge_agent.api.client import ApiClient
from edge_agent.bundle import Bundle
from edge_agent.options import Secret
from edge_agent.ota.publisher import Change, Repository
from edge_agent.ota.publisher.serving import server
from edge_agent.ota.ring import Activate, Activation, Shadow, Trial

TOKENS = {"check": "a-token-that-only-looks", "load": "a-token-that-only-sideloads"}
NO_SHADOW = Shadow(seconds=0, ticks=0)
SHORT_TRIAL = Trial(seconds=1, ticks=20)
AT_ONCE = Activate(mode=Activation.NOW, spread_s=0)


def a_little_other(builder: GraphBuilder, before: str) -> str:
    return builder.op("Mul", before, builder.const(1.0001))


def not_finite_at_minus_2000(builder: GraphBuilder, before: str) -> str:
    """The root of a negative number near -2000 and nowhere else, so that no probe finds it."""
    away = builder.op("Add", "value", builder.const(2000.0))
    square = builder.op("Sub", builder.op("Mul", away, away), builder.const(1e4))
    return builder.op("Add", before, builder.op("Mul", builder.op("Sqrt", square), builder.const(0.0)))


def bundle_of(version: str, change: Any = a_little_other) -> Bundle:
    """A model that differs from others in its version, and from the first one in its network."""
    return bundle_with(rewire("score", change), version=version)


def put(bundle: Bundle, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in bundle.files.items():
        (folder / name).write_bytes(content)
    return folder


class Publisher:
    """A repository for the ring ``stable`` with its web server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = Repository.init(
            folder / "fleet",
            lambda _name, _new: "a passphrase for tests",
            rings=("stable",),
            root_keys=1,
            root_threshold=1,
        )
        self.root = folder / "root.json"
        self.root.write_bytes(self.repository.root_file.read_bytes())
        self._server = server(self.repository.served)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def publish(self, bundle: Bundle, **options: Any) -> Change:
        """A model for the ring; by default begun with at once, without shadow, on a short trial."""
        wanted = {"rings": ("stable",), "activate": AT_ONCE, "shadow": NO_SHADOW, "trial": SHORT_TRIAL, **options}
        return self.repository.publish(put(bundle, self.folder / f"bundle-{bundle.manifest.version}"), **wanted)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def plant(port: int) -> Iterator[dict[str, float]]:
    """Readings of two sensors, twenty a second, until left; what is in the mapping replaces them."""
    forced: dict[str, float] = {}
    command = ["mosquitto_pub", "-p", str(port), "-t", "plant", "-l"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    stop = threading.Event()

    def speak() -> None:
        assert process.stdin is not None
        count = 0
        while not stop.is_set():
            count += 1
            values = {"a": 20 + (count * 7 % 11) / 10, "b": 20 + (count * 5 % 13) / 10, **forced}
            process.stdin.write(json.dumps(values).encode() + b"\n")
            process.stdin.flush()
            time.sleep(0.05)

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        yield forced
    finally:
        stop.set()
        thread.join()
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


def config(broker_port: int, publisher: Publisher, first: Path, extra: str = "", **ota: str) -> str:
    options = {"check_not_within": "1s", "poll_every": "1h", **ota}
    return f"""
tick: {{period: 50ms}}
history: {{enabled: false}}
model: {{bundle: {first}}}
sources:
  plant:
    type: mqtt
    port: {broker_port}
    retry_max: 500ms
    subscriptions:
      - {{topic: plant, payload: {{format: json}}}}
ota:
  repository: {publisher.url}
  root: {publisher.root}
  {"; ".join(f"{name}: {value}" for name, value in options.items()).replace("; ", chr(10) + "  ")}
{extra}"""


def first_bundle(folder: Path) -> Path:
    folder.mkdir()
    for name, content in make_files(version="1.0.0").items():
        (folder / name).write_bytes(content)
    return folder


def client(agent: DaemonProcess) -> ApiClient:
    token = Secret((agent.folder / "data" / "api-token").read_text().strip())
    return ApiClient(TcpAddress("127.0.0.1", agent.api), token)


def ota(agent: DaemonProcess) -> dict[str, Any]:
    found = agent.get("/api/v1/ota")
    assert isinstance(found, dict), found
    return found


def until_phase(agent: DaemonProcess, phase: str, timeout_s: float = 40.0) -> dict[str, Any]:
    until(lambda: ota(agent)["phase"] == phase, f"phase {phase}, in {agent.log()[-2000:]}", timeout_s)
    return ota(agent)


def until_outcome(agent: DaemonProcess, release: str, timeout_s: float = 60.0) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = ota(agent)
        outcome = found.get("outcome")
        return found if outcome and outcome["release"] == release and found["phase"] == "idle" else None

    found: dict[str, Any] = until(ended, f"the end of {release}", timeout_s)
    return found


def post(agent: DaemonProcess, path: str, token: str | None, body: bytes = b"{}") -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", agent.api, timeout=60)
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
