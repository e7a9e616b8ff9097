"""What may be inside ``model.onnx``, decided on the wire format before any runtime sees the file. Pure.

A model is a program: `Loop` can run for ever, nested functions can blow up while loading, external data can name any
file. So the protobuf is walked here inside its bounds, without the `onnx` package (which has had its own holes), and
only a flat graph of known operators over small tensors is let through, in which every field is known
(:mod:`edge_agent.bundle.onnx_wire`) and no size depends on data (:mod:`edge_agent.bundle.onnx_flow`). What a
well-formed graph computes is not judged here; the self-test does that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.bundle.manifest import MODEL, OPSETS, max_bytes
from edge_agent.bundle.onnx_flow import Flow
from edge_agent.bundle.onnx_wire import (
    ATTRIBUTE,
    DIMENSION,
    ENTRY,
    GRAPH,
    MAX_FIELDS,
    MODEL_PROTO,
    NODE,
    OPSET,
    SHAPE,
    TENSOR,
    TENSOR_TYPE,
    TYPE,
    VALUE,
    Fields,
    Wire,
    refused,
)

__all__ = ["ALLOWED_OPERATORS", "FLOAT32", "INT32", "INT64", "MAX_FIELDS", "ModelFacts", "Port", "inspect_model"]

MAX_NODES = 5_000
MAX_TENSORS = 5_000
MAX_ELEMENTS = 32 << 20
MAX_TENSOR_BYTES = 64 << 20
"""Of all tensors together, unpacked: some forms of numbers take less room in the file than in memory."""
MAX_DIMENSIONS = 8

_ALLOWED = """
    Abs Add And ArgMax ArgMin Atan BatchNormalization Cast CastLike Ceil Clip Concat Constant Conv Cos CumSum
    DequantizeLinear Div Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LSTM LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax MatMul Max Mean Min Mod Mul Neg Not Or Pad Pow Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Scatter
    ScatterElements ScatterND Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum
    Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
    """
ALLOWED_OPERATORS = frozenset(_ALLOWED.split())
"""No control flow, no randomness, no strings, no sequences, no `ConstantOfShape` (use `Expand`), no custom domain."""

FLOAT32, INT32, INT64 = 1, 6, 7
_ELEMENT_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_RAW = 9
_TYPED = {1: 4, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 7, 9: 5, 10: 5, 11: 10, 12: 11, 13: 11, 16: 5}
"""The typed field in which numbers of an element type may be instead of ``raw_data``."""
_WIDTHS = {4: 4, 5: None, 7: None, 10: 8, 11: None}
_STANDARD_DOMAINS = ("", "ai.onnx")
_ATTRIBUTE_FIELDS = {1: 2, 2: 3, 3: 4, 4: 5, 6: 7, 7: 8, 8: 9, 9: 10}
"""Which field holds the value of an attribute of a type."""


@dataclass(frozen=True, slots=True)
class Port:
    """A declared input or output; a dimension is None where the model leaves it open, the shape if undeclared."""

    name: str
    element_type: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model says of itself: sorted operator names, opset, inputs and outputs."""

    operators: tuple[str, ...]
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def inspect_model(raw: bytes) -> ModelFacts:
    """Walk the whole model; :class:`~edge_agent.errors.BundleError` says what is not allowed in it."""
    if not 0 < len(raw) <= max_bytes(MODEL):
        raise refused(f"got {len(raw)} bytes, expected 1 to {max_bytes(MODEL)}")
    return _Gate().model(memoryview(raw))


