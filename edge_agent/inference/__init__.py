"""Detectors: ONNX bundles and the statistical fallback. The only part that knows ONNX Runtime."""
