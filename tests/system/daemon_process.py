"""The daemon as a process of its own, as a gateway runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """Poll ``condition`` until it gives something true."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g}s in vain for: {what}")
        time.sleep(0.05)


class DaemonProcess:
    """``edge-agent run`` on a configuration; events go to ``events.jsonl``, the log to ``agent.log``."""

    def __init__(self, folder: Path, config: str, *, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.api = free_port()
        self.path = folder / "agent.yaml"
        self.events_path = folder / "events.jsonl"
        self.write(config)
        self._environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, config: str) -> None:
        """(Re)write the configuration; api, data folder and event file are added where it does not set them."""
        lines = [config]
        if "\nagent:" not in f"\n{config}":
            lines.append(f"agent: {{name: under-test, data_dir: {self.folder}/data, log: {{format: text}}}}")
        if "\napi:" not in f"\n{config}":
            lines.append(f'api: {{listen: "127.0.0.1:{self.api}"}}')
        if "\nsinks:" not in f"\n{config}":
            lines.append(
                f"sinks: {{events: {{type: file, path: {self.events_path}, events: [incident, status, scores]}}}}"
            )
        self.path.write_text("\n".join(lines) + "\n")

    def start(self, *, ready: bool = True) -> DaemonProcess:
        log = (self.folder / "agent.log").open("ab")
        command = [sys.executable, "-m", "edge_agent", "run", "-c", str(self.path)]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environ)
        log.close()
        if ready:
            until(lambda: self.exited() or self.status() is not None, "the API to answer")
            assert self.process.poll() is None, self.log()
        return self

    def exited(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.api}{path}", timeout=5) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        return json.loads(body) if body[:1] in b"{[" else body.decode()

    def status(self) -> dict[str, Any] | None:
        try:
            status = self.get("/api/v1/status")
        except OSError:
            return None
        return status if isinstance(status, dict) and "tick" in status else None

    def metric(self, name: str, **labels: str) -> float:
        """Value of one series of /metrics, 0 when it is not there."""
        for line in str(self.get("/metrics")).splitlines():
            if line.startswith(name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def connected(self, source: str) -> bool:
        status = self.status()
        return status is not None and status["sources"][source]["state"] == "connected"

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        if not self.events_path.exists():
            return []
        events = [json.loads(line) for line in self.events_path.read_text().splitlines() if line.endswith("}")]
        return [event for event in events if kind is None or event["kind"] == kind]


class MosquittoProcess:
    """A broker on loopback that can be stopped and started again and keeps sessions in between."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n"
            f"persistence true\npersistence_location {folder}/\nuser root\n"
            "max_queued_messages 0\nmax_inflight_messages 0\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> MosquittoProcess:
        self.process = subprocess.Popen(["mosquitto", "-c", str(self._config)], stderr=subprocess.DEVNULL)
        until(self._listening, "mosquitto to listen")
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def publish(self, topic: str, payload: bytes, qos: int = 1) -> None:
        command = ["mosquitto_pub", "-p", str(self.port), "-t", topic, "-q", str(qos), "-s"]
        subprocess.run(command, input=payload, check=True, timeout=20)

    def _listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
