"""Bundles for the tests here; the factory that makes them lives beside the tests of inference."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "inference"))

from bundle_factory import make_files


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """All files of a small universal bundle. Copy before changing."""
    return make_files()


@pytest.fixture(scope="session")
def site_files() -> dict[str, bytes]:
    """The same model as a site bundle of three sensors."""
    return make_files(sensors=("LIT101", "FIT101", "P101"))
