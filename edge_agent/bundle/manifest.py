"""What a model bundle says of itself: ``manifest.json`` as a value. Pure: bytes in, :class:`Manifest` or error out.

The contract is in ``docs/reference/bundle.md``. Everything is limited, and nothing is guessed: an unknown key, a wrong
type or a number that is not finite is refused with :class:`~edge_agent.errors.BundleError`, which names the field.
Whether the files keep what the manifest promises is checked in :mod:`edge_agent.bundle.verify`.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from edge_agent.errors import BundleError
from edge_agent.nearest import nearest

FORMAT = 1
MANIFEST = "manifest.json"
MODEL = "model.onnx"
CALIBRATION = "calibration.npz"
GOLDEN = "golden.npz"
CARD = "card.md"
LICENSE = "LICENSE"
REQUIRED_FILES = (MODEL, CALIBRATION, GOLDEN, CARD, LICENSE)

MIB = 1 << 20
MAX_BYTES = {MANIFEST: 16 * MIB, MODEL: 64 * MIB, CALIBRATION: 64 * MIB, GOLDEN: 64 * MIB}
MAX_OTHER_BYTES = MIB
MAX_FILES = 16
MAX_SENSORS = 65_536
MAX_EDGES = 1_000_000
MAX_NEIGHBOURS = 64
MAX_CONTEXT = 256
MAX_STATES = 32
MAX_STATE_RANK = 3
MAX_STATE_WIDTH = 65_536
MAX_WARMUP_TICKS = 1_000_000
OPSETS = range(18, 22)
FLOAT32_MAX = 3.4028234663852886e38

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_STATE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,63}")
_OPERATOR = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)

T = TypeVar("T")


class BundleKind(StrEnum):
    """``universal``: any plant, lists no sensors. ``site``: trained on one plant, lists its sensors."""

    UNIVERSAL = "universal"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One carried state of shape [N, *shape]; a new sensor's row is filled with ``init``."""

    name: str
    shape: tuple[int, ...]
    init: float = 0.0
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class SensorSpec:
    """A sensor the model was trained on, with its constants (``context`` has the manifest's width)."""

    name: str
    unit: str | None
    context: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TrainedEdge:
    """``neighbour`` helped to estimate ``sensor`` in training, with this weight."""

    sensor: str
    neighbour: str
    weight: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model may cost on the gateway at the size of its golden ticks."""

    p99_ms: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the weights come from: code version and commit, sha256 of the data, seed, recipe."""

    code: str
    commit: str
    data_sha256: str
    seed: int
    recipe: str


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Length and sha256 (hexadecimal) of one file of the bundle."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of ``manifest.json``. ``opset``, ``operators`` and ``files`` are filled in by ``write_bundle``."""

    name: str
    version: str
    kind: BundleKind
    created: str
    tick_s: float | None
    neighbours: int
    context: int
    default_context: tuple[float, ...]
    warmup_ticks: int
    states: tuple[StateSpec, ...]
    limits: Limits
    provenance: Provenance
    sensors: tuple[SensorSpec, ...] = ()
    edges: tuple[TrainedEdge, ...] = ()
    opset: int = 18
    operators: tuple[str, ...] = ()
    files: tuple[FileDigest, ...] = ()

    def to_json(self) -> bytes:
        """The manifest as UTF-8 JSON; :func:`parse_manifest` gives an equal manifest back."""
        plain = {"format": FORMAT, **asdict(self)}
        plain["edges"] = [[edge.sensor, edge.neighbour, edge.weight] for edge in self.edges]
        plain["files"] = {file.name: {"sha256": file.sha256, "bytes": file.bytes} for file in self.files}
        return json.dumps(plain, indent=1, allow_nan=False).encode()


def max_bytes(file_name: str) -> int:
    """The largest size a file of this name may have."""
    return MAX_BYTES.get(file_name, MAX_OTHER_BYTES)


def parse_manifest(raw: bytes) -> Manifest:
    """Read ``manifest.json``.

    Any bytes give a manifest or :class:`~edge_agent.errors.BundleError`, which names the field, what was found and
    what was expected.
    """
    if len(raw) > max_bytes(MANIFEST):
        raise BundleError(f"{MANIFEST}: got {len(raw)} bytes, expected at most {max_bytes(MANIFEST)}")
    plain = _load(raw)
    if isinstance(plain, dict) and plain.get("format") != FORMAT:
        raise _wrong("format", plain.get("format"), f"{FORMAT}; a newer agent may be needed to read this bundle")
    return _manifest(_object("", plain, ("format", *Manifest.__dataclass_fields__)))


