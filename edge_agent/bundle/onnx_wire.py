"""Messages of ``onnx.proto`` on the protobuf wire, read inside their bounds by a table of known fields. Pure.

Readers of protobuf differ in what they make of the unusual: of two values of one field some take the last and some
merge them, of a wrong wire type or an unknown number most say nothing. Here all of that is refused, so that what is
checked is what any runtime sees. Field numbers: github.com/onnx/onnx, ``onnx/onnx.proto``; encoding:
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from edge_agent.bundle.manifest import MODEL
from edge_agent.errors import BundleError

MAX_FIELDS = 300_000
"""Protobuf fields looked at in one file; keeps hostile files from burning minutes in this walk."""
MAX_NAME = 1_024
MAX_TEXT = 65_536

INT, FLOAT, DOUBLE, NAME, TEXT, BYTES, MESSAGE = "integer", "float", "double", "name", "text", "bytes", "message"
_WIRE = {INT: 0, DOUBLE: 1, FLOAT: 5, NAME: 2, TEXT: 2, BYTES: 2, MESSAGE: 2}
_FIXED = {1: 8, 5: 4}
_LIMITS = {NAME: MAX_NAME, TEXT: MAX_TEXT}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message: its known fields and those that are refused with a reason of their own.

    ``once``, ``many``: what a field of this number holds. Lists of numbers may be packed, and count as one field then.
    """

    name: str
    once: Mapping[int, str]
    many: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)


_NOT_ALLOWED_TENSOR = "got a tensor of text or in segments, expected one of numbers"
_NOT_A_TENSOR = "got a value that is no tensor (sequence, map, optional, sparse), expected tensors only"
_SUBGRAPH = "got a subgraph (If, Loop, Scan), expected a flat graph"
_SPARSE = "got a sparse or referenced attribute, expected plain ones"
_DEVICES = "got a distribution over devices, expected a plain model"

MODEL_PROTO = Kind(
    "model",
    {1: INT, 2: TEXT, 3: TEXT, 4: TEXT, 5: INT, 6: TEXT},
    {7: MESSAGE, 8: MESSAGE, 14: MESSAGE},  # of 7 and 8 there must be one each, which is told apart from the rest
    {
        20: "got training information, expected an inference model",
        25: "got local functions, expected a flat graph; export with functions inlined",
        26: _DEVICES,
    },
)
OPSET = Kind("opset import", {1: NAME, 2: INT})
ENTRY = Kind("metadata entry", {1: TEXT, 2: TEXT})
GRAPH = Kind(
    "graph",
    {2: NAME, 10: TEXT},
    {1: MESSAGE, 5: MESSAGE, 11: MESSAGE, 12: MESSAGE, 13: MESSAGE, 16: MESSAGE},
    {14: "got quantisation annotations, expected none", 15: "got a sparse initializer, expected dense tensors"},
)
NODE = Kind(
    "node",
    {3: NAME, 4: NAME, 6: TEXT, 7: NAME},
    {1: NAME, 2: NAME, 5: MESSAGE, 9: MESSAGE},
    {8: "got an overload of a local function, expected a standard operator", 10: _DEVICES},
)
ATTRIBUTE = Kind(
    "attribute",
    {1: NAME, 2: FLOAT, 3: INT, 4: TEXT, 5: MESSAGE, 13: TEXT, 20: INT},
    {7: FLOAT, 8: INT, 9: TEXT, 10: MESSAGE},
    {6: _SUBGRAPH, 11: _SUBGRAPH, 14: _NOT_A_TENSOR, 15: _NOT_A_TENSOR, 21: _SPARSE, 22: _SPARSE, 23: _SPARSE},
)
TENSOR = Kind(
    "tensor",
    {2: INT, 8: NAME, 9: BYTES, 12: TEXT, 14: INT},
    {1: INT, 4: FLOAT, 5: INT, 7: INT, 10: DOUBLE, 11: INT, 16: MESSAGE},
    {
        3: _NOT_ALLOWED_TENSOR,
        6: _NOT_ALLOWED_TENSOR,
        13: "got weights in an external file, expected all of them inside model.onnx",
    },
)
VALUE = Kind("value", {1: NAME, 2: MESSAGE, 3: TEXT}, {4: MESSAGE})
TYPE = Kind(
    "type",
    {1: MESSAGE, 6: NAME},
    refused={4: _NOT_A_TENSOR, 5: _NOT_A_TENSOR, 7: _NOT_A_TENSOR, 8: _NOT_A_TENSOR, 9: _NOT_A_TENSOR},
)
TENSOR_TYPE = Kind("tensor type", {1: INT, 2: MESSAGE})
SHAPE = Kind("shape", {}, {1: MESSAGE})
DIMENSION = Kind("dimension", {1: INT, 2: NAME, 3: NAME})

Value = int | memoryview


