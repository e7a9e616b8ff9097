import dataclasses
import hashlib
import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bundle_factory import (
    K,
    golden_inputs,
    make_files,
    make_manifest,
    make_model,
    make_parts,
    ports,
    run_golden,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundle import StateSpec, parse_manifest, verify_bundle, write_npz
from edge_agent.bundle.arrays import read_npz
from edge_agent.bundle.store import seal
from edge_agent.errors import BundleError


def refusal(files: dict[str, bytes]) -> str:
    with pytest.raises(BundleError) as caught:
        verify_bundle(files)
    return str(caught.value)


def golden_file(**changes: np.ndarray | None) -> bytes:
    inputs = golden_inputs()
    outputs = run_golden(make_model(), inputs)
    arrays: dict[str, Any] = {f"in.{k}": v for k, v in inputs.items()} | {f"out.{k}": v for k, v in outputs.items()}
    arrays |= {name.replace("__", "."): array for name, array in changes.items()}
    return write_npz({name: array for name, array in arrays.items() if array is not None})


def with_part(name: str, raw: bytes, sensors: tuple[str, ...] = ()) -> dict[str, bytes]:
    return seal(make_manifest(sensors), {**make_parts(sensors), name: raw})


def test_good_bundle_gives_its_manifest_arrays_and_identity(site_files: dict[str, bytes]) -> None:
    bundle = verify_bundle(site_files)
    assert bundle.manifest == parse_manifest(site_files["manifest.json"])
    assert bundle.calibration.sensor_names == ("LIT101", "FIT101", "P101")
    assert bundle.calibration.scores.shape == (50, 3)
    assert (bundle.golden.ticks, bundle.golden.sensors) == (64, 5)
    assert bundle.sha256 == hashlib.sha256(site_files["manifest.json"]).hexdigest()
    assert bundle.model == site_files["model.onnx"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("manifest.json"), "manifest.json: missing"),
        (lambda f: f.pop("model.onnx"), "model.onnx: missing, expected"),
        (lambda f: f.update({"model.onnx": f["model.onnx"] + b"\0"}), "model.onnx: got "),
        (lambda f: f.update({"card.md": b"x" * len(f["card.md"])}), "card.md: got sha256 "),
        (lambda f: f.update({"evil.so": b""}), "'evil.so': not listed in manifest.json"),
    ],
)
def test_files_other_than_the_manifest_says_are_refused(
    tiny_files: dict[str, bytes], change: Callable[[dict[str, bytes]], object], message: str
) -> None:
    files = dict(tiny_files)
    change(files)
    assert message in refusal(files)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neighbours": K + 1}, "golden.npz: in.neighbour: got int64 of shape [64, 5, 3], expected int64 of shape"),
        ({"context": 4, "default_context": (0.0,) * 4}, "golden.npz: in.context: got float32 of shape [64, 5, 2]"),
        ({"states": (StateSpec("mean", ()),)}, "model.onnx: inputs: missing [], not expected ['state.count'"),
        ({"states": (*ports.__defaults__[0], StateSpec("h", ()))}, "inputs: missing ['state.h'], not expected []"),
    ],
)
def test_manifest_that_differs_from_the_model_is_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(make_files(**changes))


def test_model_with_another_number_of_neighbours_is_refused() -> None:
    assert "input 'neighbour': got shape (None, 4) of element type 7, expected ['N', 3]" in refusal(
        make_files(model=make_model(k=4))
    )


def fix_sensors(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 51


def drop_score(model: Any) -> None:
    del model.graph.output[2]


def double_precision(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 11


def misname_state(model: Any) -> None:
    next(port for port in model.graph.output if port.name == "next_state.mean").name = "next_state.average"
    next(node for node in model.graph.node if "next_state.mean" in node.output).output[:] = ["next_state.average"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fix_sensors, "input 'value': got shape (51,) of element type 1, expected ['N'] (N open)"),
        (drop_score, "outputs: missing ['score'], not expected []"),
        (double_precision, "input 'value': got shape (None,) of element type 11"),
        (misname_state, "outputs: missing ['next_state.mean'], not expected ['next_state.average']"),
    ],
)
def test_model_that_breaks_the_contract_is_refused(change: Callable[[Any], None], message: str) -> None:
    assert message in refusal(make_files(model=make_model(change_model=change)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"opset": 19}, "got opset 18, expected 19"), ({"operators": ("Add",)}, "operators differ from those listed")],
)
def test_manifest_that_lies_about_opset_or_operators_is_refused(
    tiny_files: dict[str, bytes], changes: dict[str, Any], message: str
) -> None:
    manifest = dataclasses.replace(parse_manifest(tiny_files["manifest.json"]), **changes)
    assert message in refusal({**tiny_files, "manifest.json": manifest.to_json()})


