"""A real Alertmanager of Debian, on free ports of the loopback."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

CONFIG = """
global: {{resolve_timeout: {resolve_timeout}}}
route: {{receiver: nobody, group_by: [incident], group_wait: 1h}}
receivers: [{{name: nobody}}]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Alertmanager:
    """Keeps its port over restarts."""

    def __init__(self, folder: Path, resolve_timeout: str = "5m", *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = folder / f"alertmanager-{self.port}.yml"
        config.write_text(CONFIG.format(resolve_timeout=resolve_timeout))
        self._command = [
            "prometheus-alertmanager",
            f"--config.file={config}",
            f"--storage.path={folder / str(self.port)}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Alertmanager:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if self._get("/-/ready")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        raise TimeoutError("Alertmanager did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def alerts(self) -> list[dict[str, Any]]:
        """What fires now."""
        status, body = self._get("/api/v2/alerts")
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)
        return found

    def amtool(self, *query: str) -> list[dict[str, Any]]:
        """The same as an operator sees it."""
        command = ["amtool", "alert", "query", *query, "--output=json", f"--alertmanager.url={self.url}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
