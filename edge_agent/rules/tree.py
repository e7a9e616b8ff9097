"""What an expression is made of, and the error that says where it is wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from edge_agent.rules.functions import Function, Kind


class ExpressionError(ValueError):
    """A mistake in an expression; ``line`` and ``column`` count from 1. ``str()`` begins with them, as ``1:23: …``."""

    def __init__(self, text: str, at: int, message: str) -> None:
        self.line = text.count("\n", 0, at) + 1
        self.column = at - (text.rfind("\n", 0, at) + 1) + 1
        super().__init__(f"{self.line}:{self.column}: {message}")


class Operator(StrEnum):
    """Operators with two sides."""

    EQUAL = "=="
    UNEQUAL = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    PLUS = "+"
    MINUS = "-"
    TIMES = "*"
    DIVIDED = "/"
    AND = "and"
    OR = "or"


COMPARISONS = frozenset(list(Operator)[:6])


@dataclass(frozen=True, slots=True)
class Number:
    """A number, or a duration in seconds. ``at`` is where it stands in the text, here and below."""

    value: float
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """A sensor, a state of one, or ``sensor``; ``quoted`` ones are always sensors."""

    name: str
    quoted: bool
    at: int


@dataclass(frozen=True, slots=True)
class Text:
    """Text in quotes: a state, or the pattern that a function takes."""

    text: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of numbers or sensors."""

    function: Function
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Negation:
    """``not`` of a condition, or minus of a number (``kind``)."""

    operand: Node
    kind: Kind
    at: int


@dataclass(frozen=True, slots=True)
class Operation:
    """Two sides and what is between them; ``at`` is where the operator stands."""

    operator: Operator
    left: Node
    right: Node
    at: int


Node: TypeAlias = Number | Name | Text | Call | Negation | Operation


@dataclass(frozen=True, slots=True)
class Expression:
    """A whole expression: ``text`` as written, its tree, and the duration after ``for`` in seconds, if there is one."""

    text: str
    tree: Node
    lasting_s: float | None

    def error(self, node: Node, message: str) -> ExpressionError:
        """An error that points at ``node``."""
        return ExpressionError(self.text, node.at, message)


def kind_of(node: Node) -> Kind:
    """Whether ``node`` is a number or a condition; a sensor is a number."""
    match node:
        case Operation():
            return Kind.NUMBER if node.operator in _ARITHMETIC else Kind.CONDITION
        case Negation():
            return node.kind
        case Call():
            return node.function.gives
        case _:
            return Kind.NUMBER


_ARITHMETIC = (Operator.PLUS, Operator.MINUS, Operator.TIMES, Operator.DIVIDED)
