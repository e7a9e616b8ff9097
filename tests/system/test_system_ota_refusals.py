"""What must not get in: each is refused with one reason in log, metric and status, and what runs goes on."""

from __future__ import annotations

import http.client
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from bundle_factory import make_files
from daemon_process import until
from ota_site import FLEET, RING, Gateway, Plant, Site, good_model
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.contract import Hint

pytestmark = [pytest.mark.counterpart, pytest.mark.timeout(180)]

NUDGES = 5_000


def archive(*surplus: tarfile.TarInfo) -> bytes:
    """A good bundle and then something else."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, raw in make_files().items():
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
        for member in surplus:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return file.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, size
    return member


ARCHIVES = {
    "upwards": (archive(entry("../../etc/cron.d/x")), "expected a file in the top folder"),
    "symlink": (archive(entry("link", tarfile.SYMTYPE, "/etc/passwd")), "expected ordinary files only"),
    "bomb": (archive(entry("card2.md", size=3 << 20)), "got more than 1048576 bytes"),
    "noise": (b"\x93" * 30_000, "expected"),
}
RINGS = {
    "no JSON": (lambda ring: b"{" * 1_000, "rings/stable.json: the whole"),
    "another ring": (
        lambda ring: json.dumps({**ring, "ring": "canary"}).encode(),
        "ring: got 'canary', expected 'stable'",
    ),
    "of the future": (lambda ring: json.dumps({**ring, "schema": 2}).encode(), "a newer agent is needed"),
    "a path upwards": (
        lambda ring: json.dumps({**ring, "model": {**ring["model"], "path": "models/../../x"}}).encode(),
        "rings/stable.json: model",
    ),
}


class Refusals:
    """One daemon; each thing that is refused is seen in log, metric and status."""

    def __init__(self, site: Site, gateway: Gateway) -> None:
        self.site = site
        self.gateway = gateway
        self._seen = 0
        self._model = gateway.model()

    def look(self) -> None:
        self.site.nudge(Hint())

    def expect(self, reason: str, words: str) -> None:
        """Have it look; it refuses for that reason."""
        agent = self.gateway.agent
        before = agent.metric("edge_agent_ota_refusals_total", reason=reason)
        self.look()
        until(lambda: agent.metric("edge_agent_ota_refusals_total", reason=reason) == before + 1, f"{reason}: {words}")
        until(lambda: self._says(words), f"the status to say {words!r}")  # counted first, then written, then told
        until(lambda: self._logged(words), f"the log to say {words!r}")
        log = agent.log()[self._seen :]
        self._seen += len(log)
        assert "Traceback" not in log
        assert self.gateway.model() == self._model

    def _says(self, words: str) -> bool:
        found = self.gateway.ota()
        outcome = found["outcome"] or {"message": ""}
        return found["phase"] == "idle" and words in (found["problem"] or "") + outcome["message"]

    def _logged(self, words: str) -> bool:
        lines = self.gateway.agent.log()[self._seen :].splitlines()
        return any(words in line and ("WARNING" in line or "ERROR" in line) for line in lines)

    def fine(self) -> None:
        """Have it look; nothing is wrong any more."""
        checks = self.gateway.agent.metric("edge_agent_ota_checks_total", outcome="nothing")
        self.look()
        until(
            lambda: self.gateway.agent.metric("edge_agent_ota_checks_total", outcome="nothing") == checks + 1, "a look"
        )
        assert self.gateway.ota()["problem"] is None


@pytest.fixture
def refusals(site: Site, gateway: Gateway, plant: Plant, tmp_path: Path) -> Iterator[Refusals]:
    """A gateway that runs a release; in the end it takes the next one, as if nothing had been."""
    gateway.start().until_ticking()
    gateway.until_outcome(site.publish(good_model(tmp_path, "1.0.0")), "committed")
    yield Refusals(site, gateway)
    gateway.until_ticking()
    gateway.until_outcome(site.publish(good_model(tmp_path, "9.0.0")), "committed")
    assert gateway.model() == "tiny 9.0.0"
    assert gateway.agent.stop() == 0


@contextmanager
def instead(path: Path, content: bytes) -> Iterator[None]:
    """Have the web server give something else."""
    before = path.read_bytes()
    path.write_bytes(content)
    yield
    path.write_bytes(before)


@pytest.mark.slow
def test_hostile_archives_and_ring_files_are_refused_though_they_are_signed(refusals: Refusals, site: Site) -> None:
    good = next((site.repository.served / "targets" / "rings").glob("*.stable.json")).read_bytes()
    for name, (raw, words) in ARCHIVES.items():
        good = site.forge_model(raw, name)
        refusals.expect("gate", words)
    for change, words in RINGS.values():
        site.forge_ring(change(json.loads(good)))
        refusals.expect("ring_file", words)
    site.forge_ring(good)
    refusals.fine()


@pytest.mark.slow
def test_metadata_that_are_not_what_was_signed_are_refused(refusals: Refusals, site: Site, tmp_path: Path) -> None:
    timestamp = site.repository.served / "metadata" / "timestamp.json"
    signed = timestamp.read_bytes()
    newer = json.loads(signed)
    newer["signed"]["version"] += 7
    with instead(timestamp, json.dumps(newer).encode()):
        refusals.expect("signature", "it is not signed by enough of the keys")
    with instead(timestamp, b"{" * 100_000):
        refusals.expect("too_large", "no more of it was read")
    with instead(timestamp, b"not JSON at all"):
        refusals.expect("signature", "it is no metadata that could be trusted")
    site.repository.refresh()
    refusals.fine()
    with instead(timestamp, signed):
        refusals.expect("rollback", "something older than was seen here")

    site.repository.publish(good_model(tmp_path, "2.0.0"), rings=(RING,))
    (tar,) = (site.repository.served / "targets" / "models").rglob("*tiny-2.0.0.tar")
    with instead(tar, bytes(tar.stat().st_size)):
        refusals.expect("mismatch", "cannot be fetched")


@pytest.mark.slow
def test_expired_metadata_stop_installs_and_nothing_else(
    refusals: Refusals, site: Site, gateway: Gateway, plant: Plant
) -> None:
    site.in_the_past(3).refresh()
    refusals.expect("expired", "nothing is installed until the repository signs new metadata")
    gateway.until_ticking()
    assert gateway.agent.get("/readyz")["ok"] is True
    site.repository.refresh()
    refusals.fine()


@pytest.mark.slow
def test_releases_for_others_are_not_taken(refusals: Refusals, site: Site, gateway: Gateway, tmp_path: Path) -> None:
    publish: Callable[..., object] = site.repository.publish
    publish(good_model(tmp_path, "2.0.0"), rings=(RING,), hardware=("toaster",))
    refusals.expect("hardware", "for toaster; this gateway is")
    publish(good_model(tmp_path, "3.0.0"), rings=(RING,), min_agent="99.1")
    refusals.expect("agent_too_old", "needs agent 99.1")


def test_a_ring_without_a_release_is_told_in_words(site: Site, gateway: Gateway) -> None:
    gateway.start()
    site.nudge(Hint())
    found = until(lambda: (now := gateway.ota())["problem"] and now, "the problem to be told")
    assert found["problem"] == "ring 'stable': nothing was published for it yet, or `ota.ring` is misspelt"
    until(lambda: found["problem"] in gateway.agent.log(), "it to be logged too")
    assert gateway.agent.metric("edge_agent_ota_refusals_total", reason="missing") == 1
    assert gateway.agent.stop() == 0


def test_a_flood_of_nudges_costs_a_few_looks(site: Site, gateway: Gateway, plant: Plant) -> None:
    gateway.start().until_ticking()
    agent, began, ticks = gateway.agent, time.monotonic(), gateway.ticks()
    flood = paho.Client(CallbackAPIVersion.VERSION2)
    flood.connect("127.0.0.1", site.broker.port)
    flood.loop_start()
    topic = f"edge-agent/v1/{FLEET}/{RING}/nudge"
    for number in range(NUDGES):
        sent = flood.publish(topic, b'{"counter": %d}' % number if number % 2 else b"\x00forged{", qos=1)
    sent.wait_for_publish(20)
    flood.disconnect()
    flood.loop_stop()
    until(lambda: agent.metric("edge_agent_uplink_hints_total", uplink="broker") >= NUDGES / 2, "the flood to be taken")
    until(lambda: agent.metric("edge_agent_uplink_rejected_total", reason="malformed") >= NUDGES / 2, "the forged ones")
    assert [_check(agent.api, token) for token in ("", "x" * 32) for _ in range(20)] == [401] * 40
    lasted_s = time.monotonic() - began
    checks = sum(
        float(line.rsplit(" ", 1)[1])
        for line in str(agent.get("/metrics")).splitlines()
        if line.startswith("edge_agent_ota_checks_total")
    )
    assert checks <= lasted_s + 2, "one a second at most, as `check_not_within` says"
    gateway.until_ticking()
    assert agent.metric("edge_agent_ticks_missed_total") <= 5, "on a machine that others use too"
    assert gateway.ticks() - ticks >= 0.5 * lasted_s / 0.05
    assert agent.log().count("rejected: nudge") <= 2
    assert agent.stop() == 0


def _check(port: int, token: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/api/v1/ota/check", b"{}", {"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()
