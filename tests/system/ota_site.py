"""A fleet of one for tests: publisher, web server, broker and plant around a daemon of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from bundle_factory import bundle_with, make_manifest, make_parts, rewire
from daemon_process import DaemonProcess, MosquittoProcess, free_port, until
from paho.mqtt.enums import CallbackAPIVersion

from edge_adapters.mqtt.fleet import MqttFleet
from edge_adapters.mqtt.options import MqttUplinkOptions
from edge_agent.bundle.store import place_files, seal
from edge_agent.contract import Hint
from edge_agent.ota.publisher import Change, Repository, publication
from edge_agent.ota.publisher.draft import Draft
from edge_agent.ota.publisher.journal import apply
from edge_agent.ota.publisher.metadata import read_published
from edge_agent.ota.publisher.signing import sign
from edge_agent.ota.ring import Activate, Activation, ModelTarget, Ring, Shadow, Trial, ring_path

FLEET, RING, OTHER_RING = "plant", "stable", "canary"
NOW = Activate(mode=Activation.NOW, spread_s=0.0)
STAGE = Activate(mode=Activation.STAGE)
NO_SHADOW = Shadow(seconds=0, ticks=0)
SHORT, LONG = Trial(seconds=1, ticks=20), Trial(seconds=3600, ticks=20)
PERIOD_S = 0.05
POISON = 5_000.0
"""Near this value poisoned models misbehave; no golden tick has it, and no self-test tries it."""
SENSORS = ("a", "b", "c", "d")
HEADER_BYTES = 51
"""Of the state file: magic, sha256, length."""


def good_model(folder: Path, version: str) -> Path:
    """A small bundle that does its work."""
    return _bundle(folder, version, None)


def large_model(folder: Path, version: str) -> Path:
    """A good one of 200 kB."""
    parts = {**make_parts(), "noise.bin": random.Random(0).randbytes(200_000)}
    path = folder / f"large-{version}"
    place_files(path, seal(make_manifest(version=version), parts))
    return path


def poisoned_model(folder: Path, version: str) -> Path:
    """One that passes every check before it is used, and gives NaN when a sensor comes near :data:`POISON`."""

    def score(builder: Any, before: str) -> str:
        gap = builder.op("Abs", builder.op("Sub", "value", builder.const(POISON)))
        nothing = builder.op("Sqrt", builder.op("Sub", gap, builder.const(10.0)))
        return str(builder.op("Add", before, builder.op("Mul", nothing, builder.const(0.0))))

    return _bundle(folder, version, rewire("score", score))


def _bundle(folder: Path, version: str, change: Any) -> Path:
    bundle = bundle_with(change or (lambda builder: None), version=version)
    path = folder / f"tiny-{version}"
    place_files(path, bundle.files)
    return path


class Plant:
    """Four sensors that move a little, ten times a second each, until closed. ``value``: what they are about."""

    def __init__(self, port: int) -> None:
        self.value = 20.0
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="plant")
        self._thread.start()

    def _run(self) -> None:
        count = 0
        while not self._over.wait(2 * PERIOD_S):
            count += 1
            for place, sensor in enumerate(SENSORS):
                value = self.value + ((count * 7 + place * 3) % 11) / 10
                self._client.publish(f"plant/{sensor}", json.dumps({"v": value, "t": time.time()}))

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()


class Site:
    """Publisher and its servers. Releases go to :data:`RING`."""

    def __init__(self, folder: Path, broker: MosquittoProcess) -> None:
        self.folder = folder
        self.broker = broker
        rings = (OTHER_RING, RING)
        self.repository = Repository.init(folder / "publisher", _passphrase, fleet=FLEET, rings=rings)
        self.root = folder / "root.json"
        shutil.copyfile(self.repository.root_file, self.root)
        self.port = free_port()
        self.server: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        command = [sys.executable, "-m", "edge_agent", "ota", "serve", str(self.repository.folder)]
        self.server = subprocess.Popen([*command, "--port", str(self.port)], stderr=subprocess.DEVNULL)
        until(self._serves, "the web server to listen")

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait()
            self.server = None

    def publish(self, bundle: Path, *, activate: Activate = NOW, trial: Trial = SHORT, **options: Any) -> Change:
        """Publish without shadow, and tell the gateways."""
        options = {"rings": (RING,), "shadow": NO_SHADOW, **options}
        return self.told(self.repository.publish(bundle, activate=activate, trial=trial, **options))

    def told(self, change: Change) -> Change:
        for ring, counter in change.counters.items():
            self.nudge(Hint(counter), ring)
        return change

    def nudge(self, hint: Hint, ring: str = RING) -> None:
        options = MqttUplinkOptions(type="mqtt", port=self.broker.port, session_expiry="0s")
        asyncio.run(MqttFleet(options).nudge(FLEET, ring, hint))

    def in_the_past(self, days: float) -> Repository:
        """The same repository, by a publisher whose clock is behind."""
        moment = datetime.now(UTC) - timedelta(days=days)
        return Repository.open(self.repository.folder, _passphrase, now=lambda: moment)

    def forge(self, edit: Callable[[Draft], None]) -> None:
        """Publish whatever ``edit`` says, rightly signed: what the library's own actions would never publish."""
        repository = self.repository
        draft = Draft(read_published(repository.folder), repository.time(), repository.settings.expiry)
        edit(draft)
        assert sign(draft, repository.keyring) == {}
        publication.seal(draft, repository.keyring, None)
        apply(repository.folder, [put for put in publication.puts(draft, b"") if not put.append])

    def forge_ring(self, raw: bytes) -> None:
        """Have the signers of rings sign ``raw`` as the file of :data:`RING`."""
        self.forge(lambda draft: draft.add_target(draft.ring_role(RING), ring_path(RING), raw))

    def forge_model(self, raw: bytes, release: str) -> bytes:
        """Have all signers sign that ``raw`` is a model to be used at once; the ring file."""
        digest = hashlib.sha256(raw).hexdigest()
        path = f"models/default/{release}.tar"
        target = ModelTarget(
            path=path, sha256=digest, bytes=len(raw), bundle=hashlib.sha256(digest.encode()).hexdigest()
        )
        found: list[bytes] = []

        def edit(draft: Draft) -> None:
            draft.add_target("models-default", path, raw)
            counter = draft.next_counter()
            ring = Ring(
                ring=RING, release=release, counter=counter, issued=draft.now, model=target, activate=NOW,
                shadow=NO_SHADOW, trial=SHORT,
            )  # fmt: skip
            draft.put_ring(ring)
            found.append(ring.to_json())

        self.forge(edit)
        return found[0]

    def config(self, more: str = "", ota: str = "") -> str:
        """Of a gateway that is told by MQTT."""
        return f"""
tick: {{period: {PERIOD_S * 1000:g}ms}}
sources:
  plant:
    type: mqtt
    port: {self.broker.port}
    subscriptions: [{{topic: "plant/{{sensor}}", payload: {{value: $.v, time: $.t}}}}]
ota:
  repository: http://127.0.0.1:{self.port}
  root: {self.root}
  fleet: {FLEET}
  ring: {RING}
  check_not_within: 1s
  {ota}
uplinks: {{broker: {{type: mqtt, port: {self.broker.port}, retry_max: 500ms}}}}
{more}"""

    def _serves(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metadata/timestamp.json", timeout=2).close()
            return True
        return False


class Gateway:
    """A daemon, as far as updates are concerned."""

    def __init__(self, agent: DaemonProcess) -> None:
        self.agent = agent

    def start(self) -> Gateway:
        self.agent.start()
        return self

    def ota(self) -> dict[str, Any]:
        found = self.agent.get("/api/v1/ota")
        assert isinstance(found, dict), found
        return found

    def model(self) -> str:
        """Name and version of what runs."""
        status = self.agent.status()
        assert status is not None
        return f"{status['model']['name']} {status['model']['version']}"

    def ticks(self) -> int:
        status = self.agent.status()
        assert status is not None
        return int(status["tick"]["count"])

    def until_phase(self, *phases: str) -> dict[str, Any]:
        return dict(until(lambda: (found := self.ota())["phase"] in phases and found, f"phase {' or '.join(phases)}"))

    def until_on_trial(self, model: str) -> None:
        """The phase is written before its effect."""
        until(lambda: self.ota()["phase"] == "trial" and self.model() == model, f"{model} on trial")

    def until_outcome(self, change: Change, result: str, ring: str = RING) -> dict[str, Any]:
        """Wait until the release of that change has ended here; what its end was."""

        def ended() -> dict[str, Any] | None:
            found = self.ota()
            outcome = found["outcome"]
            over = outcome is not None and outcome["counter"] == change.counters[ring] and found["phase"] == "idle"
            return outcome if over else None

        try:
            outcome: dict[str, Any] = until(ended, f"the end of counter {change.counters[ring]}")
        except AssertionError as error:
            raise AssertionError(f"{error}; updates: {self.ota()}; log: {self.agent.log()[-3000:]}") from None
        assert outcome["result"] == result, (outcome, self.agent.log()[-3000:])
        return outcome

    def until_ticking(self, more: int = 20) -> None:
        """The model scores: some ticks on."""
        first = self.ticks()
        until(lambda: self.ticks() >= first + more, "ticks")

    def state(self) -> dict[str, Any]:
        """The state file, as the disk has it; empty while it is not there."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            raw = (self.agent.folder / "data" / "ota" / "state").read_bytes()
            found = json.loads(raw[HEADER_BYTES:])
            assert isinstance(found, dict)
            return found
        return {}

    def post(self, path: str, token: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the API answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.agent.api}{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.code}: {error.read().decode()}") from error
        assert isinstance(found, dict)
        return found

    def audit(self) -> list[dict[str, Any]]:
        path = self.agent.folder / "data" / "ota" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@contextlib.contextmanager
def plant_of(broker: MosquittoProcess) -> Iterator[Plant]:
    plant = Plant(broker.port)
    try:
        yield plant
    finally:
        plant.close()


def _passphrase(what: str, new: bool) -> str:
    return "only for tests"
