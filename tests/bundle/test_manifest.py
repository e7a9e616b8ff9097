import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from bundle_factory import make_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundle import Limits, Provenance, SensorSpec, StateSpec, TrainedEdge, parse_manifest
from edge_agent.bundle import manifest as manifest_module
from edge_agent.bundle.manifest import FLOAT32_MAX, REQUIRED_FILES, BundleKind, FileDigest, Manifest
from edge_agent.errors import BundleError

DIGESTS = tuple(FileDigest(name, "a" * 64, 1) for name in REQUIRED_FILES)
PLAIN = json.loads(make_manifest(("LIT101", "FIT101"), operators=("Add",), files=DIGESTS).to_json())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def refusal(raw: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        parse_manifest(raw)
    return str(caught.value)


def refusal_of(change: Callable[[dict[str, Any]], object]) -> str:
    plain = copy.deepcopy(PLAIN)
    change(plain)
    return refusal(json.dumps(plain).encode())


def read_or_refuse(raw: bytes) -> Manifest | BundleError:
    try:
        return parse_manifest(raw)
    except BundleError as error:
        return error


@given(st.binary(max_size=300))
def test_any_bytes_give_a_manifest_or_a_bundle_error(raw: bytes) -> None:
    assert isinstance(read_or_refuse(raw), Manifest | BundleError)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, item in items for deeper in paths(item, (*path, key)))]


@settings(max_examples=400)
@given(st.sampled_from([path for path in paths(PLAIN) if path]), JSON)
def test_any_value_in_any_field_gives_an_equal_manifest_back_or_a_bundle_error(
    path: tuple[Any, ...], value: Any
) -> None:
    plain = copy.deepcopy(PLAIN)
    holder = plain
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    outcome = read_or_refuse(json.dumps(plain).encode())
    if isinstance(outcome, Manifest):
        assert parse_manifest(outcome.to_json()) == outcome
    else:
        assert str(outcome).startswith("manifest.json: ")


NUMBERS = st.floats(-FLOAT32_MAX, FLOAT32_MAX)
NAMES = st.text(min_size=1, max_size=20).filter(str.isprintable)
STATE_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,63}", fullmatch=True)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    width = draw(st.integers(1, 4))
    context = st.tuples(*[NUMBERS] * width)
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    edges = [TrainedEdge(a, b, draw(NUMBERS)) for a in names for b in names if a != b and draw(st.booleans())]
    return Manifest(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True)),
        version="1",
        kind=BundleKind.SITE if names else BundleKind.UNIVERSAL,
        created="2026-11-20T00:00:00+01:00",
        tick_s=draw(st.none() | st.floats(1e-3, 86_400)),
        neighbours=draw(st.integers(1, 64)),
        context=width,
        default_context=draw(context),
        warmup_ticks=draw(st.integers(0, 1_000_000)),
        states=tuple(
            StateSpec(name, tuple(draw(st.lists(st.integers(1, 40), max_size=3))), draw(NUMBERS))
            for name in draw(st.lists(STATE_NAMES, max_size=3, unique=True))
        ),
        limits=Limits(draw(st.floats(1e-3, 1e6)), 100.0),
        provenance=Provenance("0.1.0", "", "0" * 64, draw(st.integers(0, 2**63 - 1)), ""),
        sensors=tuple(SensorSpec(name, draw(st.none() | st.just("°C")), draw(context)) for name in names),
        edges=tuple(edges),
        opset=draw(st.integers(18, 21)),
        operators=("Add", "MatMul"),
        files=DIGESTS,
    )


@given(manifests())
def test_a_manifest_survives_being_written_and_read(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json()) == manifest


