"""The model exchanged again and again in a daemon that makes 100 ticks a second: none lost, none late, nothing kept.

By turns the state is carried over (the same network) and warmed up again (another one). All of it is real but for the
readings, which come by function call: reading, checking, loading, warming up, slots on the disk, exchange.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from result import Result

from edge_agent.bundle import Bundle, universal_bundle, verify_bundle
from edge_agent.bundle.manifest import MANIFEST, MODEL
from edge_agent.bundle.store import seal
from edge_agent.config import parse_config
from edge_agent.contract import SourceOptions
from edge_agent.daemon import Daemon
from edge_agent.daemon.host import AgentHost
from edge_agent.daemon.memory import release_memory
from edge_agent.daemon.vitals import resident_bytes
from edge_agent.ota.state import InForce
from edge_agent.pipeline.engine import TickReport
from edge_agent.sample import Batch

SWAPS = int(os.environ.get("EDGE_AGENT_BENCH_SWAPS", "1000"))
SENSORS, PERIOD_S, SETTLE_TICKS = 51, 0.01, 600
CONFIG = """
agent: {{name: bench, data_dir: {folder}/data}}
api: {{enabled: false}}
tick: {{period: 10ms}}
decision: {{calibration_ticks: 200}}
"""


def run() -> Iterator[Result]:
    """One case: ticks lost, longest tick, growth of memory."""
    import uvloop

    sys.setswitchinterval(0.0005)  # as the command edge-agent does
    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        yield from runner.run(_swaps(Path(folder)))


async def _swaps(folder: Path) -> list[Result]:
    config = parse_config(CONFIG.format(folder=folder), folder / "agent.yaml", sources_required=False)
    daemon = Daemon(config)
    bundles = _variants()
    ticks: list[int] = []
    spent_ms: list[float] = []

    def note(report: TickReport) -> None:
        ticks.append(report.tick)
        spent_ms.append(sum(report.stages_ns) / 1e6)

    daemon.add_listener(note)
    await daemon.open()
    host = AgentHost(daemon, ())
    running = asyncio.create_task(daemon.run())
    feeding = asyncio.create_task(_feed(daemon))
    await _until(ticks, SETTLE_TICKS)
    await asyncio.to_thread(release_memory)
    await _until(ticks, 2 * SETTLE_TICKS)
    for bundle in bundles * 5:  # what the first exchanges allocate stays
        await host.put_in_force(InForce(model=bundle.sha256), bundle, None, "bench")
    before_rss = resident_bytes()
    began_s, swap_s = time.perf_counter(), []
    during_ms, usual_ms = [], []  # by turns, as the machine may have others to serve
    for k in range(SWAPS):
        bundle, first, started_s = bundles[k % len(bundles)], len(ticks), time.perf_counter()
        await host.put_in_force(InForce(model=bundle.sha256), bundle, None, "bench")
        swap_s.append(time.perf_counter() - started_s)
        last = len(ticks) + 1  # the first tick with the new model counts as well
        await _until(ticks, last + max(1, last - first))
        during_ms += spent_ms[first:last]
        usual_ms += spent_ms[last:]
    whole_s = time.perf_counter() - began_s
    grown_mb = (resident_bytes() - before_rss) / 1e6
    feeding.cancel()
    daemon.stop()
    await running
    lost = len(range(ticks[0], ticks[-1] + 1)) - len(set(ticks)) + int(daemon.metrics.ticks_missed.labels().value)
    twice = len(ticks) - len(set(ticks))
    print(
        f"{SWAPS} swaps in {whole_s:.0f} s, median {1e3 * np.median(swap_s):.0f} ms each; {len(during_ms)} ticks; "
        f"tick p99 {np.percentile(during_ms, 99):.2f} ms, control {np.percentile(usual_ms, 99):.2f} ms; "
        f"longest {sorted(during_ms)[-5:]}",
        file=sys.stderr,
    )
    longest_ms, control_ms = max(during_ms), max(usual_ms)
    growth, of = "model_swap_memory_growth", f"MB in {SWAPS} swaps"
    ticked = f"of {len(during_ms)} ticks in {SWAPS} swaps"
    return [
        Result("model_swap_longest_tick", longest_ms, "ms", control_ms, "without swaps", "< 10 ms", longest_ms < 10),
        Result("model_swap_ticks_lost", float(lost), ticked, 1.0, "one tick", "0", lost == 0),
        Result("model_swap_ticks_twice", float(twice), ticked, 1.0, "one tick", "0", twice == 0),
        Result(growth, grown_mb, of, before_rss / 1e6, "RSS before", "< 5 MB", grown_mb < 5),
    ]


async def _feed(daemon: Daemon) -> None:
    pipeline = daemon.pipeline
    assert pipeline is not None
    port = pipeline.port("bench", SourceOptions(type="bench"))
    names = tuple(f"s{i}" for i in range(SENSORS))
    rng, tick = np.random.default_rng(0), 0
    mix = rng.normal(size=(SENSORS, 4))
    while True:
        tick += 1
        causes = np.sin(tick / np.array([7.0, 19.0, 43.0, 101.0]))
        values = mix @ causes + 0.1 * rng.normal(size=SENSORS)
        pipeline.take(port, Batch(names, values, daemon.clock.monotonic_ns()))
        await asyncio.sleep(PERIOD_S)


async def _until(ticks: list[int], count: int) -> None:
    while len(ticks) < count:  # noqa: ASYNC110  # the listener appends plain numbers, and must not cost more
        await asyncio.sleep(0.05)


def _variants() -> list[Bundle]:
    """The universal model under other versions: with the same network, and with one that only says it is another."""
    bundle = universal_bundle()
    found = []
    for k, network in enumerate((0, 0, 1, 1)):
        files = {name: raw for name, raw in bundle.files.items() if name != MANIFEST}
        files[MODEL] += b"\x28" + bytes([network + 1])  # ModelProto.model_version (onnx.proto, field 5)
        manifest = dataclasses.replace(bundle.manifest, version=f"9.0.{k}")
        found.append(verify_bundle(seal(manifest, files)))
    return found
