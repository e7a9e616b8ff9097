from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from postgres_rig import Postgres, postgres_server


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """One server for all tests; each works in a schema of its own."""
    yield from postgres_server()


@pytest.fixture
async def reader(server: Postgres) -> AsyncIterator[Any]:
    """Somebody else's connection."""
    connection = await server.connect()
    yield connection
    await connection.close()
