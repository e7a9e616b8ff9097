"""Small real bundles for tests: an online z-score that also looks at the neighbours, as an ONNX graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper

from edge_agent.bundle import (
    Bundle,
    BundleKind,
    Limits,
    Manifest,
    Provenance,
    SensorSpec,
    StateSpec,
    TrainedEdge,
    verify_bundle,
    write_npz,
)
from edge_agent.bundle.store import seal

K, D, WARMUP, TRACE = 3, 2, 20, 4
STATES = (StateSpec("mean", ()), StateSpec("variance", ()), StateSpec("count", ()), StateSpec("trace", (TRACE,), 0.5))


class GraphBuilder:
    """Writes one ONNX node per call and gives back the name of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def op(self, kind: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"const_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name


def build_graph(g: GraphBuilder) -> None:
    """The tick: exponentially weighted mean and variance of every sensor, z minus half the neighbours' mean z."""
    one, zero = g.const(1.0), g.const(0.0)
    present = g.op("Equal", "quality", g.const(0, np.int32))
    first = g.op("Less", "state.count", g.const(0.5))
    residual = g.op("Where", first, zero, g.op("Sub", "value", "state.mean"))
    gain = g.const(0.05)
    mean = g.op("Where", first, "value", g.op("Add", "state.mean", g.op("Mul", gain, residual)))
    spread = g.op("Sub", g.op("Mul", residual, residual), "state.variance")
    variance = g.op("Add", "state.variance", g.op("Mul", gain, spread))
    g.op("Where", present, mean, "state.mean", out="next_state.mean")
    g.op("Where", present, variance, "state.variance", out="next_state.variance")
    g.op(
        "Where",
        present,
        g.op("Min", g.op("Add", "state.count", one), g.const(1e6)),
        "state.count",
        out="next_state.count",
    )
    g.op("Sqrt", g.op("Add", "state.variance", g.const(1e-6)), out="scale")
    z = g.op("Where", present, g.op("Div", residual, "scale"), zero)
    column = g.op("Unsqueeze", z, g.const([1], np.int64))
    g.op("Tanh", g.op("Add", g.op("Mul", "state.trace", g.const(0.9)), column), out="next_state.trace")
    none = g.op("Less", "neighbour", g.const(0, np.int64))
    weight = g.op("Where", none, zero, one)
    total = g.op("Max", g.op("ReduceSum", weight, g.const([1], np.int64), keepdims=1), one)
    g.op("Div", weight, total, out="attention")
    theirs = g.op("Gather", z, g.op("Max", "neighbour", g.const(0, np.int64)))
    around = g.op("ReduceSum", g.op("Mul", theirs, "attention"), g.const([1], np.int64), keepdims=0)
    shift = g.op("Mul", around, g.const(0.5))
    g.op("Add", "state.mean", g.op("Mul", shift, "scale"), out="expected")
    ready = g.op("Less", g.const(float(WARMUP)), "state.count")
    own = g.op("ReduceSum", "context", g.const([1], np.int64), keepdims=0)
    raw = g.op("Add", g.op("Abs", g.op("Sub", z, shift)), g.op("Mul", own, g.const(1e-3)))
    g.op("Where", g.op("And", present, ready), raw, zero, out="score")


def ports(states: tuple[StateSpec, ...] = STATES, k: int = K, d: int = D) -> tuple[list[Any], list[Any]]:
    """The declared inputs and outputs by the contract."""

    def info(name: str, kind: int, *tail: int) -> Any:
        return helper.make_tensor_value_info(name, kind, ["N", *tail])

    inputs = [info("value", 1), info("age", 1), info("quality", 6), info("neighbour", 7, k), info("context", 1, d)]
    outputs = [info("expected", 1), info("scale", 1), info("score", 1), info("attention", 1, k)]
    inputs += [info(f"state.{state.name}", 1, *state.shape) for state in states]
    outputs += [info(f"next_state.{state.name}", 1, *state.shape) for state in states]
    return inputs, outputs


def make_model(
    change_builder: Callable[[GraphBuilder], None] | None = None,
    change_model: Callable[[Any], None] | None = None,
    k: int = K,
) -> bytes:
    """The model file; ``change_builder`` edits the nodes, ``change_model`` the finished protobuf."""
    builder = GraphBuilder()
    build_graph(builder)
    if change_builder:
        change_builder(builder)
    graph = helper.make_graph(builder.nodes, "tick", *ports(k=k), initializer=builder.tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if change_model:
        change_model(model)
    return model.SerializeToString()


def make_manifest(sensors: tuple[str, ...] = (), **changes: Any) -> Manifest:
    """A universal manifest, or a site manifest when ``sensors`` are given."""
    fields: dict[str, Any] = {
        "name": "tiny",
        "version": "1.0.0",
        "kind": BundleKind.SITE if sensors else BundleKind.UNIVERSAL,
        "created": "2026-11-20T00:00:00Z",
        "tick_s": None,
        "neighbours": K,
        "context": D,
        "default_context": (0.0, 0.0),
        "warmup_ticks": WARMUP,
        "states": STATES,
        "limits": Limits(p99_ms=500.0, rss_mb=100.0),
        "provenance": Provenance("0.1.0", "", "0" * 64, 0, "test"),
        "sensors": tuple(SensorSpec(name, "mm", (1.0, float(row))) for row, name in enumerate(sensors)),
        "edges": tuple(TrainedEdge(a, b, 0.5) for a, b in itertools.pairwise(sensors)),
    }
    return Manifest(**(fields | changes))


def ring(sensors: int, k: int = K) -> np.ndarray:
    """Every sensor's neighbours are those before it, as far as there are any."""
    rows = np.arange(sensors)[:, None] - np.arange(1, k + 1)[None, :]
    return np.where(rows >= 0, rows, -1).astype(np.int64)


def golden_inputs(ticks: int = 64, sensors: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    quality = (rng.random((ticks, sensors)) < 0.05).astype(np.int32)
    return {
        "value": (20 + rng.normal(size=(ticks, sensors))).astype(np.float32),
        "age": quality.astype(np.float32),
        "quality": quality,
        "neighbour": np.repeat(ring(sensors)[None], ticks, 0),
        "context": np.zeros((ticks, sensors, D), np.float32),
    }


def run_golden(model: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What plain ONNX Runtime gives for the recorded inputs."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sensors = inputs["value"].shape[1]
    state = {f"state.{s.name}": np.full((sensors, *s.shape), s.init, np.float32) for s in STATES}
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in ("expected", "scale", "score", "attention")}
    names = [output.name for output in session.get_outputs()]
    for tick in range(len(inputs["value"])):
        feed = {name: array[tick] for name, array in inputs.items()}
        found = dict(zip(names, session.run(None, {**feed, **state}), strict=True))
        for name, rows in outputs.items():
            rows.append(found[name])
        state = {f"state.{s.name}": found[f"next_state.{s.name}"] for s in STATES}
    return {name: np.stack(rows) for name, rows in outputs.items()}


def make_parts(sensors: tuple[str, ...] = (), model: bytes | None = None, **arrays: np.ndarray) -> dict[str, bytes]:
    """All files but the manifest. ``arrays`` replace golden arrays by name (``in.value``, ``out.score`` …)."""
    inputs = golden_inputs()
    outputs = run_golden(make_model(), inputs)
    golden = {f"in.{k}": v for k, v in inputs.items()} | {f"out.{k}": v for k, v in outputs.items()}
    scores = np.abs(np.random.default_rng(1).normal(size=(50, len(sensors)))).astype(np.float32)
    return {
        "model.onnx": make_model() if model is None else model,
        "calibration.npz": write_npz({"sensor_names": np.array(sensors, dtype=np.str_), "scores": scores}),
        "golden.npz": write_npz(golden | {name.replace("__", "."): array for name, array in arrays.items()}),
        "card.md": b"# tiny\n\nFor tests.\n",
        "LICENSE": b"Apache-2.0\n",
    }


def make_files(sensors: tuple[str, ...] = (), model: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """All files of a bundle whose manifest agrees with them, as far as ``model`` can be read at all."""
    return seal(make_manifest(sensors, **changes), make_parts(sensors, model))


def rewire(output: str, make: Callable[[GraphBuilder, str], str]) -> Callable[[GraphBuilder], None]:
    """Compute ``output`` through one more expression, which ``make`` builds from its old value."""

    def change(builder: GraphBuilder) -> None:
        node = next(node for node in builder.nodes if output in node.output)
        node.output[:] = ["before"]
        place, known = builder.nodes.index(node) + 1, len(builder.nodes)
        builder.op("Identity", make(builder, "before"), out=output)
        builder.nodes[place:] = builder.nodes[known:] + builder.nodes[place:known]  # before whatever uses it

    return change


def nan_when_value_is_below_minus_1000(builder: GraphBuilder, before: str) -> str:
    nothing = builder.op("Log", builder.op("Add", "value", builder.const(1000.0)))
    return builder.op("Add", before, builder.op("Mul", nothing, builder.const(0.0)))


def bundle_with(change: Callable[[GraphBuilder], None], **changes: Any) -> Bundle:
    return verify_bundle(make_files(model=make_model(change_builder=change), **changes))


def mix_types(builder: GraphBuilder) -> None:
    builder.nodes.append(helper.make_node("Add", ["value", "quality"], ["surplus"]))
