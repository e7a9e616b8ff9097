"""A served plant, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from plant_process import PlantProcess


@pytest.fixture(scope="module")
def plant_process() -> Iterator[PlantProcess]:
    process = PlantProcess("--speed", "5")
    try:
        yield process
    finally:
        process.close()
