from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from bundle_factory import GraphBuilder, make_model
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import inspect_model, onnx_gate
from edge_agent.errors import BundleError

GOOD = make_model()


def add_node(kind: str, **attributes: Any) -> Callable[[GraphBuilder], None]:
    def change(builder: GraphBuilder) -> None:
        builder.nodes.append(helper.make_node(kind, ["value"], ["surplus"], **attributes))

    return change


def empty_graph() -> Any:
    return helper.make_graph([], "inner", [], [])


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def local_function(model: Any) -> None:
    node = helper.make_node("Add", ["a", "a"], ["b"])
    model.functions.append(helper.make_function("", "F", ["a"], ["b"], [node], [helper.make_opsetid("", 18)]))


def sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))


def grow_first_tensor(*dims: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.initializer[0].dims[:] = dims

    return change


def text_tensor(model: Any) -> None:
    model.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [1], ["x"]))


def many_nodes(model: Any) -> None:
    model.graph.node.extend([helper.make_node("Identity", ["value"], [f"n{i}"]) for i in range(onnx_gate.MAX_NODES)])


def many_tensors(model: Any) -> None:
    names = (f"t{number}" for number in range(onnx_gate.MAX_TENSORS + 1))
    model.graph.initializer.extend([TensorProto(name=name, data_type=1, raw_data=bytes(4)) for name in names])


def custom_import(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def training(model: Any) -> None:
    model.training_info.add()


def no_type(model: Any) -> None:
    model.graph.output.add().name = "surplus"


NODES = [
    (add_node("If", then_branch=empty_graph(), else_branch=empty_graph()), "subgraph (If, Loop, Scan)"),
    (add_node("Loop", body=empty_graph()), "subgraph (If, Loop, Scan)"),
    (add_node("Loop"), "operator not allowed: got 'Loop'"),
    (add_node("ConstantOfShape"), "operator not allowed: got 'ConstantOfShape'"),
    (add_node("RandomNormal", shape=[2]), "operator not allowed: got 'RandomNormal'"),
    (add_node("Abs", domain="com.example"), "operator domain 'com.example' is not allowed"),
    (add_node(""), "operator not allowed: got ''"),
]
MODELS = [
    (external, "got weights in an external file"),
    (local_function, "got local functions, expected a flat graph"),
    (sparse, "got a sparse initializer"),
    (grow_first_tensor(1 << 13, 1 << 13), "expected at most 33554432 elements"),
    (grow_first_tensor(-1), "expected at most 33554432 elements"),
    (grow_first_tensor(*[1] * 9), "more than 8 dimensions"),
    (grow_first_tensor(2), "got 4 bytes for a tensor of 2 elements"),
    (text_tensor, "got a tensor of text or in segments"),
    (many_nodes, "got more than 5000 nodes"),
    (many_tensors, "got more than 5000 tensors"),
    (custom_import, "operator domain 'com.example' is not allowed"),
    (training, "got training information"),
    (no_type, "not a named tensor"),
]


def refusal(raw: bytes) -> str:
    with pytest.raises(BundleError, match=r"^model\.onnx: ") as caught:
        inspect_model(raw)
    return str(caught.value)


def test_good_model_is_described_as_the_onnx_package_sees_it() -> None:
    facts = inspect_model(GOOD)
    model = onnx.load_from_string(GOOD)
    assert facts.operators == tuple(sorted({node.op_type for node in model.graph.node}))
    assert facts.opset == 18
    assert [port.name for port in facts.inputs] == [port.name for port in model.graph.input]
    trace = next(port for port in facts.outputs if port.name == "next_state.trace")
    assert (trace.element_type, trace.shape) == (1, (None, 4))


@pytest.mark.parametrize(("change", "message"), NODES, ids=[message for _, message in NODES])
def test_model_with_a_forbidden_node_is_refused(change: Callable[[GraphBuilder], None], message: str) -> None:
    assert message in refusal(make_model(change_builder=change))


@pytest.mark.parametrize(("change", "message"), MODELS, ids=[change.__name__ for change, _ in MODELS])
def test_model_that_is_not_a_plain_small_graph_is_refused(change: Callable[[Any], None], message: str) -> None:
    assert message in refusal(make_model(change_model=change))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "got 0 bytes, expected 1 to"),
        (GOOD[:-1], "not an ONNX file: cut off"),
        (GOOD + GOOD, "field 1 of a model appears twice, expected once"),
        (b"\x80\x05pickled", "not an ONNX file"),
        (b"\x00", "not an ONNX file: field number 0"),
        (b"\x0b", "not an ONNX file: wire type 3"),
        (b"\x08" + b"\xff" * 10, "a number is longer than 64 bits"),
        (b"\x42\x02\x10\x12\x38\x01", "field 7 of a model: got a number, expected message"),
        (b"\x3a\x00" * (onnx_gate.MAX_FIELDS + 1), "got more than 300000 fields"),
    ],
)
def test_bytes_that_are_no_model_are_refused(raw: bytes, message: str) -> None:
    assert message in refusal(raw)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4))
def test_any_damage_gives_facts_or_a_bundle_error(position: int, patch: bytes) -> None:
    damaged = GOOD[:position] + patch + GOOD[position + len(patch) :]
    try:
        inspect_model(damaged)
    except BundleError:
        return
