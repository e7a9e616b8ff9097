"""What may be inside ``model.onnx``, decided on the wire format before any runtime sees the file. Pure.

A model is a program: `Loop` can run for ever, nested functions can blow up while loading, external data can name any
file. So the protobuf is walked here inside its bounds, without the `onnx` package (which has had its own holes), and
only a flat graph of known operators over small tensors is let through. Field numbers are those of ``onnx.proto3``
(github.com/onnx/onnx). What a well-formed graph computes is not judged here; the self-test does that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.bundle.manifest import MODEL, max_bytes
from edge_agent.errors import BundleError

MAX_NODES = 5_000
MAX_TENSORS = 5_000
MAX_ELEMENTS = 32 << 20
MAX_DIMENSIONS = 8
MAX_FIELDS = 1_000_000
"""Protobuf fields looked at in one file; keeps hostile files from burning minutes in this walk."""

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
_STANDARD_DOMAINS = ("", "ai.onnx")

Value = int | memoryview


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
        raise _refused(f"got {len(raw)} bytes, expected 1 to {max_bytes(MODEL)}")
    return _Gate().model(memoryview(raw))


def _refused(message: str) -> BundleError:
    return BundleError(f"{MODEL}: {message}")


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 64, 7):
        if position >= len(view):
            raise _refused("not an ONNX file: a number is cut off")
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise _refused("not an ONNX file: a number is longer than 64 bits")


def _text(value: Value) -> str:
    if isinstance(value, int):
        raise _refused("not an ONNX file: got a number, expected text")
    try:
        return bytes(value[:256]).decode()
    except UnicodeDecodeError as error:
        raise _refused("not an ONNX file: a name is not UTF-8") from error


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise _refused("not an ONNX file: got bytes, expected a number")
    return value


class _Gate:
    """One walk over one file, with its counters."""

    def __init__(self) -> None:
        self._fields = 0
        self._nodes = 0
        self._tensors = 0
        self._operators: set[str] = set()

    def fields(self, message: Value) -> Iterator[tuple[int, Value]]:
        """Number and value of every field; bytes for strings, sub-messages and fixed numbers."""
        if isinstance(message, int):
            raise _refused("not an ONNX file: got a number, expected a message")
        position = 0
        while position < len(message):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _refused(f"got more than {MAX_FIELDS} fields, expected a small model; store weights as raw_data")
            key, position = _varint(message, position)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise _refused("not an ONNX file: field number 0")
            if wire == 0:
                value, position = _varint(message, position)
                yield number, value
                continue
            if wire == 2:
                length, position = _varint(message, position)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise _refused(f"not an ONNX file: wire type {wire}")
            if length > len(message) - position:
                raise _refused("not an ONNX file: cut off, or a length points past the end")
            yield number, message[position : position + length]
            position += length

    def single(self, message: Value, number: int) -> Value | None:
        """The only field of this number. A second one would be merged by some readers and not by others."""
        found = [value for key, value in self.fields(message) if key == number]
        if len(found) > 1:
            raise _refused(f"field {number} appears {len(found)} times, expected once")
        return found[0] if found else None

    def model(self, message: memoryview) -> ModelFacts:
        graphs, opsets = [], []
        for number, value in self.fields(message):
            if number == 7:
                graphs.append(value)
            elif number == 8:
                opsets.append(self.opset(value))
            elif number == 20:
                raise _refused("got training information, expected an inference model")
            elif number == 25:
                raise _refused("got local functions, expected a flat graph; export with functions inlined")
        if len(graphs) != 1 or len(opsets) != 1:
            raise _refused(f"got {len(graphs)} graphs and {len(opsets)} opset imports, expected one of each")
        inputs, outputs = self.graph(graphs[0])
        return ModelFacts(tuple(sorted(self._operators)), opsets[0], inputs, outputs)

    def opset(self, message: Value) -> int:
        domain = self.single(message, 1)
        self.domain("" if domain is None else _text(domain))
        return _integer(self.single(message, 2) or 0)

    def domain(self, domain: str) -> None:
        if domain not in _STANDARD_DOMAINS:
            raise _refused(f"operator domain {domain!r} is not allowed, expected standard ONNX operators only")

    def graph(self, message: Value) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        inputs, outputs = [], []
        for number, value in self.fields(message):
            if number == 1:
                self.node(value)
            elif number == 5:
                self.tensor(value)
            elif number == 11:
                inputs.append(self.port(value))
            elif number == 12:
                outputs.append(self.port(value))
            elif number == 15:
                raise _refused("got a sparse initializer, expected dense tensors")
        return tuple(inputs), tuple(outputs)

    def node(self, message: Value) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _refused(f"got more than {MAX_NODES} nodes, expected at most that many")
        operators = []
        for number, value in self.fields(message):
            if number == 4:
                operators.append(_text(value))
            elif number == 5:
                self.attribute(value)
            elif number == 7:
                self.domain(_text(value))
        if len(operators) != 1 or operators[0] not in ALLOWED_OPERATORS:
            name = repr(operators[0]) if operators else "a node without an operator"
            raise _refused(f"operator not allowed: got {name}, expected one of those in docs/reference/bundle.md")
        self._operators.add(operators[0])

    def attribute(self, message: Value) -> None:
        for number, value in self.fields(message):
            if number in (5, 10):
                self.tensor(value)
            elif number in (6, 11):
                raise _refused("got a subgraph (If, Loop, Scan), expected a flat graph")
            elif number in (21, 22, 23):
                raise _refused("got a sparse or referenced attribute, expected plain ones")

    def tensor(self, message: Value) -> None:
        self._tensors += 1
        if self._tensors > MAX_TENSORS:
            raise _refused(f"got more than {MAX_TENSORS} tensors, expected at most that many")
        dims: list[int] = []
        kind, raw_bytes = 0, None
        for number, value in self.fields(message):
            if number == 1:
                dims.extend(self.numbers(value))
                if len(dims) > MAX_DIMENSIONS:
                    raise _refused(f"got a tensor of more than {MAX_DIMENSIONS} dimensions")
            elif number == 2:
                kind = _integer(value)
            elif number == 9 and isinstance(value, memoryview):
                raw_bytes = len(value)
            elif number == 13 or (number == 14 and value != 0):
                raise _refused("got weights in an external file, expected all of them inside model.onnx")
        self.tensor_size(dims, kind, raw_bytes)

    def tensor_size(self, dims: list[int], kind: int, raw_bytes: int | None) -> None:
        if kind not in _ELEMENT_BYTES:
            raise _refused(f"got a tensor of element type {kind}, expected numbers")
        elements = math.prod(dims)
        if any(dim >= 1 << 31 for dim in dims) or elements > MAX_ELEMENTS:
            raise _refused(f"got a tensor of shape {dims}, expected at most {MAX_ELEMENTS} elements")
        if raw_bytes is not None and raw_bytes != elements * _ELEMENT_BYTES[kind]:
            raise _refused(f"got {raw_bytes} bytes for a tensor of {elements} elements of type {kind}")

    def numbers(self, value: Value) -> list[int]:
        """A repeated integer field, packed or not."""
        if isinstance(value, int):
            return [value]
        result: list[int] = []
        position = 0
        while position < len(value) and len(result) <= MAX_DIMENSIONS:
            number, position = _varint(value, position)
            result.append(number)
        return result

    def port(self, message: Value) -> Port:
        name, kind = self.single(message, 1), self.single(message, 2)
        tensor = None if kind is None else self.single(kind, 1)
        if name is None or tensor is None:
            raise _refused("got an input or output that is not a named tensor")
        shape = self.single(tensor, 2)
        return Port(_text(name), _integer(self.single(tensor, 1) or 0), None if shape is None else self.shape(shape))

    def shape(self, message: Value) -> tuple[int | None, ...]:
        dims = [self.single(value, 1) for number, value in self.fields(message) if number == 1]
        return tuple(None if dim is None else _integer(dim) for dim in dims)
