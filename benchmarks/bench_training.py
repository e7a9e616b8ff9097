"""Training a site model on a week of one-second readings of the simulated plant: time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from result import Result

from edge_agent.demo.plant import Plant
from edge_agent.demo.recording import SETTLE_S
from edge_agent.demo.tags import NAMES

WEEK_S, WEEKS = 7 * 86_400, 4
ROWS_AT_ONCE = 50_000
START_NS = 1_760_000_000 * 10**9
MB = 1024.0

_TRAIN = """
import json, resource, sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
from edge_models.site import SiteOptions, train_site
torch.set_num_threads(1)  # as the command does unless told otherwise
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
idle, begun, cpu = peak(), time.perf_counter(), time.process_time()
train_site(Path(sys.argv[1]), None, Path(sys.argv[2]), SiteOptions())
spent = {"seconds": time.perf_counter() - begun, "cpu_s": time.process_time() - cpu}
print(json.dumps({**spent, "peak_kb": peak(), "idle_kb": idle}))
"""


def run() -> Iterator[Result]:
    """Time and peak memory for a week, and peak memory for several weeks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        week, month = folder / "week.parquet", folder / "month.parquet"
        _write_week(week)
        bare = _reading_s(week)
        once = _trained(week, folder / "week.bundle")
        yield Result(
            "train_week_51_sensors", once["seconds"], "s", bare, "reading the file once", "< 600 s",
            once["seconds"] < 600,
        )  # fmt: skip
        yield Result(
            "train_week_51_sensors_cpu", once["cpu_s"], "CPU s", bare, "reading the file once", "< 1200 s",
            once["cpu_s"] < 1200,
        )  # fmt: skip
        peak, idle = once["peak_kb"] / MB, once["idle_kb"] / MB
        yield Result("train_week_rss", peak, "MiB peak", idle, "PyTorch imported", "< 1000 MiB", peak < 1000)
        _repeat(week, month)
        longer = _trained(month, folder / "month.bundle")["peak_kb"] / MB
        yield Result(f"train_{WEEKS}_weeks_rss", longer, "MiB peak", peak, "one week", "<= 1.1 x", longer <= 1.1 * peak)


def _trained(data: Path, out: Path) -> dict[str, float]:
    """Train in a process of its own: the benchmark's memory is not counted."""
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, str(data), str(out)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _write_week(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    plant = Plant(np.random.default_rng(0))
    for _ in range(round(SETTLE_S)):
        plant.step()
    schema = pa.schema([("timestamp", pa.timestamp("ns", tz="UTC")), *((name, pa.float32()) for name in NAMES)])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, WEEK_S, ROWS_AT_ONCE):
            count = min(ROWS_AT_ONCE, WEEK_S - first)
            values = np.stack([plant.step() for _ in range(count)]).astype(np.float32)
            stamps = START_NS + (first + np.arange(count)) * 10**9
            writer.write_table(pa.Table.from_arrays([pa.array(stamps, schema[0].type), *values.T], schema=schema))


def _repeat(week: Path, path: Path) -> None:
    """The same week several times over, at later times: memory does not care that it repeats."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(week) as source, pq.ParquetWriter(path, source.schema_arrow) as writer:
        for turn in range(WEEKS):
            for batch in source.iter_batches(ROWS_AT_ONCE):
                later = batch.column(0).cast(pa.int64()).to_numpy() + turn * WEEK_S * 10**9
                writer.write_batch(batch.set_column(0, "timestamp", pa.array(later, source.schema_arrow[0].type)))


def _reading_s(path: Path) -> float:
    import pyarrow.parquet as pq

    begun = time.perf_counter()
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(4096):
            batch.num_rows  # noqa: B018
    return time.perf_counter() - begun