class Fields:
    """The fields of one message, by number."""

    __slots__ = ("_found",)

    def __init__(self, found: Mapping[int, list[Value]]) -> None:
        self._found = found

    def __contains__(self, number: int) -> bool:
        return number in self._found

    def integer(self, number: int, default: int = 0) -> int:
        """A number as it is on the wire: a negative one is 2**63 or more."""
        found = self._found.get(number)
        return default if found is None or not isinstance(found[0], int) else found[0]

    def text(self, number: int) -> str:
        """Text; empty when absent. :raises BundleError: it is not UTF-8."""
        found = self._found.get(number)
        return "" if found is None else as_text(found[0])

    def texts(self, number: int) -> list[str]:
        """All texts of a repeated field."""
        return [as_text(value) for value in self._found.get(number, ())]

    def raw(self, number: int) -> memoryview | None:
        """Bytes, None when absent."""
        found = self._found.get(number)
        return found[0] if found is not None and isinstance(found[0], memoryview) else None

    def messages(self, number: int) -> list[memoryview]:
        """All messages of a field, not looked into yet."""
        return [value for value in self._found.get(number, ()) if isinstance(value, memoryview)]

    def integers(self, number: int, most: int) -> list[int]:
        """A repeated integer field; no more than one beyond ``most`` of them."""
        numbers: list[int] = []
        for value in self._found.get(number, ()):
            if isinstance(value, int):
                numbers.append(value)
                continue
            position = 0
            while position < len(value) and len(numbers) <= most:
                found, position = varint(value, position)
                numbers.append(found)
        return numbers[: most + 1]

    def count(self, number: int, width: int | None) -> int:
        """How many numbers a repeated field holds; ``width``: bytes of each when packed, None: varints."""
        total = 0
        for value in self._found.get(number, ()):
            if isinstance(value, int) or width == len(value):
                total += 1
            elif width is None:
                total += _count_varints(value)
            elif len(value) % width:
                raise not_onnx("a list of numbers is cut off")
            else:
                total += len(value) // width
        return total


class Wire:
    """Reads messages of one file, and counts their fields."""

    def __init__(self) -> None:
        self._fields = 0

    def read(self, kind: Kind, message: memoryview) -> Fields:
        """All fields of one message. :raises BundleError: it is not one of this kind."""
        found: dict[int, list[Value]] = {}
        position, end = 0, len(message)
        while position < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise refused(f"got more than {MAX_FIELDS} fields, expected a small model; store weights as raw_data")
            key, position = varint(message, position)
            number, wire = key >> 3, key & 7
            holds = kind.once.get(number)
            if holds is not None:
                if number in found:
                    raise refused(f"field {number} of a {kind.name} appears twice, expected once")
            else:
                holds = _holds(kind, number, wire)
            value, position = _value(message, position, wire, end)
            if wire != _WIRE[holds]:
                _check_wire(kind, number, wire, holds)
            elif holds in _LIMITS and isinstance(value, memoryview) and len(value) > _LIMITS[holds]:
                raise refused(
                    f"got a {holds} of {len(value)} bytes in a {kind.name}, expected at most {_LIMITS[holds]}"
                )
            found.setdefault(number, []).append(value)
        return Fields(found)


def refused(message: str) -> BundleError:
    """What is raised for a model that must not be used."""
    return BundleError(f"{MODEL}: {message}")


def not_onnx(message: str) -> BundleError:
    """What is raised for bytes that are no model."""
    return refused(f"not an ONNX file: {message}")


def varint(view: memoryview, position: int) -> tuple[int, int]:
    """The number at ``position``, and where it ends."""
    result = 0
    for shift in range(0, 64, 7):
        if position >= len(view):
            raise not_onnx("a number is cut off")
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                break
            return result, position
    raise not_onnx("a number is longer than 64 bits")


def as_text(value: Value) -> str:
    """Bytes as text. :raises BundleError: not UTF-8, or with a NUL in it, where native code would end it."""
    try:
        text = "" if isinstance(value, int) else bytes(value).decode()
    except UnicodeDecodeError as error:
        raise not_onnx("a name is not UTF-8") from error
    if "\0" in text:
        raise not_onnx("a name has a NUL in it")
    return text


def _holds(kind: Kind, number: int, wire: int) -> str:
    """What a field that may come several times holds."""
    holds = kind.many.get(number)
    if holds is not None:
        return holds
    if number == 0:
        raise not_onnx("field number 0")
    if number in kind.refused:
        raise refused(kind.refused[number])
    if wire not in (0, 1, 2, 5):
        raise not_onnx(f"wire type {wire}")
    raise not_onnx(f"a {kind.name} has no field {number}")


def _value(message: memoryview, position: int, wire: int, end: int) -> tuple[Value, int]:
    if wire == 0:
        return varint(message, position)
    if wire == 2:
        length, position = varint(message, position)
    elif wire in _FIXED:
        length = _FIXED[wire]
    else:
        raise not_onnx(f"wire type {wire}")
    if length > end - position:
        raise not_onnx("cut off, or a length points past the end")
    return message[position : position + length], position + length


def _check_wire(kind: Kind, number: int, wire: int, holds: str) -> None:
    """Only a list of numbers may be written in another way: packed into bytes."""
    if not (wire == 2 and number in kind.many and holds in (INT, FLOAT, DOUBLE)):
        got = "a number" if wire != 2 else "bytes"
        raise not_onnx(f"field {number} of a {kind.name}: got {got}, expected {holds}")


def _count_varints(packed: memoryview) -> int:
    """How many numbers are in ``packed``; their length is checked too."""
    last = np.flatnonzero(np.frombuffer(packed, np.uint8) < 0x80)
    if len(packed) and (not len(last) or last[-1] != len(packed) - 1):
        raise not_onnx("a number is cut off")
    if len(last) and max(int(last[0]) + 1, int(np.diff(last).max(initial=1))) > 10:
        raise not_onnx("a number is longer than 64 bits")
    return len(last)
