"""An expression and the sensors it names, bound to a function of the tick's signals. Pure.

Three values: a comparison with something that is not known is neither true nor false but unknown (None), and so is what
depends on it; ``false and unknown`` is false, ``true or unknown`` is true (S. C. Kleene, Introduction to
Metamathematics, 1952, section 64). A number that is not known is NaN.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edge_agent.nearest import nearest
from edge_agent.rules.functions import Kind
from edge_agent.rules.signals import Aggregate, Ask, Question, Signals
from edge_agent.rules.tree import COMPARISONS, Call, Expression, Name, Negation, Node, Number, Operation, Operator, Text

Values = Sequence[float]
Numeric = Callable[[Values], float]
Condition = Callable[[Values], bool | None]

SENSOR = "sensor"
"""The word that stands for each sensor of the rule's ``sensors``."""
STATES: Mapping[str, float] = {"on": 1.0, "off": 0.0, "true": 1.0, "false": 0.0, "open": 1.0, "closed": 0.0}
"""States of a sensor that has none of its own."""
RATE_OVER_S = 60.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean. ``sensor``: the one that the word ``sensor`` stands for, if any. ``states``: by sensor.

    ``flagged``: judge values with a data-quality flag too.
    """

    signals: Signals
    states: Callable[[str], Mapping[str, float]]
    sensor: str | None = None
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """``condition``: to be asked each tick. ``sensors``: those it names, in order. ``limits``: what it compares a
    sensor with, as operator and number. ``aggregates``: what it asks of all sensors that match a pattern."""

    condition: Condition
    sensors: tuple[str, ...]
    limits: Mapping[str, tuple[Operator, float]]
    aggregates: tuple[Aggregate, ...] = ()


def bind(expression: Expression, scope: Scope) -> Bound:
    """Make ``expression`` a function. :raises ExpressionError: a name in it has no meaning."""
    binder = _Binder(expression, scope)
    condition = binder.condition(expression.tree)
    return Bound(condition, tuple(binder.sensors), binder.limits, tuple(binder.aggregates))


class _Binder:
    def __init__(self, expression: Expression, scope: Scope) -> None:
        self._expression = expression
        self._scope = scope
        self.sensors: dict[str, None] = {}
        self.limits: dict[str, tuple[Operator, float]] = {}
        self.aggregates: dict[Aggregate, None] = {}

    # -- conditions --------------------------------------------------------------------------------------------

    def condition(self, node: Node) -> Condition:
        match node:
            case Name():
                place = self._ask(Question.VALUE, self._sensor(node))
                return lambda row: None if (x := row[place]) != x else x != 0
            case Negation():
                return _not(self.condition(node.operand))
            case Call():
                return self._asked(node)
            case Operation() if node.operator is Operator.AND:
                return _and(self.condition(node.left), self.condition(node.right))
            case Operation() if node.operator is Operator.OR:
                return _or(self.condition(node.left), self.condition(node.right))
            case Operation():
                return self._comparison(node)
            case _:
                raise self._expression.error(node, "needs a condition, such as `x > 5`")

    def _comparison(self, node: Operation) -> Condition:
        left, right = self._with_states(node)
        self._note_limit(node.operator, left, right)
        compare = _COMPARE[node.operator]
        if isinstance(left, Name) and isinstance(right, Number):
            return _against(compare, self._ask(Question.VALUE, self._sensor(left)), right.value)
        one, other = self.number(left), self.number(right)

        def compared(row: Values) -> bool | None:
            a, b = one(row), other(row)
            return None if a != a or b != b else compare(a, b)

        return compared

    def _with_states(self, node: Operation) -> tuple[Node, Node]:
        """Both sides, with a word or text that is a state of the sensor on the other side as its number."""
        left, right = node.left, node.right
        if node.operator not in (Operator.EQUAL, Operator.UNEQUAL):
            return left, right
        if isinstance(left, Name):
            right = self._state(right, left)
        if isinstance(right, Name) and right is node.right:
            left = self._state(left, right)
        return left, right

    def _state(self, word: Node, of: Name) -> Node:
        if not isinstance(word, Text) and not (isinstance(word, Name) and not word.quoted):
            return word
        name = word.text if isinstance(word, Text) else word.name
        if isinstance(word, Name) and not of.quoted and of.name in STATES and name not in STATES:
            return word  # `on == pump`: the sensor stands on the right
        own = self._scope.states(self._sensor(of))
        states = own or STATES
        if name in states:
            return Number(states[name], word.at)
        hint, known = nearest(name, states), f"; known: {', '.join(states)}"
        if isinstance(word, Text) or name in STATES or (own and hint and name != SENSOR):
            message = f"{name!r} is not a state of {self._sensor(of)}{hint or known}"
            raise self._expression.error(word, message)
        return word

    def _note_limit(self, operator_: Operator, left: Node, right: Node) -> None:
        if isinstance(right, Name) and not isinstance(left, Name):
            left, right, operator_ = right, left, _MIRRORED[operator_]
        value = _constant(right)
        if isinstance(left, Name) and value is not None:
            self.limits.setdefault(self._sensor(left), (operator_, value))

    def _asked(self, node: Call) -> Condition:
        sensor, over_s = self._sensor_and_time(node)
        if node.function.name == "missing":
            return _against(operator.ne, self._ask(Question.MISSING, sensor), 0.0)
        if node.function.name == "stuck" and over_s is None:
            return _against(operator.ne, self._ask(Question.STUCK, sensor), 0.0)
        place = self._ask(Question.STILL, sensor)
        if node.function.name == "stuck":
            return _against(operator.ge, place, over_s or 0.0)
        return _against(operator.le, place, 0.0) if over_s is None else _against(operator.lt, place, over_s)

    # -- numbers -----------------------------------------------------------------------------------------------

    def number(self, node: Node) -> Numeric:
        match node:
            case Number():
                value = node.value
                return lambda row: value
            case Name():
                return operator.itemgetter(self._ask(Question.VALUE, self._sensor(node)))
            case Negation():
                negated = self.number(node.operand)
                return lambda row: -negated(row)
            case Call():
                return self._computed(node)
            case Operation():
                return _arithmetic(node.operator, self.number(node.left), self.number(node.right))
            case Text():
                raise self._expression.error(node, f"got text, expected a number; a sensor is written [{node.text!r}]")

    def _computed(self, node: Call) -> Numeric:
        name, arguments = node.function.name, node.arguments
        if len(arguments) == 1 and isinstance(arguments[0], Text):
            aggregate = Aggregate(name, arguments[0].text, self._scope.flagged)
            self.aggregates[aggregate] = None
            return operator.itemgetter(self._scope.signals.place(aggregate))
        if name == "age":
            return operator.itemgetter(self._ask(Question.AGE, self._sensor_and_time(node)[0]))
        if name == "rate":
            sensor, over_s = self._sensor_and_time(node)
            seconds = over_s or RATE_OVER_S
            place = self._scope.signals.place(Ask(Question.CHANGE, sensor, seconds, self._scope.flagged))
            return lambda row: row[place] / seconds
        parts = [self.number(argument) for argument in arguments]
        if name == "abs":
            inside = parts[0]
            return lambda row: abs(inside(row))
        return _of_many(_MANY[name], parts)

    # -- names -------------------------------------------------------------------------------------------------

    def _sensor(self, node: Name) -> str:
        name = node.name
        if not node.quoted and name == SENSOR:
            if self._scope.sensor is None:
                message = "`sensor` stands for each of the rule's `sensors`, which it does not have"
                raise self._expression.error(node, message)
            name = self._scope.sensor
        elif not node.quoted and name in STATES:
            message = f"`{name}` is a state, expected after == or != beside a sensor; a sensor of that name is `{name}`"
            raise self._expression.error(node, f"{message} in backticks")
        self.sensors[name] = None
        return name

    def _sensor_and_time(self, node: Call) -> tuple[str, float | None]:
        first, *rest = node.arguments
        assert isinstance(first, Name)  # the parser has seen to it
        time = rest[0] if rest else None
        return self._sensor(first), time.value if isinstance(time, Number) else None

    def _ask(self, question: Question, sensor: str) -> int:
        return self._scope.signals.place(Ask(question, sensor, flagged=self._scope.flagged))


_COMPARE: Mapping[Operator, Callable[[float, float], bool]] = {
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.MORE: operator.gt,
    Operator.AT_LEAST: operator.ge,
}
_MIRRORED = {one: one for one in COMPARISONS} | {
    Operator.LESS: Operator.MORE,
    Operator.AT_MOST: Operator.AT_LEAST,
    Operator.MORE: Operator.LESS,
    Operator.AT_LEAST: Operator.AT_MOST,
}
_MANY: Mapping[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "avg": lambda values: sum(values) / len(values),
    "sum": sum,
}


def _constant(node: Node) -> float | None:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Negation) and node.kind is Kind.NUMBER and isinstance(node.operand, Number):
        return -node.operand.value
    return None


def _against(compare: Callable[[float, float], bool], place: int, limit: float) -> Condition:
    return lambda row: None if (x := row[place]) != x else compare(x, limit)


def _not(inside: Condition) -> Condition:
    return lambda row: None if (x := inside(row)) is None else not x


def _and(left: Condition, right: Condition) -> Condition:
    def both(row: Values) -> bool | None:
        a = left(row)
        if a is False:
            return False
        b = right(row)
        return False if b is False else (None if a is None else b)

    return both


def _or(left: Condition, right: Condition) -> Condition:
    def either(row: Values) -> bool | None:
        a = left(row)
        if a is True:
            return True
        b = right(row)
        return True if b is True else (None if a is None else b)

    return either


def _arithmetic(what: Operator, left: Numeric, right: Numeric) -> Numeric:
    if what is Operator.PLUS:
        return lambda row: left(row) + right(row)
    if what is Operator.MINUS:
        return lambda row: left(row) - right(row)
    if what is Operator.TIMES:
        return lambda row: left(row) * right(row)

    def divided(row: Values) -> float:
        divisor = right(row)
        return left(row) / divisor if divisor else math.nan

    return divided


def _of_many(function: Callable[[list[float]], float], parts: list[Numeric]) -> Numeric:
    def computed(row: Values) -> float:
        values = [part(row) for part in parts]
        # min() and max() of Python would depend on where the NaN stands.
        return math.nan if any(value != value for value in values) else function(values)

    return computed
