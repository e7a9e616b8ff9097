"""The functions that expressions may call, in words that messages and docs use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_MOST_ARGUMENTS = 50


class Kind(Enum):
    """What a part of an expression gives: a number, or whether something is so."""

    NUMBER = "a number"
    CONDITION = "a condition"


class Argument(Enum):
    """What a function takes at one place."""

    NUMBER = "a number or sensor"
    SENSOR = "a sensor"
    DURATION = "a duration such as 30s"


@dataclass(frozen=True, slots=True)
class Function:
    """``takes``: its arguments, of which ``least`` must be there; the last kind is repeated up to ``most``.

    ``patterns``: instead it may be given the pattern of sensors, as text.
    """

    name: str
    usage: str
    gives: Kind
    takes: tuple[Argument, ...]
    least: int
    most: int
    meaning: str
    patterns: bool = False


def _of_many(name: str, meaning: str) -> Function:
    usage = f'{name}(a, b, …) or {name}("tank.*.level")'
    return Function(name, usage, Kind.NUMBER, (Argument.NUMBER,), 1, _MOST_ARGUMENTS, meaning, patterns=True)


_SENSOR, _IN_TIME = (Argument.SENSOR,), (Argument.SENSOR, Argument.DURATION)

FUNCTIONS: Mapping[str, Function] = {
    function.name: function
    for function in (
        Function("abs", "abs(x)", Kind.NUMBER, (Argument.NUMBER,), 1, 1, "The number without its sign."),
        _of_many("min", "The smallest."),
        _of_many("max", "The largest."),
        _of_many("avg", "The mean."),
        _of_many("sum", "The sum."),
        Function(
            "rate",
            "rate(sensor) or rate(sensor, 5m)",
            Kind.NUMBER,
            _IN_TIME,
            1,
            2,
            "Change per second over the time given (1m); unknown until it has passed.",
        ),
        Function(
            "age",
            "age(sensor)",
            Kind.NUMBER,
            _SENSOR,
            1,
            1,
            "Seconds since its last good reading; unknown before the first.",
        ),
        Function(
            "missing",
            "missing(sensor)",
            Kind.CONDITION,
            _SENSOR,
            1,
            1,
            "It has no value to judge: never heard of, silent for too long, or flagged as bad. Never unknown.",
        ),
        Function(
            "changed",
            "changed(sensor) or changed(sensor, 5m)",
            Kind.CONDITION,
            _IN_TIME,
            1,
            2,
            "Its value is another one than at the tick before, or has changed within the time given.",
        ),
        Function(
            "stuck",
            "stuck(sensor) or stuck(sensor, 5m)",
            Kind.CONDITION,
            _IN_TIME,
            1,
            2,
            "Flagged as stuck by its option `stuck_after`; or not changed for the time given.",
        ),
    )
}
