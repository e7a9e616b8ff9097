"""``--quantize int8``: weights in one byte each, and what that costs, measured.

Weights of two or more dimensions are stored as int8 with one scale per output channel and turned back by
`DequantizeLinear` inside the model; everything else stays in float32. That keeps the scores the same on every
processor. Dynamic quantisation of the activations was tried: at the sizes of a plant `MatMulInteger` is no faster,
its error is larger, and what it rounds depends on the processor, so a self-test made on one could fail on another.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.arrays import write_npz
from edge_agent.bundle.manifest import CALIBRATION, CARD, GOLDEN, MANIFEST, MODEL
from edge_agent.bundle.store import write_bundle
from edge_agent.bundle.verify import INPUTS, OUTPUTS, Bundle
from edge_agent.errors import ConfigError
from edge_agent.inference.step import ModelStep
from edge_models.recipes.plant import Values
from edge_models.recipes.publish import calibration, held_out_scores
from edge_models.streaming import plant_score

MOST_ERROR = 0.1
"""Largest change of the plant's log score, as the 95th percentile of held-out ticks: about a tenth of the score."""
_LEAST_WEIGHTS = 512
_LARGEST = 127.0
_TIMED_TICKS = 300


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What int8 saves and costs. ``score_error``: 95th percentile of the change of the plant's log score.

    Bytes are those of ``model.onnx``, times the median of a tick in milliseconds.
    """

    weights: int
    bytes_before: int
    bytes_after: int
    tick_ms_before: float
    tick_ms_after: float
    score_error: float


def write_quantised(bundle: Bundle, parts: Sequence[Values], out: Path) -> tuple[Bundle, Quantisation]:
    """Write ``bundle`` with int8 weights to ``out``; ``parts`` [T, S] in units are held-out normal readings.

    Golden outputs and calibration are those of the quantised model.

    :raises ConfigError: there is nothing to quantise, or the scores change by more than :data:`MOST_ERROR`.
    """
    model, weights = quantised(bundle.model)
    if not weights:
        raise ConfigError(
            f"--quantize int8: recipe {bundle.manifest.provenance.recipe} has no array of {_LEAST_WEIGHTS} weights or"
            " more; leave --quantize out"
        )
    golden = write_npz(_golden(bundle, model))
    files = {name: raw for name, raw in bundle.files.items() if name != MANIFEST} | {MODEL: model, GOLDEN: golden}
    with tempfile.TemporaryDirectory() as folder:
        draft = write_bundle(Path(folder) / "draft", bundle.manifest, files)
        before, after = held_out_scores(bundle, parts), held_out_scores(draft, parts)
    measured = Quantisation(
        weights,
        len(bundle.model),
        len(model),
        _tick_ms(bundle, bundle.model),
        _tick_ms(bundle, model),
        score_error(before, after),
    )
    if measured.score_error > MOST_ERROR:
        raise ConfigError(
            f"--quantize int8: the plant's log score changes by {measured.score_error:.3f} (95th percentile of held-out"
            f" ticks), expected at most {MOST_ERROR:g}; leave --quantize out"
        )
    files |= {
        CALIBRATION: calibration(bundle.calibration.sensor_names, after),
        CARD: bundle.files[CARD] + _section(measured).encode(),
    }
    return write_bundle(out, bundle.manifest, files), measured


def score_error(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """95th percentile of how far the plant's log score moves between two scorings [T, S] of the same readings."""
    return float(np.quantile(np.abs(plant_score(before) - plant_score(after)), 0.95))


def quantised(model: bytes) -> tuple[bytes, int]:
    """``model.onnx`` with int8 weights, and how many weights they are."""
    import onnx
    from onnx import helper, numpy_helper

    graph_of = onnx.load_from_string(model)
    graph = graph_of.graph
    nodes, count = [], 0
    for tensor in list(graph.initializer):
        weight = numpy_helper.to_array(tensor)
        if weight.dtype != np.float32 or weight.ndim < 2 or weight.size < _LEAST_WEIGHTS:
            continue
        axis = _channel_axis(graph, tensor.name, weight.ndim)
        others = tuple(place for place in range(weight.ndim) if place != axis)
        scale = np.maximum(np.abs(weight).max(others), np.float32(1e-12)) / np.float32(_LARGEST)
        small = np.rint(weight / np.expand_dims(scale, others)).astype(np.int8)
        stored = (f"{tensor.name}.int8", f"{tensor.name}.scale")
        graph.initializer.remove(tensor)
        graph.initializer.extend(numpy_helper.from_array(a, n) for a, n in zip((small, scale), stored, strict=True))
        nodes.append(helper.make_node("DequantizeLinear", stored, [tensor.name], axis=axis))
        count += weight.size
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    onnx.checker.check_model(graph_of, full_check=True)
    return bytes(graph_of.SerializeToString()), count


def _channel_axis(graph: Any, name: str, rank: int) -> int:
    """The axis of the outputs where the weight is multiplied with, else the first."""
    for node in graph.node:
        if name in list(node.input)[1:2] and node.op_type in ("MatMul", "Gemm"):
            transposed = any(one.name == "transB" and one.i for one in node.attribute)
            return 0 if transposed else rank - 1
    return 0


def _golden(bundle: Bundle, model: bytes) -> dict[str, NDArray[Any]]:
    """Golden arrays with the outputs of ``model``."""
    golden = bundle.golden
    step = ModelStep(model, bundle.manifest)
    step.resize(golden.sensors, None)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in OUTPUTS}
    for tick in range(golden.ticks):
        for name in INPUTS:
            getattr(step, name)[:] = golden.inputs[name][tick]
        step.run()
        for name in OUTPUTS:
            found[name].append(getattr(step, name).copy())
    given = {f"in.{name}": np.asarray(golden.inputs[name]) for name in INPUTS}
    return given | {f"out.{name}": np.stack(column) for name, column in found.items()}


def _tick_ms(bundle: Bundle, model: bytes) -> float:
    golden = bundle.golden
    step = ModelStep(model, bundle.manifest)
    step.resize(golden.sensors, None)
    for name in INPUTS:
        getattr(step, name)[:] = golden.inputs[name][0]
    times = []
    for _ in range(_TIMED_TICKS):
        started = time.perf_counter()
        step.run()
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times))


def _section(measured: Quantisation) -> str:
    return f"""
## int8

{measured.weights:,} weights are stored in one byte each: `model.onnx` has {measured.bytes_after:,} bytes instead of
{measured.bytes_before:,}, and a tick took {measured.tick_ms_after:.3f} ms instead of {measured.tick_ms_before:.3f}. The
plant's log score changes by {measured.score_error:.4f} (95th percentile of held-out ticks).
"""
