"""Delivery: a sink down for three days, a process killed 200 times, and the price while the sink is up.

The outage is in virtual time, the plant gives 50 readings (one event) and one incident event a second, and the outbox
is that of the default options. Latency and bytes are of a real clock and real files.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from result import Result

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, BufferOptions, SinkOptions
from edge_agent.delivery import SinkRunner
from edge_agent.metrics import Metrics
from edge_agent.outbox import Outbox
from edge_agent.verdict import Event, EventKind

TESTS = Path(__file__).parents[1] / "tests" / "outbox"
sys.path.append(str(TESTS))
from outage import Outage  # noqa: E402 - found only now

DAYS = 3
EVENTS = 2_000


def run() -> Iterator[Result]:
    """Outage, kills, and a sink that is up."""
    with tempfile.TemporaryDirectory() as folder:
        yield from asyncio.run(up(Path(folder) / "up"))
        yield from asyncio.run(outage(Path(folder)))
    # What a killed process has given to the kernel stays there: memory is as good as a disk, and faster.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield from killed(Path(folder) / "killed")


async def outage(folder: Path) -> list[Result]:
    """Three days at one event of 50 readings and one of an incident a second."""
    seconds = DAYS * 86_400
    plant = Outage(folder / "desk", replay_rate=2_000, spill_after="60s")
    async with plant.running() as runner:
        await plant.live(10)
        await plant.down(seconds)
        size, kept, written = runner.outbox.size, runner.outbox.late, runner.outbox.bytes_written
        began = time.perf_counter()
        await plant.catch_up()
        drained_s = time.perf_counter() - began
    got = Counter(event.id for _, event in plant.far_side.got)
    lost = float(len(set(plant.given) - set(got)))
    twice = float(got.total() - len(got))
    late = plant.far_side.ids(replayed=True)
    disorder = float(late != sorted(late))
    given = float(len(plant.given))
    return [
        Result("outage_3_days_lost", lost, "events", given, "events given", "0", lost == 0),
        Result("outage_3_days_twice", twice, "events", given, "events given", "0", twice == 0),
        Result("outage_3_days_disorder", disorder, "lanes", 1.0, "lane", "0", disorder == 0),
        Result("outage_3_days_disk", size / 1e6, "MB", 256.0, "default max_bytes", "< max_bytes", size < 256e6),
        Result(
            "outage_bytes_per_event",
            written / kept,
            "bytes",
            size / kept,
            "bytes kept",
            "< 2 x kept",
            written < 2 * size,
        ),
        Result(
            "outage_drain", kept / drained_s, "events/s", 200.0, "default replay_rate", "> 200", kept / drained_s > 200
        ),
    ]


def killed(folder: Path) -> Iterator[Result]:
    """kill -9 at 200 random moments."""
    command = [sys.executable, str(TESTS / "killed.py"), str(folder), "200", "7"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    lost = float(found["lost"] + found["damaged"] + found["disorder"])
    yield Result("killed_200_times_lost", lost, "events", float(found["events"]), "events durable", "0", lost == 0)


class Far:
    """A sink that takes everything at once, and remembers when."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    async def open(self) -> None:
        pass

    async def deliver(self, events: Sequence[Event]) -> None:
        now = time.perf_counter()
        self.at.update((event.id, now) for event in events)

    async def close(self) -> None:
        pass


async def up(folder: Path) -> list[Result]:
    """A sink that is up: bytes that the process writes, and time from an event to its delivery."""
    folder.mkdir()
    sink, clock, metrics = Far(), SystemClock(), Metrics()
    options = SinkOptions.model_validate({"type": "far"})
    outbox = Outbox("desk", folder / "desk", options.buffer, clock)
    context = AdapterContext("desk", clock, random.Random(0), metrics, kind="sink")
    runner = SinkRunner("desk", lambda: sink, options, context, metrics, outbox)
    task = asyncio.create_task(runner.run())
    await asyncio.sleep(0.2)
    before, offered = _written(), {}
    for number in range(EVENTS):
        event = Event(f"E{number}", EventKind.INCIDENT, clock.wall_ns(), {"state": "open", "summary": "x" * 500})
        offered[event.id] = time.perf_counter()
        runner.offer(event)
        await asyncio.sleep(0.001)
    runner.finish()
    await task
    await runner.close()
    written = float(_written() - before)
    delays_ms = [1e3 * (sink.at[name] - at) for name, at in offered.items()]
    p99 = float(np.quantile(delays_ms, 0.99))
    p50 = float(np.median(delays_ms))
    per_event, down = written / EVENTS, _written_while_down(folder, options.buffer)
    return [
        Result("sink_up_disk_bytes", per_event, "bytes/event", down, "while it is down", "0", per_event == 0 < down),
        Result("sink_up_delivery_p99", p99, "ms", p50, "p50", "< 1", p99 < 1.0),
    ]


def _written_while_down(folder: Path, options: BufferOptions) -> float:
    """Bytes that the process writes for each event when nobody takes it: the counter counts."""
    outbox, before = Outbox("down", folder / "down", options, SystemClock()), _written()
    outbox.open()
    for number in range(EVENTS):
        outbox.offer(Event(f"E{number}", EventKind.INCIDENT, 0, {"state": "open", "summary": "x" * 500}))
    outbox.close()
    return (_written() - before) / EVENTS


def _written() -> int:
    """Bytes that this process has caused to be written to storage (Linux)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))
