"""Whether the files of a bundle are what its manifest promises. Pure: bytes in, :class:`Bundle` or error out.

Order: manifest, files (all there, none else, length, sha256), arrays, then the model's graph against contract and
manifest. Who made the bundle is not asked here: a signature is checked before, over the bytes of ``manifest.json``,
which hold the sha256 of everything else. What the model computes is tried afterwards, by the self-test of
:mod:`edge_agent.inference`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.arrays import read_npz
from edge_agent.bundle.manifest import CALIBRATION, GOLDEN, MANIFEST, MIB, MODEL, BundleKind, Manifest, parse_manifest
from edge_agent.bundle.onnx_gate import FLOAT32, INT32, INT64, ModelFacts, Port, inspect_model
from edge_agent.errors import BundleError

MAX_UNPACKED_BYTES = 64 * MIB
MIN_GOLDEN_TICKS = 64
MAX_GOLDEN_TICKS = 4_096
MAX_CALIBRATION_TICKS = 4_096

Arrays = Mapping[str, NDArray[Any]]
INPUTS = ("value", "age", "quality", "neighbour", "context")
OUTPUTS = ("expected", "scale", "score", "attention")
_DTYPES = {FLOAT32: np.float32, INT32: np.int32, INT64: np.int64}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores [T, S] on held-out normal ticks in time order; S is 0 for a universal model."""

    sensor_names: tuple[str, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Golden:
    """Recorded ticks: every array has the ticks as its first axis and the sensors as its second."""

    inputs: Arrays
    outputs: Arrays

    @property
    def ticks(self) -> int:
        return len(self.inputs["value"])

    @property
    def sensors(self) -> int:
        return int(self.inputs["value"].shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A bundle that keeps its own promises. ``files`` holds the bytes of all files, the manifest's included."""

    manifest: Manifest
    files: Mapping[str, bytes]
    calibration: Calibration
    golden: Golden

    @property
    def model(self) -> bytes:
        """The bytes of ``model.onnx``."""
        return self.files[MODEL]

    @property
    def sha256(self) -> str:
        """Identity of the bundle: sha256 of ``manifest.json``, which covers every other file."""
        return hashlib.sha256(self.files[MANIFEST]).hexdigest()


def verify_bundle(files: Mapping[str, bytes]) -> Bundle:
    """Check everything that can be checked without running the model.

    :class:`~edge_agent.errors.BundleError` names the file, what was found and what was expected.
    """
    if MANIFEST not in files:
        raise BundleError(f"{MANIFEST}: missing, expected in every bundle")
    manifest = parse_manifest(files[MANIFEST])
    _check_files(manifest, files)
    calibration = _calibration(manifest, read_npz(CALIBRATION, files[CALIBRATION], MAX_UNPACKED_BYTES))
    golden = _golden(manifest, read_npz(GOLDEN, files[GOLDEN], MAX_UNPACKED_BYTES))
    _check_model(manifest, inspect_model(files[MODEL]))
    return Bundle(manifest, dict(files), calibration, golden)


def _check_files(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    listed = {file.name for file in manifest.files}
    unlisted = sorted(files.keys() - listed - {MANIFEST})
    if unlisted:
        raise BundleError(f"{unlisted[0]!r}: not listed in {MANIFEST}; remove it or write the bundle again")
    for file in manifest.files:
        raw = files.get(file.name)
        if raw is None:
            raise BundleError(f"{file.name}: missing, expected {file.bytes} bytes as {MANIFEST} says")
        if len(raw) != file.bytes:
            raise BundleError(f"{file.name}: got {len(raw)} bytes, expected {file.bytes} as {MANIFEST} says")
        found = hashlib.sha256(raw).hexdigest()
        if found != file.sha256:
            raise BundleError(f"{file.name}: got sha256 {found}, expected {file.sha256} as {MANIFEST} says")


def _calibration(manifest: Manifest, arrays: Arrays) -> Calibration:
    _check_names(CALIBRATION, arrays, ("sensor_names", "scores"))
    names, scores = arrays["sensor_names"], arrays["scores"]
    if names.ndim != 1 or (names.dtype.kind != "U" and names.size):
        raise BundleError(f"{CALIBRATION}: sensor_names: got {_form(names)}, expected text of shape [S]")
    if scores.dtype != np.float32 or scores.ndim != 2 or scores.shape[1] != len(names):
        raise BundleError(f"{CALIBRATION}: scores: got {_form(scores)}, expected float32 of shape [T, {len(names)}]")
    if len(scores) > MAX_CALIBRATION_TICKS:
        raise BundleError(f"{CALIBRATION}: scores: got {len(scores)} ticks, expected at most {MAX_CALIBRATION_TICKS}")
    if not np.isfinite(scores).all() or (scores < 0).any():
        raise BundleError(f"{CALIBRATION}: scores: got negative or non-finite ones, expected finite ones from 0")
    sensor_names = tuple(str(name) for name in names)
    _check_calibrated(manifest, sensor_names)
    return Calibration(sensor_names, scores)


def _check_calibrated(manifest: Manifest, sensor_names: tuple[str, ...]) -> None:
    if manifest.kind is BundleKind.UNIVERSAL and sensor_names:
        raise BundleError(f"{CALIBRATION}: sensor_names: got {len(sensor_names)}, expected none for a universal model")
    known = {sensor.name for sensor in manifest.sensors}
    strange = next((name for name in sensor_names if name not in known), None)
    if strange is not None or len(set(sensor_names)) != len(sensor_names):
        found = repr(strange) if strange is not None else "one twice"
        raise BundleError(f"{CALIBRATION}: sensor_names: got {found}, expected sensors of {MANIFEST}, each once")


def _golden(manifest: Manifest, arrays: Arrays) -> Golden:
    ports = {f"in.{name}": port for name, port in _input_ports(manifest).items() if name in INPUTS}
    ports |= {f"out.{name}": port for name, port in _output_ports(manifest).items() if name in OUTPUTS}
    _check_names(GOLDEN, arrays, tuple(ports))
    ticks, sensors = (*arrays["in.value"].shape, 0, 0)[:2]
    if not MIN_GOLDEN_TICKS <= ticks <= MAX_GOLDEN_TICKS or sensors < 1:
        raise BundleError(
            f"{GOLDEN}: got {ticks} ticks of {sensors} sensors,"
            f" expected {MIN_GOLDEN_TICKS} to {MAX_GOLDEN_TICKS} ticks of 1 sensor or more"
        )
    for name, port in ports.items():
        _check_golden_array(name, arrays[name], port, (ticks, sensors))
    neighbour = arrays["in.neighbour"]
    if neighbour.min() < -1 or neighbour.max() >= sensors:
        raise BundleError(f"{GOLDEN}: in.neighbour: got an index outside -1 to {sensors - 1}")
    return Golden(_part(arrays, "in."), _part(arrays, "out."))


def _check_golden_array(name: str, array: NDArray[Any], port: Port, leading: tuple[int, int]) -> None:
    shape = (*leading, *(port.shape or ())[1:])
    dtype = np.dtype(_DTYPES[port.element_type])
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(f"{GOLDEN}: {name}: got {_form(array)}, expected {dtype} of shape {list(shape)}")
    if not np.isfinite(array).all():
        raise BundleError(f"{GOLDEN}: {name}: got a value that is not finite, expected finite ones")


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check_names(where: str, arrays: Arrays, expected: tuple[str, ...]) -> None:
    if arrays.keys() != set(expected):
        raise BundleError(f"{where}: got arrays {sorted(arrays)!r}, expected {sorted(expected)!r}")


def _form(array: NDArray[Any]) -> str:
    return f"{array.dtype} of shape {list(array.shape)}"


def _check_model(manifest: Manifest, facts: ModelFacts) -> None:
    if facts.opset != manifest.opset:
        raise BundleError(f"{MODEL}: got opset {facts.opset}, expected {manifest.opset} as {MANIFEST} says")
    if facts.operators != tuple(sorted(manifest.operators)):
        differing = sorted(set(facts.operators) ^ set(manifest.operators))
        raise BundleError(f"{MODEL}: operators differ from those listed in {MANIFEST}: {differing!r}")
    _check_ports("input", facts.inputs, _input_ports(manifest))
    _check_ports("output", facts.outputs, _output_ports(manifest))


def _input_ports(manifest: Manifest) -> dict[str, Port]:
    ports = [
        Port("value", FLOAT32, (None,)),
        Port("age", FLOAT32, (None,)),
        Port("quality", INT32, (None,)),
        Port("neighbour", INT64, (None, manifest.neighbours)),
        Port("context", FLOAT32, (None, manifest.context)),
    ]
    ports += [Port(f"state.{state.name}", FLOAT32, (None, *state.shape)) for state in manifest.states]
    return {port.name: port for port in ports}


def _output_ports(manifest: Manifest) -> dict[str, Port]:
    ports = [Port(name, FLOAT32, (None,)) for name in ("expected", "scale", "score")]
    ports.append(Port("attention", FLOAT32, (None, manifest.neighbours)))
    ports += [Port(f"next_state.{state.name}", FLOAT32, (None, *state.shape)) for state in manifest.states]
    return {port.name: port for port in ports}


def _check_ports(role: str, found: tuple[Port, ...], expected: Mapping[str, Port]) -> None:
    names = [port.name for port in found]
    if sorted(names) != sorted(expected):
        missing, surplus = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
        raise BundleError(
            f"{MODEL}: {role}s: missing {missing!r}, not expected {surplus!r}, by contract and {MANIFEST}"
        )
    for port in found:
        wanted = expected[port.name]
        if port.element_type != wanted.element_type or not _shape_fits(role, port.shape, wanted.shape or ()):
            dims = ["N", *(wanted.shape or ())[1:]]
            raise BundleError(
                f"{MODEL}: {role} {port.name!r}: got shape {port.shape!r} of element type {port.element_type},"
                f" expected {dims} (N open) of element type {wanted.element_type}"
            )


def _shape_fits(role: str, found: tuple[int | None, ...] | None, wanted: tuple[int | None, ...]) -> bool:
    if found is None:
        # Exporters may leave an output's shape out; the run itself then checks it.
        return role == "output"
    if len(found) != len(wanted) or found[0] is not None:
        return False
    pairs = zip(found[1:], wanted[1:], strict=True)
    return all(have == want or (have is None and role == "output") for have, want in pairs)