FIELDS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda m: m.update(format=2), "format: got 2, expected 1; a newer agent may be needed"),
    (lambda m: m.pop("format"), "format: got None, expected 1"),
    (lambda m: m.update(nieghbours=1), "got 'nieghbours', expected only the keys"),
    (lambda m: m.update(nieghbours=1), "did you mean 'neighbours'?"),
    (lambda m: m.pop("limits"), "limits: missing, expected in format 1"),
    (lambda m: m.update(name="a/b"), "name: got 'a/b', expected text like"),
    (lambda m: m.update(version=""), "version: got '', expected text like"),
    (lambda m: m.update(kind="global"), "kind: got 'global', expected universal or site"),
    (lambda m: m.update(kind="universal"), "sensors: got 2, expected none, since kind is universal"),
    (lambda m: m.update(sensors=[], edges=[]), "sensors: got 0, expected the plant's sensors"),
    (lambda m: m.update(created="yesterday"), "created: got 'yesterday', expected text like"),
    (lambda m: m.update(tick_s=0), "tick_s: got 0, expected a finite number from 0.001 to 86400"),
    (lambda m: m.update(tick_s=True), "tick_s: got True, expected a finite number"),
    (lambda m: m.update(neighbours=0), "neighbours: got 0, expected an integer from 1 to 64"),
    (lambda m: m.update(neighbours=65), "neighbours: got 65, expected an integer from 1 to 64"),
    (lambda m: m.update(neighbours=3.0), "neighbours: got 3.0, expected an integer from 1 to 64"),
    (lambda m: m.update(context=257), "context: got 257, expected an integer from 1 to 256"),
    (lambda m: m.update(default_context=[0]), "default_context: got '1 numbers', expected 2, as `context` says"),
    (lambda m: m.update(default_context=[0, 1e39]), "default_context[1]: got 1e+39, expected a finite number"),
    (lambda m: m.update(default_context=[0, 10**400]), "default_context[1]: got 1000000"),
    (lambda m: m.update(warmup_ticks=-1), "warmup_ticks: got -1, expected an integer from 0"),
    (lambda m: m["states"][0].update(shape=[0]), "states[0].shape[0]: got 0, expected an integer from 1 to 65536"),
    (lambda m: m["states"][0].update(shape=[4096, 4096]), "expected at most 65536 numbers per sensor"),
    (lambda m: m["states"][0].update(dtype="float64"), "states[0].dtype: got 'float64', expected 'float32'"),
    (lambda m: m["states"][0].update(name="a b"), "states[0].name: got 'a b', expected text like"),
    (lambda m: m["states"][1].update(name="mean"), "states: got 'mean', expected every entry only once"),
    (lambda m: m.update(states=m["states"] * 9), "states: got '36 entries', expected a list of at most 32"),
    (lambda m: m["sensors"][1].update(name="LIT101"), "sensors: got 'LIT101', expected every entry only once"),
    (lambda m: m["sensors"][0].update(name="a\nb"), "sensors[0].name: got 'a\\nb', expected 1 to 256 printable"),
    (lambda m: m["sensors"][0].update(name="\ud800"), "sensors[0].name: got '\\ud800', expected 1 to 256 printable"),
    (lambda m: m["edges"].append(["LIT101", "X", 1]), "edges[1][1]: got 'X', expected the name of a sensor listed"),
    (lambda m: m["edges"].append(["LIT101", "LIT101", 1]), "expected two different sensors"),
    (lambda m: m["edges"].append(["LIT101", 1]), "edges[1]: got ['LIT101', 1], expected [sensor, neighbour, weight]"),
    (lambda m: m["edges"].append(m["edges"][0]), "edges: got ('LIT101', 'FIT101'), expected every entry only once"),
    (lambda m: m["limits"].update(p99_ms=0), "limits.p99_ms: got 0, expected a finite number from 0.001"),
    (lambda m: m["provenance"].update(seed=-1), "provenance.seed: got -1, expected an integer from 0"),
    (lambda m: m["provenance"].update(data_sha256="0"), "provenance.data_sha256: got '0', expected text like"),
    (lambda m: m.update(opset=17), "opset: got 17, expected an integer from 18 to 21"),
    (lambda m: m.update(opset=22), "opset: got 22, expected an integer from 18 to 21"),
    (lambda m: m.update(operators=["Add", "Add"]), "operators: got 'Add', expected every entry only once"),
    (lambda m: m.update(files={}), "files: got {}, expected an object of 1 to 16 files"),
    (lambda m: m["files"].pop("card.md"), "files: 'card.md' is missing, expected model.onnx"),
    (
        lambda m: m["files"].update({"../x": {"sha256": "a" * 64, "bytes": 1}}),
        "files: got '../x', expected a plain file",
    ),
    (
        lambda m: m["files"].update({"manifest.json": {}}),
        "files: got 'manifest.json', expected a plain file name other",
    ),
    (lambda m: m["files"]["card.md"].update(bytes=1 << 21), "files.card.md.bytes: got 2097152, expected an integer"),
    (lambda m: m["files"]["card.md"].update(sha256="A" * 64), "files.card.md.sha256: got 'AAAA"),
    (lambda m: m["files"]["card.md"].update(sha=1), "files.card.md: got 'sha', expected only the keys sha256, bytes"),
]


@pytest.mark.parametrize(("change", "message"), FIELDS, ids=[str(index) for index in range(len(FIELDS))])
def test_wrong_field_is_named_with_what_was_found_and_expected(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    assert message in refusal_of(change)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "the document: got [], expected an object"),
        (b"\xff", "got bytes that are not UTF-8 at 0"),
        (b"[" * 100_000, "too many nested levels"),
        (b'{"format": NaN}', "got NaN, expected finite numbers only"),
        (b'{"format": 1, "format": 1}', "key 'format' appears twice"),
        (b'{"format": ' + b"1" * 5_000 + b"}", "not JSON"),
    ],
)
def test_document_that_is_no_manifest_is_refused(raw: bytes, message: str) -> None:
    assert message in refusal(raw)


def test_manifest_above_the_size_limit_is_refused_unread() -> None:
    limit = manifest_module.max_bytes("manifest.json")
    assert f"got {limit + 1} bytes, expected at most {limit}" in refusal(b" " * (limit + 1))
