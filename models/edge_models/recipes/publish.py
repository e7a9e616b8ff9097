"""A member as a bundle: ONNX graph, golden ticks, calibration, card."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_agent import __version__
from edge_agent.bundle.arrays import write_npz
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
    TrainedEdge,
)
from edge_agent.bundle.store import write_bundle
from edge_agent.bundle.verify import Bundle
from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.onnx import OnnxDetector
from edge_agent.inference.selftest import self_test
from edge_agent.verdict import Scores
from edge_models.bundling import (
    CALIBRATION_TICKS,
    GOLDEN_TICKS,
    Inputs,
    commit_of_source,
    golden_inputs,
    licence_of_weights,
)
from edge_models.export import onnx_bytes
from edge_models.neighbours import choose_neighbours, named_edges
from edge_models.recipes.frame import CONTEXT_WIDTH, PlantStep, identities
from edge_models.recipes.members import Member
from edge_models.recipes.plant import INPUT_LIMIT, Plant, Values
from edge_models.state import NEIGHBOURS
from edge_models.streaming import score_rows

INPUTS = ("value", "age", "quality", "neighbour", "context")
OUTPUTS = ("expected", "scale", "score", "attention")
_LIMITS = Limits(p99_ms=50.0, rss_mb=150.0)
_UNTIMED = Limits(p99_ms=10_000.0, rss_mb=150.0)
"""For the self-test in training: how busy that machine is says nothing about the gateway."""
_PROBES = 1_600
_PROBED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Label:
    """What the manifest says of a bundle's making; ``card`` gives its card for the held-out scores [T, S]."""

    name: str
    recipe: str
    seed: int
    card: Callable[[NDArray[np.float32]], str]


def publish(out: Path, member: Member, plant: Plant, label: Label) -> Bundle:
    """Write the bundle folder; calibration scores come from ONNX Runtime, tick by tick as on a gateway.

    :class:`~edge_agent.errors.BundleError` when ``out`` is not empty, or when ONNX Runtime does not compute what
    PyTorch did: such a bundle would be refused by every gateway.
    """
    step = PlantStep(member.eval(), plant.normal, influence(member, plant)).eval()
    strength = step.influence.numpy()[1:, 1:] if step.influence.any() else plant.strength
    table = choose_neighbours(strength, NEIGHBOURS, plant.edges)
    inputs = golden_inputs(_golden_rows(plant), table, identities(len(plant.sensors)))
    edges = tuple(TrainedEdge(*edge) for edge in named_edges(plant.sensors, table, strength))
    files = {MODEL: export_step(step), LICENSE: licence_of_weights(), GOLDEN: write_npz(golden(step, inputs))}
    manifest = _manifest(step, plant, label, edges)
    with tempfile.TemporaryDirectory() as folder:
        draft = files | {CALIBRATION: calibration((), np.zeros((0, 0), np.float32)), CARD: b"draft"}
        bundle = write_bundle(Path(folder) / "draft", replace(manifest, limits=_UNTIMED), draft)
        self_test(bundle)
        scores = held_out_scores(bundle, plant.raw)
    done = {CALIBRATION: calibration(plant.sensors, scores), CARD: label.card(scores).encode()}
    return write_bundle(out, manifest, files | done)


def held_out_scores(bundle: Bundle, parts: Sequence[Values]) -> NDArray[np.float32]:
    """Scores [T, S] of parts in units through ONNX Runtime, each from a fresh start, with the trained neighbours."""
    sensors = tuple(sensor.name for sensor in bundle.manifest.sensors)
    table = trained_neighbours(bundle)
    return np.concatenate([score_rows(OnnxDetector(bundle), part, table, sensors) for part in parts])


def outputs(bundle: Bundle, part: Values) -> tuple[Values, Values, Values]:
    """Score, expected and scale [T, S] of one part [T, S] in units, from a fresh start, by ONNX Runtime."""
    detector = _Recorder(bundle)
    sensors = tuple(sensor.name for sensor in bundle.manifest.sensors)
    score_rows(detector, part, trained_neighbours(bundle), sensors)
    columns = zip(*((one.score, one.expected, one.scale) for one in detector.said), strict=True)
    score, expected, scale = (np.stack(column).astype(np.float64) for column in columns)
    return score, expected, scale


class _Recorder(OnnxDetector):
    """Keeps all that it says, not only the scores."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.said: list[Scores] = []

    def score(self, snapshot: Snapshot) -> Scores:
        self.said.append(super().score(snapshot))
        return self.said[-1]


def trained_neighbours(bundle: Bundle) -> NDArray[np.int64]:
    """The neighbours [S, K] that the manifest's edges name, for the sensors in its order."""
    place = {sensor.name: row for row, sensor in enumerate(bundle.manifest.sensors)}
    rows: list[list[int]] = [[] for _ in place]
    for edge in bundle.manifest.edges:
        rows[place[edge.sensor]].append(place[edge.neighbour])
    width = bundle.manifest.neighbours
    return np.array([(row + [-1] * width)[:width] for row in rows], np.int64)


