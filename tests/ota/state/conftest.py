"""Models and a gateway for the tests here; the factory of bundles lives beside the tests of inference."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "inference"))

from bundle_factory import make_files
from updater_rig import Package, Rig


@pytest.fixture(scope="session")
def packages() -> dict[str, Package]:
    """Three models, A to C."""
    return {name: Package(name, make_files(name=name)) for name in "ABC"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A new gateway that was never updated."""
    return Rig(tmp_path)
