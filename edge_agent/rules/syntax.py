"""The language of ``when``: text to a checked tree, or one message with the position of the mistake. Pure.

::

    rule        = condition [ "for" DURATION ]
    condition   = both { "or" both }
    both        = negation { "and" negation }
    negation    = "not" negation | comparison
    comparison  = sum [ ( "==" | "!=" | "<" | "<=" | ">" | ">=" ) sum ]
    sum         = product { ( "+" | "-" ) product }
    product     = factor { ( "*" | "/" ) factor }
    factor      = ( "-" | "+" ) factor | NUMBER | DURATION | TEXT | name
                | FUNCTION "(" [ argument { "," argument } ] ")" | "(" condition ")"
    name        = WORD { "." WORD } | "`" any text "`" | "[" TEXT "]"

There are no loops, attributes, powers or strings to compute with, so what an expression costs is bounded by its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from edge_agent.nearest import nearest
from edge_agent.options import DURATION_UNITS
from edge_agent.rules.functions import FUNCTIONS, Argument, Function, Kind
from edge_agent.rules.tokens import END, KEYWORDS, Token, tokens
from edge_agent.rules.tree import (
    COMPARISONS,
    Call,
    Expression,
    ExpressionError,
    Name,
    Negation,
    Node,
    Number,
    Operation,
    Operator,
    Text,
    kind_of,
)

MAX_LENGTH = 2_000
MAX_DEPTH = 30
MAX_NODES = 300

_Side: TypeAlias = Callable[[], Node]


def parse(text: str) -> Expression:
    """The tree of ``text``. :raises ExpressionError: with position, what was found and what was expected."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(text, MAX_LENGTH, f"is {len(text)} characters long, expected at most {MAX_LENGTH}")
    return _Parser(text).rule()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._nodes = 0
        self._depth = 0

    def rule(self) -> Expression:
        tree = self._condition()
        self._must_be_condition(tree, "the rule", 0)
        lasting_s = None
        if self._takes("word", "for"):
            lasting_s = self._duration()
        token = self._peek
        if token.kind != END:
            self._unexpected(token)
        return Expression(self._text, tree, lasting_s)

    def _condition(self) -> Node:
        return self._logic(Operator.OR, lambda: self._logic(Operator.AND, self._negation))

    def _logic(self, operator: Operator, side: _Side) -> Node:
        left = side()
        while (token := self._peek).kind == "word" and token.text == operator:
            self._next += 1
            right = side()
            self._must_be_condition(left, f"`{operator}`", token.at)
            self._must_be_condition(right, f"`{operator}`", token.at)
            left = self._count(Operation(operator, left, right, token.at))
        return left

    def _negation(self) -> Node:
        token = self._peek
        if not self._takes("word", "not"):
            return self._comparison()
        operand = self._deeper(self._negation)
        self._must_be_condition(operand, "`not`", token.at)
        return self._count(Negation(operand, Kind.CONDITION, token.at))

    def _comparison(self) -> Node:
        left = self._sum()
        token = self._peek
        if token.kind != "operator" or token.text not in COMPARISONS:
            return left
        self._next += 1
        right = self._sum()
        operator = Operator(token.text)
        if isinstance(left, Text) or isinstance(right, Text):
            self._check_state(operator, left, right, token)
        else:
            self._must_be_number(left, f"`{operator}`")
            self._must_be_number(right, f"`{operator}`")
        again = self._peek
        if again.kind == "operator" and again.text in COMPARISONS:
            self._fail(again.at, f"got a second `{again.text}`, expected `and`: write `1 < x and x < 3`")
        return self._count(Operation(operator, left, right, token.at))

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), lambda: self._arithmetic(("*", "/"), self._factor))

    def _arithmetic(self, operators: tuple[str, str], side: _Side) -> Node:
        left = side()
        while (token := self._peek).kind == "operator" and token.text in operators:
            self._next += 1
            right = side()
            self._must_be_number(left, f"`{token.text}`")
            self._must_be_number(right, f"`{token.text}`")
            left = self._count(Operation(Operator(token.text), left, right, token.at))
        return left

    def _factor(self) -> Node:
        token = self._peek
        if token.kind == "operator" and token.text in ("-", "+"):
            self._next += 1
            operand = self._deeper(self._factor)
            self._must_be_number(operand, f"`{token.text}`")
            return operand if token.text == "+" else self._count(Negation(operand, Kind.NUMBER, token.at))
        return self._primary(token)

    def _primary(self, token: Token) -> Node:
        if token.kind == END or token.text in KEYWORDS:
            self._unexpected(token)
        self._next += 1
        match token.kind:
            case "number":
                return self._count(Number(self._value(token), token.at))
            case "quoted":
                return self._named(token, token.text[1:-1])
            case "text":
                return self._count(Text(_unquoted(token.text), token.at))
            case "word" if self._peek.text == "(" and self._peek.kind == "operator":
                return self._call(token)
            case "word":
                return self._count(Name(token.text, False, token.at))
        if token.text == "[":
            name = self._expect("text", None, 'a name in quotes, as in ["plant/line 1/temp"]')
            self._expect("operator", "]", "`]`")
            return self._named(token, _unquoted(name.text))
        if token.text == "(":
            inside = self._deeper(self._condition)
            if self._peek.kind == "word" and self._peek.text == "for":
                self._fail(self._peek.at, "`for` stands at the end of the whole expression, not inside brackets")
            self._expect("operator", ")", "`)`")
            return inside
        return self._unexpected(token)

    def _named(self, token: Token, name: str) -> Node:
        if not name:
            self._fail(token.at, "got an empty name, expected a sensor")
        return self._count(Name(name, True, token.at))

    def _call(self, token: Token) -> Node:
        function = FUNCTIONS.get(token.text)
        if function is None:
            hint = nearest(token.text, FUNCTIONS) or f"; known: {', '.join(FUNCTIONS)}"
            self._fail(token.at, f"{token.text!r} is not a function{hint}")
        self._next += 1
        arguments: list[Node] = []
        while not self._takes("operator", ")"):
            if arguments:
                self._expect("operator", ",", "`,` or `)`")
            arguments.append(self._deeper(self._condition))
        self._check_arguments(function, arguments, token)
        return self._count(Call(function, tuple(arguments), token.at))

    def _check_arguments(self, function: Function, arguments: list[Node], token: Token) -> None:
        if function.patterns and len(arguments) == 1 and isinstance(arguments[0], Text):
            return
        if not function.least <= len(arguments) <= function.most:
            self._fail(token.at, f"{function.name} got {len(arguments)} arguments, expected {function.usage}")
        wanted = [*function.takes, *[function.takes[-1]] * len(arguments)]
        for argument, kind in zip(arguments, wanted, strict=False):
            wrong = {
                Argument.SENSOR: not isinstance(argument, Name),
                Argument.DURATION: not (isinstance(argument, Number) and argument.value > 0),
                Argument.NUMBER: kind_of(argument) is not Kind.NUMBER or isinstance(argument, Text),
            }
            if wrong[kind]:
                self._fail(argument.at, f"{function.name} takes {kind.value} here, expected {function.usage}")

    # -- tokens ------------------------------------------------------------------------------------------------

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _takes(self, kind: str, text: str) -> bool:
        found = self._peek.kind == kind and self._peek.text == text
        self._next += found
        return found

    def _expect(self, kind: str, text: str | None, what: str) -> Token:
        token = self._peek
        if token.kind != kind or (text is not None and token.text != text):
            self._unexpected(token, what)
        self._next += 1
        return token

    def _duration(self) -> float:
        token = self._expect("number", None, "a duration with its unit, such as 30s")
        if token.unit is None:
            self._fail(token.at, f"got {token.text}, expected a duration with its unit, such as {token.text}s")
        return self._value(token)

    def _value(self, token: Token) -> float:
        if token.unit is None:
            number = float(token.text)
            if math.isinf(number):
                self._fail(token.at, f"got {token.text}, which is too large for a number")
            return number
        factor = DURATION_UNITS.get(token.unit)
        if factor is None:
            self._fail(
                token.at,
                f"got {token.text}{token.unit}, expected a number, or a duration such as 500ms, 30s, 5m or 1h; "
                f"a sensor whose name begins with a digit is written in backticks",
            )
        return float(token.text) * factor

    def _deeper(self, part: _Side) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(self._peek.at, f"nested deeper than {MAX_DEPTH} levels")
        node = part()
        self._depth -= 1
        return node

    def _count(self, node: Node) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._fail(node.at, f"has more than {MAX_NODES} parts; make two rules of it")
        return node

    # -- checks ------------------------------------------------------------------------------------------------

    def _must_be_condition(self, node: Node, of: str, at: int) -> None:
        if kind_of(node) is not Kind.CONDITION and not isinstance(node, Name):
            where = node.at if of == "the rule" else at
            self._fail(where, f"{of} needs a condition, such as `x > 5`, but got a number")

    def _must_be_number(self, node: Node, of: str) -> None:
        if kind_of(node) is Kind.CONDITION:
            self._fail(node.at, f"{of} needs numbers, but got a condition")
        if isinstance(node, Text):
            self._fail(node.at, f"{of} needs numbers, but got text; a sensor is written [{node.text!r}]")

    def _check_state(self, operator: Operator, left: Node, right: Node, token: Token) -> None:
        if operator not in (Operator.EQUAL, Operator.UNEQUAL):
            self._fail(token.at, f"`{operator}` compares numbers; text is a state, which is compared by == or !=")
        if not isinstance(left, Name) and not isinstance(right, Name):
            self._fail(token.at, "text is a state of a sensor, expected a sensor on the other side")

    def _unexpected(self, token: Token, expected: str | None = None) -> NoReturn:
        before = self._tokens[self._next - 1] if self._next else None
        if expected is None:
            complete = before is not None and before.kind != "operator" and before.text not in KEYWORDS
            closed = before is not None and before.text in (")", "]")
            expected = "an operator, `for` or the end" if complete or closed else "a sensor, a number or `(`"
        found = "the end" if token.kind == END else f"{token.text!r}"
        hint = nearest(token.text.lower(), KEYWORDS) if token.kind == "word" else ""
        self._fail(token.at, f"got {found}, expected {expected}{hint if token.text not in KEYWORDS else ''}")

    def _fail(self, at: int, message: str) -> NoReturn:
        raise ExpressionError(self._text, at, message)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
