"""A publisher, a web server and a broker on loopback, for benchmarks of updates."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

from bench_ingest import free_port, wait_for

from edge_adapters.mqtt.fleet import MqttFleet
from edge_adapters.mqtt.options import MqttUplinkOptions
from edge_agent.bundle import universal_bundle, write_bundle
from edge_agent.bundle.manifest import MANIFEST
from edge_agent.bundle.store import place_files
from edge_agent.contract import Hint
from edge_agent.ota.publisher import Change, Repository, Wanted
from edge_agent.ota.ring import Activate, Shadow, Trial

FLEET, RING = "bench", "stable"
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 15000; }}
http {{
  access_log off; sendfile on; keepalive_requests 1000;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {root}; }}
}}
"""


@dataclasses.dataclass(frozen=True)
class Site:
    """What gateways and publisher need to know; ``server`` names the web server."""

    folder: Path
    repository: Repository
    origin: str
    broker: int
    server: str
    processes: tuple[subprocess.Popen[bytes], ...]

    def cpu_s(self) -> tuple[float, float]:
        """Processor time of the web server and of the broker so far."""
        web, broker = (_cpu_s(process.pid) for process in self.processes)
        return web, broker

    def publish(self, bundle: Path, activate: Activate) -> Change:
        """Give ``bundle`` to the ring; its trial takes longer than the benchmark."""
        wanted = Wanted(
            rings=(RING,), activate=activate, shadow=Shadow(seconds=0, ticks=0), trial=Trial(seconds=3600, ticks=0)
        )
        return self.repository.publish(bundle, wanted)

    def nudge(self, change: Change, spread_s: float) -> None:
        """Tell all gateways by a retained message, as the command line of the publisher does."""
        self.tell(Hint(change.counters[RING], spread_s))

    def tell(self, hint: Hint) -> None:
        """Tell all gateways that."""
        fleet = MqttFleet(MqttUplinkOptions(type="mqtt", port=self.broker, session_expiry="0s"))
        asyncio.run(fleet.nudge(FLEET, RING, hint))


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Everything but the gateways, until the end of the block."""
    repository = Repository.init(folder / "publisher", lambda what, new: "benchmark", fleet=FLEET, rings=(RING,))
    broker, web = free_port(), free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {broker} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\npersistence false\n"
        "max_queued_messages 0\nmax_inflight_messages 0\nmax_connections -1\nuser root\n"
    )
    server, command = _web_server(folder, repository.served, web)
    with contextlib.ExitStack() as ended:
        processes = tuple(_start(command, ended) for command in (command, ["mosquitto", "-c", str(config)]))
        wait_for(lambda: urlopen(f"http://127.0.0.1:{web}/metadata/timestamp.json", timeout=2).close())
        yield Site(folder, repository, f"http://127.0.0.1:{web}", broker, server, processes)


def padded_bundle(folder: Path, version: str, tar_bytes: int) -> Path:
    """The universal model under another name, with a file of noise so that its tar has about ``tar_bytes``."""
    universal = universal_bundle()
    files = {name: raw for name, raw in universal.files.items() if name != MANIFEST}
    missing = tar_bytes - sum(map(len, universal.files.values())) - 16_000  # headers and rounding of a tar
    if missing > 0:
        files["padding.bin"] = os.urandom(missing)
    manifest = dataclasses.replace(universal.manifest, name="fleet", version=version, files=())
    path = folder / f"fleet-{version}"
    write_bundle(path, manifest, files)
    return path


def small_bundle(folder: Path) -> Path:
    """A model of the tests: read in a millisecond. That of a real one takes ten, which each gateway has for itself."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "inference"))
    from bundle_factory import make_files

    path = folder / "small"
    place_files(path, make_files())
    return path


def _web_server(folder: Path, root: Path, port: int) -> tuple[str, list[str]]:
    if shutil.which("nginx") is None:
        command = [sys.executable, "-m", "edge_agent", "ota", "serve", str(root), "--port", str(port)]
        return "edge-agent ota serve", command
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, root=root, port=port))
    return "nginx, one worker", ["nginx", "-c", str(config), "-p", str(folder)]


def _start(command: list[str], ended: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended.callback(process.wait)
    ended.callback(process.terminate)
    return process


def _cpu_s(pid: int) -> float:
    """From the scheduler, which counts what ``utime`` misses."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
