"""A fleet takes an update: real broker, real web server, the agent's own code in every simulated gateway.

What is simulated is said in :mod:`fleet_gateways`. The folders of all gateways are in memory where that is possible:
each real one has a disk of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fleet_gateways import NOT_RETAINED_YET, Order
from fleet_site import FLEET, RING, Site, padded_bundle, site, small_bundle
from result import Result

from edge_agent.contract import Hint
from edge_agent.ota.ring import Activate, Activation

MB = 1_000_000
GOAL_S = 60.0
SPREAD_S, WIDE_SPREAD_S = 5.0, 20.0
BETWEEN_LOOKS_S = 10.0  # default of ota.check_not_within
SHARED_MEMORY = Path("/dev/shm")


def run() -> Iterator[Result]:
    """1,000 gateways fetch a model and switch to it; 10,000 that hold one switch to it."""
    if shutil.which("mosquitto") is None:
        print("fleet skipped: mosquitto is not installed", file=sys.stderr)
        return
    yield from _download(1_000)
    yield from _activation(10_000)


@dataclass(frozen=True)
class Measured:
    """Seconds after the publisher began, one row for each gateway: told, verified, switched. Processor time in s."""

    after_s: np.ndarray
    gateways_cpu_s: float
    server_cpu_s: float
    broker_cpu_s: float
    sent_bytes: int

    def at(self, column: int, percent: float) -> float:
        """That percentile of one column."""
        return float(np.percentile(self.after_s[:, column], percent))


def _download(count: int) -> Iterator[Result]:
    with _folder() as folder, site(folder) as here:
        bundle = padded_bundle(folder, "1", MB)
        now = Activate(mode=Activation.NOW, spread_s=0.0)

        def publish() -> None:
            here.nudge(here.publish(bundle, now), SPREAD_S)

        found = _measure(here, _names(count), folder / "gateways", publish, plain=None)
        (tar,) = (here.repository.served / "targets" / "models").rglob("*.tar")
        url = f"{here.origin}/{tar.relative_to(here.repository.served)}"
        control = _measure(
            here, _names(count), folder / "plain", lambda: here.tell(Hint(NOT_RETAINED_YET, SPREAD_S)), plain=url
        )
        yield from _results(f"fleet_{count}", found, control, f"plain GET of the model by as many, {here.server}")


def _activation(count: int) -> Iterator[Result]:
    with _folder() as folder, site(folder) as here:
        bundle = small_bundle(folder)
        staged = here.publish(bundle, Activate(mode=Activation.STAGE))
        first = _measure(
            here, ["template"], folder / "gateways", lambda: here.nudge(staged, 0.0), plain=None, until="staged"
        )
        assert first.after_s.shape == (1, 3)
        _multiply(folder / "gateways" / "template", _names(count))

        def activate() -> None:
            now = Activate(mode=Activation.NOW, spread_s=0.0)
            here.nudge(here.repository.activate(RING, now), WIDE_SPREAD_S)

        found = _measure(here, _names(count), folder / "gateways", activate, plain=None)
        same = here.repository.served / "targets" / "control.bin"
        same.write_bytes(bytes(_metadata_bytes(here)))
        control = _measure(
            here,
            _names(count),
            folder / "plain",
            lambda: here.tell(Hint(NOT_RETAINED_YET, WIDE_SPREAD_S)),
            plain=f"{here.origin}/targets/control.bin",
        )
        told = f"plain GET of as many bytes of metadata by as many, {here.server}"
        yield from _results(f"fleet_{count}_staged", found, control, told)


def _results(case: str, found: Measured, control: Measured, control_is: str) -> Iterator[Result]:
    count = len(found.after_s)

    def result(name: str, unit: str, value: float, other: float, goal: float) -> Result:
        return Result(f"{case}_{name}", value, unit, other, control_is, f"< {goal:g} {unit}", value < goal)

    for name, percent in (("p50", 50.0), ("p95", 95.0), ("last", 100.0)):
        yield result(f"switched_{name}", "s", found.at(2, percent), control.at(2, percent), GOAL_S)
    yield result("nudged_last", "s", found.at(0, 100.0), control.at(0, 100.0), 5.0)
    if np.isfinite(found.at(1, 100.0)):
        yield result("verified_last", "s", found.at(1, 100.0), control.at(1, 100.0), GOAL_S)
    each_ms, control_ms = 1e3 * found.gateways_cpu_s / count, 1e3 * control.gateways_cpu_s / count
    yield result("cpu_of_a_gateway", "ms", each_ms, control_ms, 100.0)
    yield result("cpu_of_the_server", "s", found.server_cpu_s, control.server_cpu_s, 20.0)
    yield result("cpu_of_the_broker", "s", found.broker_cpu_s, control.broker_cpu_s, 10.0)
    sent_mb, plain_mb = found.sent_bytes / MB / count, control.sent_bytes / MB / count
    yield result("sent_to_a_gateway", "MB", sent_mb, plain_mb, 1.5)


def _measure(
    here: Site, names: Sequence[str], folder: Path, act: Any, *, plain: str | None, until: str = "trial"
) -> Measured:
    """Start the gateways, have all look once, let the publisher ``act``, wait until the last has switched."""
    order = Order(
        gateways=(), folder=str(folder), origin=here.origin, root=str(here.repository.root_file), broker=here.broker,
        fleet=FLEET, ring=RING, plain=plain, until=until,
    )  # fmt: skip
    workers = min(len(names), os.cpu_count() or 1)
    with ExitStack() as ended:
        running = [_worker(replace(order, gateways=names[part::workers]), ended) for part in range(workers)]
        _hear(running, "subscribed")
        if plain is None:
            here.tell(Hint(None, max(1.0, len(names) / 250)))
            _hear(running, "looked")
            time.sleep(BETWEEN_LOOKS_S)
        before, sent, began_s = here.cpu_s(), _sent_bytes(), time.monotonic()
        act()
        found = [json.loads(_line(process)) for process in running]
        web_s, broker_s = (now - then for now, then in zip(here.cpu_s(), before, strict=True))
        sent = _sent_bytes() - sent
    moments = np.array([row for one in found for row in one["moments"]], dtype=float) - began_s
    return Measured(moments, sum(one["cpu_s"] for one in found), web_s, broker_s, sent)


def _worker(order: Order, ended: ExitStack) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("fleet_gateways.py"))]
    environ = {**os.environ, "MALLOC_ARENA_MAX": "2"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ)
    ended.callback(process.wait)
    ended.callback(process.kill)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(order)) + "\n")
    process.stdin.close()
    return process


def _hear(running: Sequence[subprocess.Popen[str]], word: str) -> None:
    for process in running:
        line = _line(process)
        if line != word:
            raise RuntimeError(f"got {line!r} from simulated gateways, expected {word!r}")


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _multiply(template: Path, names: Sequence[str]) -> None:
    """Copies of a gateway that holds a release: small files are copied, the model itself is linked."""

    def link_or_copy(source: str, target: str) -> None:
        if os.path.getsize(source) > 100_000:
            os.link(source, target)
        else:
            shutil.copyfile(source, target)

    for name in names:
        shutil.copytree(template, template.with_name(name), copy_function=link_or_copy)


def _names(count: int) -> list[str]:
    return [f"gateway-{number:05}" for number in range(count)]


def _metadata_bytes(here: Site) -> int:
    """What a gateway that knows the rest gets after an activation: timestamp, snapshot, rings and the ring file."""
    metadata, rings = here.repository.served / "metadata", here.repository.served / "targets" / "rings"
    newest = [
        max(metadata.glob(f"*.{role}.json"), key=lambda file: file.stat().st_mtime_ns) for role in ("snapshot", "rings")
    ]
    ring = max(rings.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return sum(file.stat().st_size for file in (metadata / "timestamp.json", *newest, ring))


def _folder() -> tempfile.TemporaryDirectory[str]:
    in_memory = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    return _Temporary(dir=in_memory, prefix="edge-agent-fleet-")


class _Temporary(tempfile.TemporaryDirectory[str]):
    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def _sent_bytes() -> int:
    """Bytes that went over loopback so far, of all protocols."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    return 0
