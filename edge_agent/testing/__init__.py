"""Conformance checks for adapters and detectors, usable by third parties."""