@torch.no_grad()
def influence(member: Member, plant: Plant) -> Values:
    """[S, S]: how far each estimate moves when another sensor is shifted, as shares of all others; rows add up to 1.

    Measured by shifting one sensor after the other on held-out ticks; 0 for a member that estimates nothing.
    """
    part = max(plant.held_out, key=len)
    sensors = part.shape[1]
    ticks = np.linspace(member.lags, len(part) - 1, max(1, min(16, _PROBES // sensors))).astype(int)
    shift = torch.eye(sensors)
    found = np.zeros((sensors, sensors))
    hidden = torch.zeros(1, member.hidden)
    for tick in ticks:
        level = torch.tensor(part[tick : tick + 1].clip(-INPUT_LIMIT, INPUT_LIMIT), dtype=torch.float32)
        before = part[tick - member.lags : tick][::-1].T.clip(-INPUT_LIMIT, INPUT_LIMIT)
        past = torch.tensor(before.copy(), dtype=torch.float32).unsqueeze(0)
        usual = member(level, past, hidden)[0].expected
        for rows in torch.split(torch.arange(sensors), _PROBED_AT_ONCE):
            moved = shift[rows]
            judged, _ = member(level + moved, past + moved.unsqueeze(-1), hidden.expand(len(rows), -1))
            found[:, rows.numpy()] += (judged.expected - usual).abs().numpy().T
    np.fill_diagonal(found, 0.0)
    total = found.sum(1, keepdims=True)
    return np.where(total > 0.0, found / np.where(total > 0.0, total, 1.0), 0.0)


def export_step(step: PlantStep) -> bytes:
    """The step as one ONNX file with an open number of sensors, weights inside, checked by ``onnx.checker``."""
    example = (
        torch.rand(5),
        torch.zeros(5),
        torch.zeros(5, dtype=torch.int32),
        torch.randint(-1, 5, (5, NEIGHBOURS)),
        torch.zeros(5, CONTEXT_WIDTH),
        *step.start(5),
    )
    states = [spec.name for spec in step.states]
    inputs = (*INPUTS, *(f"state.{name}" for name in states))
    return onnx_bytes(step, example, inputs, (*OUTPUTS, *(f"next_state.{name}" for name in states)))


@torch.no_grad()
def golden(step: PlantStep, inputs: Inputs) -> dict[str, NDArray[Any]]:
    """Arrays of ``golden.npz``: what PyTorch makes of the inputs, which the gateway is held to."""
    ticks, sensors = inputs.value.shape
    state = step.start(sensors)
    fixed = (torch.from_numpy(inputs.neighbour), torch.from_numpy(inputs.context))
    outputs: list[list[NDArray[Any]]] = []
    for tick in range(ticks):
        quality = torch.from_numpy(inputs.missing[tick].astype(np.int32))
        value, age = torch.from_numpy(inputs.value[tick]), torch.from_numpy(inputs.age[tick])
        found: tuple[Tensor, ...] = step(value, age, quality, *fixed, *state)
        state = found[len(OUTPUTS) :]
        outputs.append([item.numpy() for item in found[: len(OUTPUTS)]])
    given = {
        "value": inputs.value,
        "age": inputs.age,
        "quality": inputs.missing.astype(np.int32),
        "neighbour": np.broadcast_to(inputs.neighbour, (ticks, *inputs.neighbour.shape)),
        "context": np.broadcast_to(inputs.context, (ticks, *inputs.context.shape)),
    }
    named = {f"in.{name}": np.ascontiguousarray(array) for name, array in given.items()}
    columns = zip(*outputs, strict=True)
    return named | {f"out.{name}": np.stack(column) for name, column in zip(OUTPUTS, columns, strict=True)}


def _golden_rows(plant: Plant) -> Values:
    longest = max(plant.raw, key=len)
    return np.concatenate([longest] * -(-GOLDEN_TICKS // len(longest)))


def calibration(sensors: tuple[str, ...], scores: NDArray[np.float32]) -> bytes:
    """``calibration.npz`` of scores [T, S]; the last ones are kept where there are too many."""
    kept = np.ascontiguousarray(scores[-CALIBRATION_TICKS:], np.float32)
    return write_npz({"sensor_names": np.array(sensors, np.str_), "scores": kept})


def _manifest(step: PlantStep, plant: Plant, label: Label, edges: tuple[TrainedEdge, ...]) -> Manifest:
    rows = zip(plant.sensors, plant.units, identities(len(plant.sensors)).tolist(), strict=True)
    now = datetime.now(UTC)
    return Manifest(
        name=label.name,
        version=now.strftime("%Y.%m.%d"),
        kind=BundleKind.SITE,
        created=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        tick_s=plant.summary.tick_s,
        neighbours=NEIGHBOURS,
        context=CONTEXT_WIDTH,
        default_context=(0.0,) * CONTEXT_WIDTH,
        warmup_ticks=step.member.warmup,
        states=step.states,
        limits=_LIMITS,
        provenance=Provenance(__version__, commit_of_source(), plant.summary.sha256, label.seed, label.recipe),
        sensors=tuple(SensorSpec(name, unit, tuple(row)) for name, unit, row in rows),
        edges=edges,
    )