def _load(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BundleError(f"{MANIFEST}: got bytes that are not UTF-8 at {error.start}, expected JSON text") from error
    except RecursionError as error:
        raise BundleError(f"{MANIFEST}: got too many nested levels, expected a bundle manifest") from error
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in pairs:
        if name in plain:
            raise BundleError(f"{MANIFEST}: key {name[:64]!r} appears twice, expected once")
        plain[name] = value
    return plain


def _no_constant(word: str) -> float:
    raise BundleError(f"{MANIFEST}: got {word}, expected finite numbers only")


def _manifest(plain: dict[str, Any]) -> Manifest:
    kind = _kind(plain["kind"])
    context = _integer("context", plain["context"], 1, MAX_CONTEXT)
    sensors = _unique_by(
        "sensors",
        _each("sensors", plain["sensors"], MAX_SENSORS, lambda w, v: _sensor(w, v, context)),
        lambda sensor: sensor.name,
    )
    if (kind is BundleKind.SITE) != bool(sensors):
        expected = "the plant's sensors" if kind is BundleKind.SITE else "none, since kind is universal"
        raise BundleError(f"{MANIFEST}: sensors: got {len(sensors)}, expected {expected}")
    return Manifest(
        name=_match("name", plain["name"], _IDENTIFIER),
        version=_match("version", plain["version"], _IDENTIFIER),
        kind=kind,
        created=_match("created", plain["created"], _RFC3339),
        tick_s=None if plain["tick_s"] is None else _number("tick_s", plain["tick_s"], 1e-3, 86_400.0),
        neighbours=_integer("neighbours", plain["neighbours"], 1, MAX_NEIGHBOURS),
        context=context,
        default_context=_floats("default_context", plain["default_context"], context),
        warmup_ticks=_integer("warmup_ticks", plain["warmup_ticks"], 0, MAX_WARMUP_TICKS),
        states=_unique_by("states", _each("states", plain["states"], MAX_STATES, _state), lambda state: state.name),
        limits=_limits(plain["limits"]),
        provenance=_provenance(plain["provenance"]),
        sensors=sensors,
        edges=_edges(plain["edges"], {sensor.name for sensor in sensors}),
        opset=_integer("opset", plain["opset"], OPSETS.start, OPSETS.stop - 1),
        operators=_unique_by(
            "operators", _each("operators", plain["operators"], 1_000, lambda w, v: _match(w, v, _OPERATOR)), str
        ),
        files=_files(plain["files"]),
    )


def _kind(value: Any) -> BundleKind:
    if not isinstance(value, str) or value not in list(BundleKind):
        raise _wrong("kind", value, " or ".join(BundleKind))
    return BundleKind(value)


def _state(where: str, value: Any) -> StateSpec:
    plain = _object(where, value, ("name", "shape", "init", "dtype"))
    if plain["dtype"] != "float32":
        raise _wrong(f"{where}.dtype", plain["dtype"], "'float32'")
    shape = _each(f"{where}.shape", plain["shape"], MAX_STATE_RANK, lambda w, v: _integer(w, v, 1, MAX_STATE_WIDTH))
    if math.prod(shape) > MAX_STATE_WIDTH:
        raise _wrong(f"{where}.shape", list(shape), f"at most {MAX_STATE_WIDTH} numbers per sensor")
    init = _number(f"{where}.init", plain["init"], -FLOAT32_MAX, FLOAT32_MAX)
    return StateSpec(_match(f"{where}.name", plain["name"], _STATE_NAME), shape, init)


def _sensor(where: str, value: Any, context: int) -> SensorSpec:
    plain = _object(where, value, ("name", "unit", "context"))
    unit = None if plain["unit"] is None else _text(f"{where}.unit", plain["unit"], 0, 64)
    return SensorSpec(
        _text(f"{where}.name", plain["name"], 1, 256), unit, _floats(f"{where}.context", plain["context"], context)
    )


def _edges(value: Any, sensors: Collection[str]) -> tuple[TrainedEdge, ...]:
    edges = _each("edges", value, MAX_EDGES, lambda where, item: _edge(where, item, sensors))
    return _unique_by("edges", edges, lambda edge: (edge.sensor, edge.neighbour))


def _edge(where: str, value: Any, sensors: Collection[str]) -> TrainedEdge:
    if not isinstance(value, list) or len(value) != 3:
        raise _wrong(where, value, "[sensor, neighbour, weight]")
    for position, name in enumerate(value[:2]):
        if not isinstance(name, str) or name not in sensors:
            raise _wrong(f"{where}[{position}]", name, "the name of a sensor listed in `sensors`")
    if value[0] == value[1]:
        raise _wrong(where, value, "two different sensors")
    return TrainedEdge(value[0], value[1], _number(f"{where}[2]", value[2], -FLOAT32_MAX, FLOAT32_MAX))


def _limits(value: Any) -> Limits:
    plain = _object("limits", value, ("p99_ms", "rss_mb"))
    return Limits(*(_number(f"limits.{key}", plain[key], 1e-3, 1e6) for key in ("p99_ms", "rss_mb")))


def _provenance(value: Any) -> Provenance:
    plain = _object("provenance", value, tuple(Provenance.__dataclass_fields__))
    return Provenance(
        code=_text("provenance.code", plain["code"], 1, 64),
        commit=_text("provenance.commit", plain["commit"], 0, 64),
        data_sha256=_match("provenance.data_sha256", plain["data_sha256"], _SHA256),
        seed=_integer("provenance.seed", plain["seed"], 0, 2**63 - 1),
        recipe=_text("provenance.recipe", plain["recipe"], 0, 256),
    )


def _files(value: Any) -> tuple[FileDigest, ...]:
    if not isinstance(value, dict) or not 1 <= len(value) <= MAX_FILES:
        raise _wrong("files", value, f"an object of 1 to {MAX_FILES} files")
    missing = [name for name in REQUIRED_FILES if name not in value]
    if missing:
        raise BundleError(f"{MANIFEST}: files: {missing[0]!r} is missing, expected {', '.join(REQUIRED_FILES)}")
    return tuple(_file(name, item) for name, item in value.items())


def _file(name: str, value: Any) -> FileDigest:
    # One plain name, so that no bundle can reach outside its folder.
    if not _IDENTIFIER.fullmatch(name) or name == MANIFEST:
        raise _wrong("files", name, "a plain file name other than manifest.json, without a folder")
    where = f"files.{name}"
    plain = _object(where, value, ("sha256", "bytes"))
    size = _integer(f"{where}.bytes", plain["bytes"], 0, max_bytes(name))
    return FileDigest(name, _match(f"{where}.sha256", plain["sha256"], _SHA256), size)


# One value at a time. `where` is the path of the field inside the manifest.


def _wrong(where: str, found: object, expected: str) -> BundleError:
    return BundleError(f"{MANIFEST}: {where or 'the document'}: got {reprlib.repr(found)}, expected {expected}")


def _object(where: str, value: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object")
    for key in value:
        if key not in keys:
            raise _wrong(where, key, f"only the keys {', '.join(keys)}{nearest(key[:64], keys)}")
    for key in keys:
        if key not in value:
            raise BundleError(f"{MANIFEST}: {where + '.' if where else ''}{key}: missing, expected in format {FORMAT}")
    return value


def _each(where: str, value: Any, limit: int, parse: Callable[[str, Any], T]) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > limit:
        found = f"{len(value)} entries" if isinstance(value, list) else value
        raise _wrong(where, found, f"a list of at most {limit}")
    return tuple(parse(f"{where}[{index}]", item) for index, item in enumerate(value))


def _unique_by(where: str, items: tuple[T, ...], key: Callable[[T], object]) -> tuple[T, ...]:
    seen: set[object] = set()
    for item in items:
        if key(item) in seen:
            raise _wrong(where, key(item), "every entry only once")
        seen.add(key(item))
    return items


def _floats(where: str, value: Any, length: int) -> tuple[float, ...]:
    numbers = _each(where, value, length, lambda w, v: _number(w, v, -FLOAT32_MAX, FLOAT32_MAX))
    if len(numbers) != length:
        raise _wrong(where, f"{len(numbers)} numbers", f"{length}, as `context` says")
    return numbers


def _number(where: str, value: Any, low: float, high: float) -> float:
    # The comparison also refuses NaN and numbers too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _wrong(where, value, f"a finite number from {low:g} to {high:g}")
    return float(value)


def _integer(where: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(where, value, f"an integer from {low} to {high}")
    return value


def _text(where: str, value: Any, low: int, high: int) -> str:
    if not isinstance(value, str) or not low <= len(value) <= high or not value.isprintable():
        raise _wrong(where, value, f"{low} to {high} printable characters")
    return value


def _match(where: str, value: Any, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(where, value, f"text like {pattern.pattern}")
    return value
