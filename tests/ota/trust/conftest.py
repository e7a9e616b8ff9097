from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway import Gateway
from static_server import StaticServer, serving
from tuf_repository import Repository

OLD, NEW = b"the old model " * 5_000, b"the new model " * 5_000


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def server(repository: Repository) -> Iterator[StaticServer]:
    with serving(repository.folder) as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, repository: Repository, server: StaticServer) -> Gateway:
    """It has the first release."""
    repository.release(OLD)
    gateway = Gateway(tmp_path / "gateway", server.origin, repository.first_root)
    gateway.update()
    assert gateway.model.read_bytes() == OLD
    return gateway
