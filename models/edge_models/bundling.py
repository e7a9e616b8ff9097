"""A trained step as a bundle: model, golden ticks, calibration, weights to train on from, card and licence."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_agent import __version__
from edge_agent.bundle.arrays import read_npz, write_npz
from edge_agent.bundle.manifest import (
    CALIBRATION,
    CARD,
    GOLDEN,
    LICENSE,
    MODEL,
    BundleKind,
    Limits,
    Manifest,
    Provenance,
    SensorSpec,
    StateSpec,
    TrainedEdge,
)
from edge_agent.bundle.store import write_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.errors import BundleError
from edge_models.export import INPUTS, OUTPUTS, export_onnx
from edge_models.hybrid import WARMUP_TICKS, HybridStep
from edge_models.network import HybridNetwork
from edge_models.state import CONTEXT_WIDTH, NEIGHBOURS, STATES, State

WEIGHTS = "weights.npz"
RECIPE = "hybrid"
GOLDEN_TICKS = 192
CALIBRATION_TICKS = 4_096
_LIMITS = Limits(p99_ms=50.0, rss_mb=100.0)
_MAX_WEIGHTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Inputs:
    """Golden inputs: ``value``, ``age`` [T, N], ``missing`` [T, N], ``neighbour`` [N, K], ``context`` [N, D]."""

    value: NDArray[np.float32]
    age: NDArray[np.float32]
    missing: NDArray[np.bool_]
    neighbour: NDArray[np.int64]
    context: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Site:
    """What only a site bundle has: its tick, sensors with constants, edges, and scores on held-out normal data."""

    tick_s: float | None
    sensors: tuple[SensorSpec, ...]
    edges: tuple[TrainedEdge, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a bundle comes from: name, version, sha256 of the data, seed."""

    name: str
    version: str
    data_sha256: str
    seed: int


def write_model_bundle(
    out: Path, step: HybridStep, inputs: Inputs, origin: Origin, card: str, site: Site | None = None
) -> Bundle:
    """Export ``step`` and write the bundle folder. :class:`~edge_agent.errors.BundleError` if ``out`` is not empty."""
    return write_exported(out, Exported.of(step, inputs), origin, card, site)


@dataclass(frozen=True, slots=True)
class Exported:
    """The costly part of a bundle: the model file, golden ticks, and the weights to train on from."""

    model: bytes
    golden: bytes
    weights: bytes

    @classmethod
    def of(cls, step: HybridStep, inputs: Inputs) -> Exported:
        """Export ``step`` and compute its golden outputs."""
        golden, weights = write_npz(_golden(step, inputs)), write_npz(pack_weights(step.network))
        return cls(export_onnx(step), golden, weights)


def write_exported(out: Path, exported: Exported, origin: Origin, card: str, site: Site | None = None) -> Bundle:
    """Write the bundle folder of a model that is exported already."""
    files = {
        MODEL: exported.model,
        GOLDEN: exported.golden,
        CALIBRATION: write_npz(_calibration(site)),
        WEIGHTS: exported.weights,
        CARD: card.encode(),
        LICENSE: licence_of_weights(),
    }
    return write_bundle(out, _manifest(origin, site), files)


def pack_weights(network: torch.nn.Module) -> dict[str, NDArray[Any]]:
    """All parameters by name."""
    return {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}


def unpack_weights(bundle: Bundle) -> HybridNetwork:
    """The network inside a bundle that was written here, for training on from it."""
    raw = bundle.files.get(WEIGHTS)
    if raw is None:
        raise BundleError(f"bundle {bundle.manifest.name}: no {WEIGHTS}, expected a bundle of recipe {RECIPE!r}")
    arrays = read_npz(WEIGHTS, raw, _MAX_WEIGHTS)
    network = HybridNetwork()
    wanted = network.state_dict()
    if {name: value.shape for name, value in arrays.items()} != {name: tuple(v.shape) for name, v in wanted.items()}:
        raise BundleError(f"bundle {bundle.manifest.name}: {WEIGHTS} holds another network than this version trains")
    network.load_state_dict({name: torch.tensor(value) for name, value in arrays.items()})
    return network