class _Gate:
    """One walk over one file, with its counters."""

    def __init__(self) -> None:
        self._wire = Wire()
        self._flow = Flow()
        self._nodes = 0
        self._tensors = 0
        self._tensor_bytes = 0
        self._operators: set[str] = set()

    def model(self, message: memoryview) -> ModelFacts:
        model = self._wire.read(MODEL_PROTO, message)
        graphs, opsets = model.messages(7), [self.opset(message) for message in model.messages(8)]
        if len(graphs) != 1 or len(opsets) != 1:
            raise refused(f"got {len(graphs)} graphs and {len(opsets)} opset imports, expected one of each")
        self.metadata(model.messages(14))
        inputs, outputs = self.graph(self._wire.read(GRAPH, graphs[0]))
        return ModelFacts(tuple(sorted(self._operators)), opsets[0], inputs, outputs)

    def opset(self, message: memoryview) -> int:
        opset = self._wire.read(OPSET, message)
        self.domain(opset.text(1))
        if opset.integer(2) not in OPSETS:
            raise refused(f"got opset {opset.integer(2)}, expected {OPSETS.start} to {OPSETS.stop - 1}")
        return opset.integer(2)

    def metadata(self, messages: Sequence[memoryview]) -> None:
        for message in messages:
            self._wire.read(ENTRY, message)

    def domain(self, domain: str) -> None:
        if domain not in _STANDARD_DOMAINS:
            raise refused(f"operator domain {domain!r} is not allowed, expected standard ONNX operators only")

    def graph(self, graph: Fields) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        self.metadata(graph.messages(16))
        inputs = tuple(self.port(message) for message in graph.messages(11))
        outputs = tuple(self.port(message) for message in graph.messages(12))
        for port in inputs:
            self._flow.give(port.name, fixed=False)
        for message in graph.messages(5):
            self._flow.give(self.tensor(message), fixed=True)
        for message in graph.messages(1):
            self.node(self._wire.read(NODE, message))
        for port in outputs:
            self._flow.need(port.name, "an output")
        for message in graph.messages(13):
            self.port(message)
        return inputs, outputs

    def node(self, node: Fields) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise refused(f"got more than {MAX_NODES} nodes, expected at most that many")
        attributes = [self.attribute(message) for message in node.messages(5)]
        operator = node.text(4)
        self.domain(node.text(7))
        if operator not in ALLOWED_OPERATORS:
            name = repr(operator[:64]) if 4 in node else "a node without an operator"
            raise refused(f"operator not allowed: got {name}, expected one of those in docs/reference/bundle.md")
        if len({name for name, _ in attributes}) != len(attributes):
            raise refused(f"a node {operator} has an attribute twice, expected each once")
        for name, attribute in attributes:
            _check_text_free(operator, name, attribute)
        self.metadata(node.messages(9))
        self._operators.add(operator)
        self._flow.node(operator, node.texts(1), node.texts(2))

    def attribute(self, message: memoryview) -> tuple[str, Fields]:
        attribute = self._wire.read(ATTRIBUTE, message)
        kind = attribute.integer(20)
        if kind not in _ATTRIBUTE_FIELDS:
            raise refused(f"got an attribute of type {kind}, expected numbers, text or tensors")
        if any(number in attribute for number in _ATTRIBUTE_FIELDS.values() if number != _ATTRIBUTE_FIELDS[kind]):
            raise refused(f"got an attribute with a value of another type than its own ({kind})")
        for tensor in (*attribute.messages(5), *attribute.messages(10)):
            self.tensor(tensor)
        return attribute.text(1), attribute

    def tensor(self, message: memoryview) -> str:
        """Check a tensor; its name."""
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise refused(f"got more than {MAX_TENSORS} tensors, expected at most that many")
        tensor = self._wire.read(TENSOR, message)
        if tensor.integer(14):
            raise refused("got weights in an external file, expected all of them inside model.onnx")
        self.metadata(tensor.messages(16))
        dims, kind = tensor.integers(1, MAX_DIMENSIONS), tensor.integer(2)
        if len(dims) > MAX_DIMENSIONS:
            raise refused(f"got a tensor of more than {MAX_DIMENSIONS} dimensions")
        if kind not in _ELEMENT_BYTES:
            raise refused(f"got a tensor of element type {kind}, expected numbers")
        elements = math.prod(dims)
        if any(dim >= 1 << 31 for dim in dims) or elements > MAX_ELEMENTS:
            raise refused(f"got a tensor of shape {dims}, expected at most {MAX_ELEMENTS} elements")
        self._tensor_bytes += elements * _ELEMENT_BYTES[kind]
        if self._tensor_bytes > MAX_TENSOR_BYTES:
            raise refused(f"got tensors of more than {MAX_TENSOR_BYTES} bytes together, expected at most that many")
        _check_content(tensor, kind, elements)
        return tensor.text(8)

    def port(self, message: memoryview) -> Port:
        value = self._wire.read(VALUE, message)
        self.metadata(value.messages(4))
        kind = value.raw(2)
        tensor = None if kind is None else self._wire.read(TYPE, kind).raw(1)
        if tensor is None or not value.text(1):
            raise refused("got an input or output that is not a named tensor")
        found = self._wire.read(TENSOR_TYPE, tensor)
        if found.integer(1) and found.integer(1) not in _ELEMENT_BYTES:
            raise refused(f"got a value of element type {found.integer(1)}, expected numbers")
        shape = found.raw(2)
        return Port(value.text(1), found.integer(1), None if shape is None else self.shape(shape))

    def shape(self, message: memoryview) -> tuple[int | None, ...]:
        dims = [self._wire.read(DIMENSION, dim) for dim in self._wire.read(SHAPE, message).messages(1)]
        if len(dims) > MAX_DIMENSIONS:
            raise refused(f"got a value of more than {MAX_DIMENSIONS} dimensions")
        if any(1 in dim and 2 in dim for dim in dims):
            raise refused("got a dimension with both a number and a name, expected one of them")
        return tuple(dim.integer(1) if 1 in dim else None for dim in dims)


def _check_content(tensor: Fields, kind: int, elements: int) -> None:
    """As many numbers as the shape says, in one place."""
    places = [number for number in (*_WIDTHS, _RAW) if number in tensor]
    if len(places) > 1 or not set(places) <= {_RAW, _TYPED[kind]}:
        raise refused(f"got a tensor of element type {kind} with its numbers in fields {places}, expected one place")
    raw = tensor.raw(_RAW)
    if raw is not None:
        if len(raw) != elements * _ELEMENT_BYTES[kind]:
            raise refused(f"got {len(raw)} bytes for a tensor of {elements} elements of type {kind}")
        return
    typed = _TYPED[kind]
    found = tensor.count(typed, _WIDTHS[typed])
    if found != elements:
        raise refused(f"got {found} numbers for a tensor of {elements} elements of type {kind}")


def _check_text_free(operator: str, name: str, attribute: Fields) -> None:
    """Text has no size that could be known, so no tensor may hold any."""
    if operator == "Constant" and name in ("value_string", "value_strings"):
        raise refused("got a constant of text, expected numbers")
    if operator == "Cast" and name == "to" and attribute.integer(3) not in _ELEMENT_BYTES:
        raise refused(f"got a Cast to element type {attribute.integer(3)}, expected numbers")
