"""What the publisher makes, the gateway takes: over a web server, and from a stick."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from static_server import serving

from edge_agent.bundle import read_bundle
from edge_agent.bundle.store import UNIVERSAL
from edge_agent.errors import OtaError
from edge_agent.ota.publisher.repository import Repository
from edge_agent.ota.ring import ModelTarget, parse_ring
from edge_agent.ota.trust.child import ChildTrust
from edge_agent.ota.trust.settings import Settings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def publisher(tmp_path: Path) -> Repository:
    repository = Repository.init(
        tmp_path / "fleet", lambda what, new: "a long passphrase", rings=("stable",), now=lambda: NOW
    )
    assert repository.publish(UNIVERSAL).published
    return repository


@pytest.fixture
def trust(tmp_path: Path, publisher: Repository) -> ChildTrust:
    root = tmp_path / "root.json"
    root.write_bytes((publisher.served / "metadata" / "1.root.json").read_bytes())
    return ChildTrust(Settings(tmp_path / "ota", root))


async def taken(trust: ChildTrust, origin: str, into: Path, now: datetime = NOW) -> ModelTarget:
    """The model that the ring names, brought to ``into``."""
    checked = await trust.check(origin, "stable", now.timestamp())
    assert checked.signed_s == NOW.timestamp()
    assert checked.expires_s > now.timestamp()
    model = parse_ring(checked.ring_file, "stable").model
    assert isinstance(model, ModelTarget)
    await trust.fetch(origin, model, now.timestamp(), into)
    return model


async def test_over_a_web_server(publisher: Repository, trust: ChildTrust, tmp_path: Path) -> None:
    with serving(publisher.served) as server:
        model = await taken(trust, server.origin, tmp_path / "model.tar")
    assert read_bundle(tmp_path / "model.tar").sha256 == model.bundle


async def test_from_a_stick(publisher: Repository, trust: ChildTrust, tmp_path: Path) -> None:
    publisher.sideload(tmp_path / "stick", "stable")
    model = await taken(trust, (tmp_path / "stick").as_uri(), tmp_path / "model.tar", NOW + timedelta(days=3))
    assert read_bundle(tmp_path / "model.tar").sha256 == model.bundle


async def test_after_its_keys_were_changed(publisher: Repository, trust: ChildTrust, tmp_path: Path) -> None:
    with serving(publisher.served) as server:
        await taken(trust, server.origin, tmp_path / "first.tar")
        publisher.rotate("timestamp", "online-1", "online-2")
        await taken(trust, server.origin, tmp_path / "second.tar")


async def test_another_fleet_s_publisher_is_refused(publisher: Repository, trust: ChildTrust, tmp_path: Path) -> None:
    other = Repository.init(
        tmp_path / "other", lambda what, new: "a long passphrase", rings=("stable",), now=lambda: NOW
    )
    other.publish(UNIVERSAL)
    with serving(other.served) as server, pytest.raises(OtaError) as caught:
        await trust.check(server.origin, "stable", NOW.timestamp())
    assert caught.value.reason == "signature"
