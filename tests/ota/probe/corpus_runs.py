"""Models that pass the gate: well-formed, and no good. What is wrong with them shows when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bundle_factory import GraphBuilder, mix_types, nan_when_value_is_below_minus_1000, rewire
from corpus import probe_case
from onnx import helper

from edge_agent.bundle import Limits

TIGHT = Limits(p99_ms=5.0, rss_mb=20.0)


def added_to_score(make: Callable[[GraphBuilder], str]) -> Callable[[GraphBuilder], None]:
    """The score plus nothing at all, computed the long way: folded or run, it has to be computed."""

    def change(b: GraphBuilder, before: str) -> str:
        return b.op("Add", before, b.op("Mul", b.op("ReduceMax", make(b), keepdims=0), b.const(0.0)))

    return rewire("score", change)


def square(b: GraphBuilder, side: int, of: str) -> str:
    return b.op("Expand", of, b.const([side, side], np.int64))


def live(b: GraphBuilder) -> str:
    """A small number that depends on data, so that nothing can be computed in advance."""
    return b.op("Mul", b.op("Tanh", b.op("ReduceMax", "value", keepdims=1)), b.const([1e-6]))


def products(rounds: int, side: int, constant: bool) -> Callable[[GraphBuilder], str]:
    def make(b: GraphBuilder) -> str:
        matrix = square(b, side, b.const([1e-6]) if constant else live(b))
        for _ in range(rounds):
            matrix = b.op("MatMul", matrix, matrix)
        return matrix

    return make


def expanded(*dims: int) -> Callable[[GraphBuilder], str]:
    return lambda b: b.op("Expand", live(b), b.const(dims, np.int64))


def expanded_at_load(*dims: int) -> Callable[[GraphBuilder], str]:
    return lambda b: b.op("Sin", b.op("Expand", b.const([0.5]), b.const(dims, np.int64)))


def tiled(b: GraphBuilder) -> str:
    return b.op("Tile", live(b), b.const([2**31], np.int64))


def ranged(b: GraphBuilder) -> str:
    whole = b.op("Range", *(b.const(number, np.int64) for number in (0, 2**33, 1)))
    return b.op("Mul", b.op("Cast", whole, to=1), live(b))


def padded(b: GraphBuilder) -> str:
    return b.op("Pad", live(b), b.const([0, 2**32], np.int64))


def outer(b: GraphBuilder) -> str:
    line = b.op("Expand", live(b), b.const([3_000], np.int64))
    return b.op("Einsum", line, line, line, equation="i,j,k->ijk")


def squared_sizes(b: GraphBuilder) -> str:
    """Doubles its size thirty times."""
    line = live(b)
    for _ in range(33):
        line = b.op("Concat", line, line, axis=0)
    return line


def convolved(b: GraphBuilder) -> str:
    flat = b.op("Reshape", live(b), b.const([1, 1, 1], np.int64))
    return b.op("Conv", flat, b.const([[[1.0]]]), pads=[0, 2**40])


def recurrent(b: GraphBuilder) -> str:
    flat = b.op("Reshape", live(b), b.const([1, 1, 1], np.int64))
    weights = [b.const(np.ones((1, 4, 1))), b.const(np.ones((1, 4, 1)))]
    b.nodes.append(helper.make_node("LSTM", [flat, *weights], ["lstm"], hidden_size=2**31 - 1))
    return "lstm"


def divided(b: GraphBuilder, before: str) -> str:
    return b.op("Add", before, b.op("Div", b.const(1.0), b.op("Sub", b.op("Abs", before), b.op("Abs", before))))


def size_of(b: GraphBuilder) -> str:
    return b.op("Cast", b.op("Size", "value"), to=1)


def scaled_by_size(b: GraphBuilder, before: str) -> str:
    return b.op("Mul", before, size_of(b))


def infinite_at(size: float) -> Callable[[GraphBuilder, str], str]:
    return lambda b, before: b.op("Div", before, b.op("Abs", b.op("Sub", size_of(b), b.const(size))))


def summed_over_rows(b: GraphBuilder, before: str) -> str:
    return b.op("CumSum", before, b.const(0, np.int64))


def shifted_rows(b: GraphBuilder, before: str) -> str:
    last = b.op("Slice", before, b.const([-1], np.int64), b.const([2**31], np.int64))
    rest = b.op("Slice", before, b.const([0], np.int64), b.const([-1], np.int64))
    return b.op("Concat", last, rest, axis=0)


def mean_of_all(b: GraphBuilder, before: str) -> str:
    return b.op("Add", before, b.op("ReduceMean", "age"))


def doubled_gain(model: Any) -> None:
    for tensor in model.graph.initializer:
        if tensor.raw_data == np.float32(0.05).tobytes():
            tensor.raw_data = np.float32(0.1).tobytes()


def growing(b: GraphBuilder, before: str) -> str:
    """A state that grows without end."""
    return b.op("Mul", b.op("Add", "state.mean", before), b.const(1e12))


def overflowing(b: GraphBuilder, before: str) -> str:
    return b.op("Add", before, b.op("Pow", "value", b.const(4.0)))


def nothing(b: GraphBuilder) -> None:
    """The good model, whose manifest promises too much."""


MEMORY, FINITE = "it needs too much memory", "that are not finite"
CASES = [
    probe_case("division by zero", "not finite", rewire("score", divided), own_golden=False),
    probe_case("not finite on hard input", FINITE, rewire("score", nan_when_value_is_below_minus_1000)),
    probe_case("square of a square", FINITE, rewire("expected", overflowing), own_golden=True),
    probe_case("state without bounds", "", rewire("next_state.mean", growing)),
    probe_case("other weights than were tested", "golden tick", nothing, doubled_gain),
    probe_case(
        "state forgotten", "golden tick 1", rewire("next_state.mean", lambda b, x: b.op("Mul", x, b.const(0.0)))
    ),
    probe_case(
        "twice as many scores", "the model failed on", rewire("score", lambda b, x: b.op("Concat", x, x, axis=0))
    ),
    probe_case(
        "one score for all", "the model failed on", rewire("score", lambda b, x: b.op("ReduceMax", x, keepdims=1))
    ),
    probe_case("state of another width", "", rewire("next_state.trace", lambda b, x: b.op("Concat", x, x, axis=1))),
    probe_case("types that do not fit", "cannot load it", mix_types),
    probe_case(
        "sensors baked in",
        "the model failed on 1 sensors",
        rewire("score", lambda b, x: b.op("Reshape", x, b.const([5], np.int64))),
    ),
    probe_case(
        "score by the number of sensors", "with silent sensors beside", rewire("score", scaled_by_size), own_golden=True
    ),
    probe_case("infinite for one sensor", FINITE, rewire("score", infinite_at(1)), own_golden=True),
    probe_case("infinite for 15 sensors", FINITE, rewire("score", infinite_at(15)), own_golden=True),
    probe_case("rows summed up", "in reverse order", rewire("score", summed_over_rows), own_golden=True),
    probe_case("rows shifted", "in reverse order", rewire("expected", shifted_rows), own_golden=True),
    probe_case("silent sensors heard", "with silent sensors beside", rewire("score", mean_of_all), own_golden=True),
    probe_case("8 GB at each tick", MEMORY, added_to_score(expanded(2**31))),
    probe_case("8 GB while loading", MEMORY, added_to_score(expanded_at_load(2**31))),
    probe_case("2^31 tiles", MEMORY, added_to_score(tiled)),
    probe_case("range of 2^33", MEMORY, added_to_score(ranged)),
    probe_case("padded by 2^32", MEMORY, added_to_score(padded)),
    probe_case("outer product of 27 * 10^9", MEMORY, added_to_score(outer)),
    probe_case("doubled 33 times", MEMORY, added_to_score(squared_sizes)),
    probe_case("convolution padded by 2^40", "", added_to_score(convolved)),
    probe_case("recurrent layer of 2^31 cells", "", added_to_score(recurrent)),
    probe_case(
        "more memory than promised",
        "MB of memory, expected at most 20",
        added_to_score(expanded(6_000_000)),
        limits=Limits(p99_ms=500.0, rss_mb=20.0),
    ),
    probe_case(
        "products at each tick",
        "p99 of a tick with 5 sensors is above",
        added_to_score(products(6, 1_000, constant=False)),
        limits=TIGHT,
    ),
    probe_case("products without end", "processor time", added_to_score(products(4_000, 900, constant=False))),
    probe_case("products while loading", MEMORY, added_to_score(products(4_000, 900, constant=True))),
    probe_case(
        "slower than promised", "p99 of a tick with 5 sensors is", nothing, limits=Limits(p99_ms=0.001, rss_mb=100.0)
    ),
]
