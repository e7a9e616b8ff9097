"""Bundles, a publisher and a client for the tests here; the factory of bundles lives beside those of inference,
the broker beside those of the whole system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "inference"))
sys.path.append(str(Path(__file__).parents[2] / "system"))

from bundle_factory import make_files
from publisher_rig import Client, Clock, make, place

from edge_agent.ota.publisher import Repository


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Versions 1.0.0, 1.1.0 and 1.2.0 of one model."""
    folder = tmp_path_factory.mktemp("bundles")
    return {version: place(folder / version, make_files(version=version)) for version in ("1.0.0", "1.1.0", "1.2.0")}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(tmp_path: Path, clock: Clock) -> Repository:
    return make(tmp_path / "fleet", clock)


@pytest.fixture
def client(tmp_path: Path, repository: Repository) -> Client:
    return Client(tmp_path / "client", repository.served)
