"""The whole process: memory, start, idle CPU."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench_ingest import broker, daemon, free_port, publish, status, wait_for
from result import Result

MB = 1024 * 1024


def run() -> Iterator[Result]:
    """Memory and start of the daemon with all adapters."""
    yield from _whole_daemon()


def _config(folder: Path, mqtt: int, modbus: int, coap: int, api: int) -> str:
    registers = "\n".join(f"          - {{name: r{i}, address: {i}, type: uint16}}" for i in range(20))
    return f"""
agent: {{name: bench, data_dir: {folder}/data}}
sources:
  m:
    type: mqtt
    port: {mqtt}
    subscriptions:
      - {{topic: "plant/{{sensor}}", payload: {{format: json, value: $.v}}}}
  c:
    type: coap
    server: {{listen: "127.0.0.1:{coap}", resources: [{{path: "/s/{{device}}"}}]}}
  b:
    type: modbus
    host: 127.0.0.1
    port: {modbus}
    interval: 1s
    devices:
      - unit: 1
        registers:
{registers}
api: {{listen: "127.0.0.1:{api}"}}
sinks: {{out: {{type: file, path: {folder}/events.jsonl}}, back: {{type: mqtt, port: {mqtt}}}}}
"""


@contextlib.contextmanager
def _modbus_server() -> Iterator[int]:
    port = free_port()
    code = f"""
import asyncio
from pymodbus.server import StartAsyncTcpServer
from pymodbus.simulator import SimData, SimDevice, DataType
asyncio.run(StartAsyncTcpServer([SimDevice(1, [SimData(0, count=200, values=7, datatype=DataType.REGISTERS)])],
            address=("127.0.0.1", {port})))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024 / MB
    return 0.0


def _bare() -> tuple[float, float]:
    """RSS (MB) and seconds of a process that only imports numpy and ONNX Runtime and opens the model."""
    code = """
import os; os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy, onnxruntime as ort
from pathlib import Path
import edge_agent.bundle.store as store
session = ort.InferenceSession((store.UNIVERSAL / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
print("up", flush=True); import sys; sys.stdin.read()
"""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    spent = time.perf_counter() - began
    rss = _rss(process.pid)
    process.stdin.close()
    process.wait()
    return rss, spent


def _cpu_seconds(pid: int) -> float:
    """CPU time from the scheduler, which counts what ``utime`` misses."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def _whole_daemon() -> Iterator[Result]:
    bare_rss, bare_start = _bare()
    with tempfile.TemporaryDirectory() as name, _modbus_server() as modbus:
        folder, api = Path(name), free_port()
        with broker(folder) as mqtt:
            began = time.perf_counter()
            with daemon(folder, _config(folder, mqtt, modbus, free_port(), api)) as process:
                wait_for(lambda: _ticked(api))
                start = time.perf_counter() - began
                yield Result(
                    "start_to_first_tick", start, "s", bare_start, "import of numpy and ONNX Runtime, model opened",
                    "< 2 s", start < 2,
                )  # fmt: skip
                for _ in range(20):
                    publish(mqtt, 500)
                    with urllib.request.urlopen(f"http://127.0.0.1:{api}/metrics", timeout=5) as answer:
                        answer.read()
                    time.sleep(0.2)
                time.sleep(6)  # what start-up needed is given back five seconds after it
                for _ in range(20):
                    publish(mqtt, 500)
                    time.sleep(0.1)
                rss = _rss(process.pid)
                yield Result(
                    "rss_all_adapters", rss, "MiB RSS", bare_rss, "numpy and ONNX Runtime with the model, nothing else",
                    "< 100 MiB", rss < 100,
                )  # fmt: skip
                before, at = _cpu_seconds(process.pid), time.perf_counter()
                time.sleep(10)
                idle = 100 * (_cpu_seconds(process.pid) - before) / (time.perf_counter() - at)
                sensors = status(api)["sensors"]
                yield Result("idle_cpu", idle, f"% of a core, {sensors}", 100.0, "one core", "< 3 %", idle < 3)


def _ticked(api: int) -> None:
    tick = status(api)["tick"]
    assert isinstance(tick, dict)
    assert tick["count"] >= 1
