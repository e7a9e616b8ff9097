"""Models that the gate refuses without running them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
from bundle_factory import GraphBuilder, make_model
from corpus import altered, built, model_case
from onnx import TensorProto, helper, numpy_helper


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    parts = []
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, value: bytes | int) -> bytes:
    """A field of bytes, or of an integer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def node(kind: str, inputs: tuple[str, ...] = ("value",), **attributes: Any) -> Callable[[], bytes]:
    return built(lambda b: b.nodes.append(helper.make_node(kind, list(inputs), ["surplus"], **attributes)))


def raw_node(content: bytes) -> Callable[[], bytes]:
    """A node of plain bytes at the end of the graph."""
    return with_graph_fields(field(1, content))


def with_graph_fields(content: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        model = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 18)])
        model.ClearField("graph")
        return model.SerializeToString() + field(7, content)

    return make


def tensor(**fields: Any) -> Callable[[], bytes]:
    return altered(lambda model: model.graph.initializer.append(TensorProto(name="surplus", **fields)))


def external(location: str) -> Callable[[], bytes]:
    def change(model: Any) -> None:
        found = model.graph.initializer[0]
        found.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "4")):
            entry = found.external_data.add()
            entry.key, entry.value = key, value

    return altered(change)


def functions(number: int, recursive: bool = False) -> Callable[[], bytes]:
    def change(model: Any) -> None:
        opset = [helper.make_opsetid("", 18), helper.make_opsetid("lol", 1)]
        model.opset_import.append(opset[1])
        for place in range(number):
            below = "lol0" if recursive else f"lol{place - 1}"
            kind, domain = ("Abs", "") if place == 0 and not recursive else (below, "lol")
            nodes = [
                helper.make_node(kind, ["x"], ["y"], domain=domain),
                helper.make_node(kind, ["y"], ["z"], domain=domain),
            ]
            model.functions.append(helper.make_function("lol", f"lol{place}", ["x"], ["z"], nodes, opset))
        model.graph.node.append(helper.make_node(f"lol{number - 1}", ["value"], ["surplus"], domain="lol"))

    return altered(change)


def nested_ifs(depth: int) -> Callable[[], bytes]:
    def make() -> bytes:
        # Written by hand: the package refuses to go that deep.
        graph = b""
        for _ in range(depth):
            branch = field(1, b"then_branch") + field(6, graph) + field(20, 5)
            graph = field(1, field(4, b"If") + field(5, branch))
        return with_graph_fields(graph)()

    return make


def loop() -> bytes:
    body = helper.make_graph([helper.make_node("Identity", ["c"], ["d"])], "body", [], [])
    return built(
        lambda b: b.nodes.append(helper.make_node("Loop", [b.const(2**62, np.int64), ""], ["surplus"], body=body))
    )()


def cycle(model: Any) -> None:
    model.graph.node.extend([helper.make_node("Abs", ["b"], ["a"]), helper.make_node("Abs", ["a"], ["b"])])


def twice_given(model: Any) -> None:
    model.graph.node.append(helper.make_node("Abs", ["value"], ["score"]))


def sparse(model: Any) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [4])
    )


def many_small_tensors(model: Any) -> None:
    """Eight bytes in memory for each byte in the file."""
    for place in range(3):
        ones = TensorProto(name=f"t{place}", data_type=TensorProto.INT64, dims=[4 << 20])
        ones.int64_data.extend([1] * (4 << 20))
        model.graph.initializer.append(ones)


def sequence_value(model: Any) -> None:
    inner = helper.make_tensor_type_proto(1, [1])
    model.graph.value_info.append(helper.make_value_info("s", helper.make_sequence_type_proto(inner)))


def shadowing(model: Any) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "value"))


def surplus_opset(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("", 17))