def golden_inputs(values: NDArray[np.float64], neighbour: NDArray[np.int64], context: NDArray[np.float32]) -> Inputs:
    """Golden inputs from normal readings [T, N], with a loss, an outage and a step put in."""
    value = np.asarray(values[:GOLDEN_TICKS], np.float32)
    missing = ~np.isfinite(value)
    value = np.nan_to_num(value)
    age = np.zeros(value.shape, np.float32)
    ticks, sensors = value.shape
    late = ticks * 3 // 4
    for tick in range(late, ticks):
        if tick % 2:
            value[tick, 0], age[tick, 0] = value[tick - 1, 0], 1.0
    missing[late + 4 : late + 12, sensors // 2] = True
    value[late + 8 :, sensors - 1] += np.float32(4.0 * (np.nanstd(values[:, sensors - 1]) + 1e-3))
    return Inputs(value, age, missing, neighbour, context)


@torch.no_grad()
def _golden(step: HybridStep, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """What PyTorch makes of the inputs: ONNX Runtime on the gateway is held to it."""
    ticks, sensors = inputs.value.shape
    state = State.start(sensors)
    table, context = torch.from_numpy(inputs.neighbour), torch.from_numpy(inputs.context)
    outputs: list[list[NDArray[Any]]] = []
    for tick in range(ticks):
        quality = torch.from_numpy(inputs.missing[tick].astype(np.int32))
        value, age = torch.from_numpy(inputs.value[tick]), torch.from_numpy(inputs.age[tick])
        verdict, state = step(value, age, quality, table, context, state)
        outputs.append([item.numpy() for item in verdict])
    given = {
        "value": inputs.value,
        "age": inputs.age,
        "quality": inputs.missing.astype(np.int32),
        "neighbour": np.broadcast_to(inputs.neighbour, (ticks, *inputs.neighbour.shape)),
        "context": np.broadcast_to(inputs.context, (ticks, *inputs.context.shape)),
    }
    named = {f"in.{name}": np.ascontiguousarray(given[name]) for name in INPUTS[:5]}
    columns = zip(*outputs, strict=True)
    return named | {f"out.{name}": np.stack(column) for name, column in zip(OUTPUTS[:4], columns, strict=True)}


def _calibration(site: Site | None) -> dict[str, NDArray[Any]]:
    if site is None:
        return {"sensor_names": np.zeros(0, np.str_), "scores": np.zeros((0, 0), np.float32)}
    names = np.array([sensor.name for sensor in site.sensors], np.str_)
    return {"sensor_names": names, "scores": np.ascontiguousarray(site.scores[-CALIBRATION_TICKS:], np.float32)}


def _manifest(origin: Origin, site: Site | None) -> Manifest:
    return Manifest(
        name=origin.name,
        version=origin.version,
        kind=BundleKind.UNIVERSAL if site is None else BundleKind.SITE,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        tick_s=None if site is None else site.tick_s,
        neighbours=NEIGHBOURS,
        context=CONTEXT_WIDTH,
        default_context=(0.0,) * CONTEXT_WIDTH,
        warmup_ticks=WARMUP_TICKS if site is None else 8,
        states=tuple(StateSpec(name, shape) for name, shape in STATES.items()),
        limits=_LIMITS,
        provenance=Provenance(__version__, commit_of_source(), origin.data_sha256, origin.seed, RECIPE),
        sensors=() if site is None else site.sensors,
        edges=() if site is None else site.edges,
    )


def commit_of_source() -> str:
    """The commit of the source tree this runs from, if it is one."""
    place = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(place), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def licence_of_weights() -> bytes:
    """The licence that goes into every bundle."""
    return (Path(__file__).parent / "WEIGHTS-LICENSE").read_bytes()
