"""Small real bundles and ticks for the tests of the detectors."""

from collections.abc import Callable
from typing import Any

import pytest
from bundle_factory import make_files

from edge_agent.bundle import Bundle, verify_bundle
from edge_agent.inference import Detector, OnnxDetector, StatisticalDetector


@pytest.fixture(scope="session")
def tiny_bundle() -> Bundle:
    """A small universal bundle."""
    return verify_bundle(make_files())


@pytest.fixture(params=["onnx", "statistical"])
def new_detector(request: Any, tiny_bundle: Bundle) -> Callable[[], Detector]:
    """Makes fresh detectors of one kind; every test that asks for it runs for each kind."""
    if request.param == "onnx":
        return lambda: OnnxDetector(tiny_bundle)
    return lambda: StatisticalDetector(neighbours=3, warmup_ticks=20)