def opset(version: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    return change


def sized_by(kind: str) -> Callable[[GraphBuilder], None]:
    """A bomb with a fuse: harmless while a counter in the state is small, gigabytes a week later."""

    def change(b: GraphBuilder) -> None:
        count = b.op("Cast", b.op("ReduceMax", "state.count", keepdims=1), to=7)
        if kind == "Range":
            one = b.const(0, np.int64)
            b.op("Range", one, b.op("Squeeze", count), b.const(1, np.int64))
        elif kind == "Pad":
            b.op("Pad", "value", b.op("Concat", b.const([0], np.int64), count, axis=0))
        elif kind == "TopK":
            b.nodes.append(helper.make_node("TopK", ["value", count], ["most", "where"]))
        else:
            b.op(kind, b.const([1.0]), count)

    return change


def shape_of_sliced(b: GraphBuilder) -> None:
    """The size is a shape, but the shape depends on data."""
    count = b.op("Cast", b.op("ReduceMax", "state.count", keepdims=1), to=7)
    part = b.op("Slice", "value", b.const([0], np.int64), count)
    b.op("Expand", b.const([1.0]), b.op("Shape", part))


def cut_off() -> bytes:
    return make_model()[:-7]


SUBGRAPH, EXTERNAL = "got a subgraph (If, Loop, Scan)", "got weights in an external file"
CASES = [
    model_case("external data above the folder", EXTERNAL, external("../../etc/passwd")),
    model_case("external data in a device", EXTERNAL, external("/dev/zero")),
    model_case("external data beside the model", EXTERNAL, external("card.md")),
    model_case("external data by its flag only", EXTERNAL, tensor(data_type=1, dims=[1], data_location=1)),
    model_case("shape that overflows", "expected at most 33554432 elements", tensor(data_type=1, dims=[2**62, 2**62])),
    model_case("shape below zero", "expected at most 33554432 elements", tensor(data_type=1, dims=[-1])),
    model_case("shape of a terabyte", "expected at most 33554432 elements", tensor(data_type=1, dims=[2**30, 2**8])),
    model_case("shape of nine dimensions", "more than 8 dimensions", tensor(data_type=1, dims=[1] * 9)),
    model_case("numbers missing", "got 2 numbers for a tensor of 4", tensor(data_type=1, dims=[4], float_data=[1, 2])),
    model_case(
        "numbers in excess", "got 3 numbers for a tensor of 1", tensor(data_type=7, dims=[1], int64_data=[1] * 3)
    ),
    model_case("no numbers", "got 0 numbers for a tensor of 4", tensor(data_type=1, dims=[4])),
    model_case("raw bytes missing", "got 3 bytes for a tensor of 1", tensor(data_type=1, dims=[1], raw_data=b"abc")),
    model_case(
        "numbers in two places", "expected one place", tensor(data_type=1, dims=[1], raw_data=bytes(4), float_data=[1])
    ),
    model_case("numbers in the wrong place", "expected one place", tensor(data_type=1, dims=[1], int32_data=[1])),
    model_case("numbers of unknown type", "element type 21", tensor(data_type=21, dims=[2], int32_data=[1])),
    model_case("tensor of text", "tensor of text", tensor(data_type=8, dims=[1], string_data=[b"x"])),
    model_case("eight times the file in memory", "bytes together", altered(many_small_tensors)),
    model_case("ConstantOfShape of 8 GB", "operator not allowed: got 'ConstantOfShape'", node("ConstantOfShape")),
    model_case("loop of 2^62 rounds", SUBGRAPH, loop),
    model_case("2,000 conditions in one another", SUBGRAPH, nested_ifs(2_000)),
    model_case("scan without a body", "operator not allowed: got 'Scan'", node("Scan")),
    model_case("a billion laughs", "got local functions", functions(25)),
    model_case("function that calls itself", "got local functions", functions(1, recursive=True)),
    model_case("cycle", "needs 'b', which nothing before it gives", altered(cycle)),
    model_case("value given twice", "the value 'score' is given twice", altered(twice_given)),
    model_case("weights in place of an input", "the value 'value' is given twice", altered(shadowing)),
    model_case("200,000 nodes", "got more than", with_graph_fields(field(1, field(4, b"Abs")) * 200_000)),
    model_case("a million fields", "got more than 300000 fields", lambda: field(7, b"") * 1_000_000),
    model_case("operator of a foreign domain", "operator domain 'com.example'", node("Abs", domain="com.example")),
    model_case("operator that runs Python", "'ai.onnx.contrib' is not allowed", node("PyOp", domain="ai.onnx.contrib")),
    model_case("operator that reads a file", "'com.microsoft' is not", node("EPContext", domain="com.microsoft")),
    model_case("random numbers", "operator not allowed: got 'RandomNormal'", node("RandomNormal", (), shape=[2])),
    model_case("sparse weights", "got a sparse initializer", altered(sparse)),
    model_case("cast to text", "got a Cast to element type 8", node("Cast", to=8)),
    model_case("constant of text", "got a constant of text", node("Constant", (), value_string="x" * 100)),
    model_case("sequence", "got a value that is no tensor", altered(sequence_value)),
    model_case("second import of operators", "got opset 17", altered(surplus_opset)),
    model_case("operators of the future", "got opset 99, expected 18 to 21", altered(opset(99))),
    model_case("operators of the past", "got opset 7, expected 18 to 21", altered(opset(7))),
    model_case("training information", "got training information", altered(lambda m: m.training_info.add())),
    model_case("over several devices", "got a distribution over devices", lambda: make_model() + field(26, b"")),
    model_case("second graph to be merged", "2 graphs", lambda: make_model() + field(7, b"")),
    model_case(
        "operator named twice", "field 4 of a node appears twice", raw_node(field(4, b"Abs") + field(4, b"Loop"))
    ),
    model_case(
        "attribute twice",
        "has an attribute twice",
        raw_node(field(5, field(1, b"a") + field(20, 2)) * 2 + field(4, b"Abs")),
    ),
    model_case(
        "attribute of two types",
        "a value of another type",
        raw_node(field(5, field(3, 1) + field(20, 1)) + field(4, b"Abs")),
    ),
    model_case("attribute by reference", "sparse or referenced", raw_node(field(5, field(21, b"x")))),
    model_case("unknown field", "a node has no field 77", raw_node(field(77, b"x"))),
    model_case("number for text", "got a number, expected name", raw_node(field(4, 1))),
    model_case("name with a NUL", "a name has a NUL in it", raw_node(field(4, b"Abs\0Loop"))),
    model_case("name that is no text", "a name is not UTF-8", raw_node(field(4, b"\xff\xfe"))),
    model_case("name of a megabyte", "got a name of 1000000 bytes", raw_node(field(1, b"x" * 1_000_000))),
    model_case(
        "Expand by what was counted", "the size of what Expand gives depends on data", built(sized_by("Expand"))
    ),
    model_case("Tile by what was counted", "the size of what Tile gives depends on data", built(sized_by("Tile"))),
    model_case("Range by what was counted", "the size of what Range gives depends on data", built(sized_by("Range"))),
    model_case("Pad by what was counted", "the size of what Pad gives depends on data", built(sized_by("Pad"))),
    model_case("TopK by what was counted", "the size of what TopK gives depends on data", built(sized_by("TopK"))),
    model_case("shape of what depends on data", "the size of what Slice gives depends on data", built(shape_of_sliced)),
    model_case("pickle by the name of a model", "not an ONNX file", lambda: pickle.dumps(print)),
    model_case("noise", "not an ONNX file", lambda: np.random.default_rng(5).bytes(5_000)),
    model_case("cut off", "not an ONNX file", cut_off),
    model_case("something behind the end", "not an ONNX file", lambda: make_model() + b"\0" * 64),
    model_case("number without an end", "longer than 64 bits", lambda: b"\x08" + b"\xff" * 20),
    model_case("nothing", "got 0 bytes", bytes),
]
