"""Models that must never be refused, written as exporters write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from bundle_factory import make_model
from onnx import TensorProto, helper, numpy_helper


def large_model(size: int) -> bytes:
    """Many nodes and weights, ``size`` bytes or more."""

    def change(model: Any) -> None:
        weights = numpy_helper.from_array(np.zeros(size // 4, np.float32), "large")
        model.graph.initializer.append(weights)
        for number in range(500):
            before = f"step{number - 1}" if number else "value"
            model.graph.node.append(helper.make_node("Abs", [before], [f"step{number}"], name=f"node_{number}"))

    return make_model(change_model=change)


def typed(kind: int, numbers: list[Any]) -> Callable[[Any], None]:
    """Weights in typed fields, as other tools write them."""

    def change(model: Any) -> None:
        model.graph.initializer.append(helper.make_tensor("typed", kind, [len(numbers)], numbers))

    return change


def annotated(model: Any) -> None:
    """What PyTorch adds: where each value comes from."""
    for message in (model, model.graph, model.graph.node[0], model.graph.input[0], model.graph.initializer[0]):
        entry = message.metadata_props.add()
        entry.key, entry.value = "pkg.torch.onnx.stack_trace", "File x.py, line 1\n" * 200
    model.doc_string = model.graph.doc_string = "made by a test"
    model.producer_name, model.producer_version, model.model_version = "pytorch", "2.9.0", 3


def intermediate_shapes(model: Any) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("Sub_1", TensorProto.FLOAT, ["N"]))


def sizes_from_shapes(model: Any) -> None:
    """Shape, taken apart and put together again, then Expand: the usual way to broadcast."""
    one, zero = (helper.make_tensor(name, TensorProto.INT64, [1], [n]) for name, n in (("one", 1), ("zero", 0)))
    model.graph.initializer.extend([one, zero])
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["neighbour"], ["both"]),
            helper.make_node("Slice", ["both", "zero", "one"], ["rows"]),
            helper.make_node("Concat", ["rows", "one"], ["size"], axis=0),
            helper.make_node("Unsqueeze", ["value", "one"], ["column"]),
            helper.make_node("Expand", ["column", "size"], ["wide"]),
        ]
    )


def empty_constant(model: Any) -> None:
    """No elements, no bytes."""
    model.graph.initializer.append(TensorProto(name="none", data_type=TensorProto.FLOAT, dims=[0]))


CHANGES: list[Callable[[Any], None]] = [
    annotated,
    intermediate_shapes,
    sizes_from_shapes,
    empty_constant,
    *(
        typed(kind, [0, 1])
        for kind in (
            TensorProto.FLOAT,
            TensorProto.DOUBLE,
            TensorProto.INT8,
            TensorProto.UINT8,
            TensorProto.INT16,
            TensorProto.INT32,
            TensorProto.INT64,
            TensorProto.UINT32,
            TensorProto.UINT64,
            TensorProto.BOOL,
            TensorProto.FLOAT16,
            TensorProto.BFLOAT16,
        )
    ),
    typed(TensorProto.INT64, [-1, 2**40]),
    typed(TensorProto.INT32, [-1, 7]),
]
