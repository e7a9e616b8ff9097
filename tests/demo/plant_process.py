"""The plant as a process of its own, with its control channel."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from typing import Any


class PlantProcess:
    """``python -m edge_agent.demo.serve`` with its control channel."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.demo.serve", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._buffered = b""
        self.wiring = self.wait_for(lambda message: message.get("event") == "ready")

    def port(self, what: str) -> int:
        return int(self.wiring[what]["port"])

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")

    def wait_for(self, wanted: Any, timeout_s: float = 20.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            line, newline, rest = self._buffered.partition(b"\n")
            if newline:
                self._buffered = rest
                message = json.loads(line)
                if wanted(message):
                    return dict(message)
                continue
            self._read(deadline)

    def end_input(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(10)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self, deadline: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, "the plant process said nothing in time"
        chunk = self._process.stdout.read(65536)
        assert chunk, f"the plant process ended with {self._process.wait(10)}"
        self._buffered += chunk
