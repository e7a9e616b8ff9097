"""Model bundles: manifest, verification, reading and writing, and the slots they are kept in."""

from edge_agent.bundle.arrays import write_npz
from edge_agent.bundle.manifest import (
    BundleKind,
    FileDigest,
    Limits,
    Manifest,
    Provenance,
    SensorSpec,
    StateSpec,
    TrainedEdge,
    parse_manifest,
)
from edge_agent.bundle.onnx_gate import ALLOWED_OPERATORS, inspect_model
from edge_agent.bundle.slots import ModelSlots
from edge_agent.bundle.store import read_bundle, universal_bundle, write_bundle
from edge_agent.bundle.verify import Bundle, Calibration, Golden, verify_bundle

__all__ = [
    "ALLOWED_OPERATORS",
    "Bundle",
    "BundleKind",
    "Calibration",
    "FileDigest",
    "Golden",
    "Limits",
    "Manifest",
    "ModelSlots",
    "Provenance",
    "SensorSpec",
    "StateSpec",
    "TrainedEdge",
    "inspect_model",
    "parse_manifest",
    "read_bundle",
    "universal_bundle",
    "verify_bundle",
    "write_bundle",
    "write_npz",
]