SHORT = {f"in__{k}": v[:63] for k, v in golden_inputs().items()}
NEIGHBOUR = golden_inputs()["neighbour"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out__score": None}, "golden.npz: got arrays ["),
        ({"in__extra": np.zeros(1)}, "golden.npz: got arrays ["),
        (SHORT, "golden.npz: got 63 ticks of 5 sensors, expected 64 to 4096 ticks"),
        ({"in__value": np.zeros((64, 5))}, "in.value: got float64 of shape [64, 5], expected float32"),
        ({"in__value": np.full((64, 5), np.nan, np.float32)}, "in.value: got a value that is not finite"),
        ({"out__score": np.zeros((64, 4), np.float32)}, "out.score: got float32 of shape [64, 4]"),
        ({"in__neighbour": NEIGHBOUR + 5}, "in.neighbour: got an index outside -1 to 4"),
        ({"in__value": np.zeros(3, np.float32)}, "golden.npz: got 3 ticks of 0 sensors"),
    ],
)
def test_golden_ticks_of_another_form_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(with_part("golden.npz", golden_file(**changes)))


NAMES = np.array(["LIT101"])
SCORES = np.ones((4, 1), np.float32)


@pytest.mark.parametrize(
    ("arrays", "sensors", "message"),
    [
        ({"scores": SCORES}, ("LIT101",), "calibration.npz: got arrays ['scores']"),
        ({"sensor_names": np.ones(1), "scores": SCORES}, ("LIT101",), "sensor_names: got float64 of shape [1]"),
        ({"sensor_names": NAMES, "scores": SCORES.astype(float)}, ("LIT101",), "scores: got float64 of shape [4, 1]"),
        (
            {"sensor_names": NAMES, "scores": np.ones((4, 2), np.float32)},
            ("LIT101",),
            "expected float32 of shape [T, 1]",
        ),
        ({"sensor_names": NAMES, "scores": -SCORES}, ("LIT101",), "got negative or non-finite ones"),
        ({"sensor_names": NAMES, "scores": SCORES * np.nan}, ("LIT101",), "got negative or non-finite ones"),
        ({"sensor_names": NAMES, "scores": SCORES}, ("OTHER",), "got 'LIT101', expected sensors of manifest.json"),
        ({"sensor_names": NAMES, "scores": SCORES}, (), "got 1, expected none for a universal model"),
        (
            {"sensor_names": NAMES, "scores": np.ones((4_097, 1), np.float32)},
            ("LIT101",),
            "got 4097 ticks, expected at most 4096",
        ),
    ],
)
def test_calibration_of_another_form_is_refused(
    arrays: dict[str, np.ndarray], sensors: tuple[str, ...], message: str
) -> None:
    assert message in refusal(with_part("calibration.npz", write_npz(arrays), sensors))


def npz_of(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not a readable .npz file"),
        (b"PK\x03\x04", "not a readable .npz file"),
        (npz_of({"a.npy": b"junk"}), "not a readable .npz file"),
        (npz_of({"a.txt": b"x"}), "got entry 'a.txt', expected each array once, named *.npy"),
        (npz_of({"a.npy": bytes(2_000_000)}), "arrays of 2000000 bytes unpacked, expected at most 64 of 1000000 bytes"),
        (npz_of({f"{i}.npy": b"" for i in range(65)}), "got more than 64 arrays"),
        (npz_of({"a.npy": npy(np.zeros(1_000))[:-1]}), "got 7999 bytes for shape (1000,) of float64"),
        (npz_of({"a.npy": npy(np.zeros(1)).replace(b"(1,)", b"(-1,)")}), "a"),
        (npz_of({"a.npy": npy(np.array([print]), allow_pickle=True)}), "got type object, expected numbers or text"),
        (npz_of({"a.npy": npy(np.zeros(1, [("x", "f4")]))}), "expected numbers or text"),
    ],
)
def test_array_file_that_lies_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=r"^here: ") as caught:
        read_npz("here", raw, 1_000_000)
    assert message in str(caught.value)


ARRAYS = write_npz({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.asfortranarray(np.eye(3))})


def test_arrays_survive_being_written_and_read() -> None:
    arrays = read_npz("here", ARRAYS, 1_000_000)
    assert np.array_equal(arrays["a"], np.arange(6).reshape(2, 3))
    assert np.array_equal(arrays["b"], np.eye(3))


def test_the_same_arrays_give_the_same_bytes() -> None:
    assert write_npz({"a": np.ones(3)}) == write_npz({"a": np.ones(3)})


@settings(max_examples=200)
@given(st.integers(0, len(ARRAYS) - 1), st.binary(min_size=1, max_size=4))
def test_any_damage_to_an_array_file_gives_arrays_or_a_bundle_error(position: int, patch: bytes) -> None:
    damaged = ARRAYS[:position] + patch + ARRAYS[position + len(patch) :]
    try:
        read_npz("here", damaged, 1_000_000)
    except BundleError:
        return
