"""Detectors: ONNX bundles and the statistical fallback. The only part that knows ONNX Runtime."""

from __future__ import annotations

from edge_agent.bundle.verify import Bundle
from edge_agent.inference.detector import Detector, DetectorError
from edge_agent.inference.fallback import StatisticalDetector
from edge_agent.inference.onnx import OnnxDetector
from edge_agent.inference.selftest import SelfTestReport, self_test

__all__ = [
    "Detector",
    "DetectorError",
    "OnnxDetector",
    "SelfTestReport",
    "StatisticalDetector",
    "build_detector",
    "self_test",
]


def build_detector(bundle: Bundle | None) -> Detector:
    """The detector for ``bundle``, or the statistical one for None.

    :class:`~edge_agent.errors.BundleError` when the model cannot be loaded. Loading blocks: call it in a thread.
    """
    return StatisticalDetector() if bundle is None else OnnxDetector(bundle)
