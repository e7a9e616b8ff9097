"""What a rule says to people: its message with values filled in, and why a sensor is named. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable

import numpy as np

from edge_agent.nearest import nearest
from edge_agent.options import format_duration
from edge_agent.rules.options import RuleOptions
from edge_agent.rules.tree import Operator

WORDS = ("sensor", "value", "limit", "rule")
"""What a message may name beside sensors."""
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MOST_NAMED = 3


def filled(message: str, answer: Callable[[str], str | None]) -> str:
    """``message`` with every ``{name}`` replaced by ``answer(name)``; ``{{`` is a brace. Nothing in it is executed."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0][0]
        text = answer(name.strip())
        return match[0] if text is None else text

    return _PLACE.sub(replaced, message)


def check_message(message: str, sensors: Iterable[str]) -> None:
    """:raises ValueError: a name in braces is neither a word nor one of the rule's ``sensors``."""
    known = [*WORDS, *sensors]
    for match in _PLACE.finditer(message):
        if match[0] in ("{", "}"):
            raise ValueError(f"got a single {match[0]!r}, expected {{NAME}}; a brace itself is written twice")
        if match[1] is not None and match[1].strip() not in known:
            hint = nearest(match[1].strip(), known) or f"; known: {', '.join(known[:20])}"
            raise ValueError(f"got {match[0]!r}, which is no sensor of this rule{hint}")


def number(value: float | None, unit: str | None = None) -> str:
    """A value as people write it: four significant digits, no needless exponent, and its unit."""
    if value is None:
        return "no value"
    after = f" {unit}" if unit else ""
    if not math.isfinite(value):
        return f"?{after}"
    if value and not 1e-6 <= abs(value) < 1e12:
        return f"{value:.4g}{after}"
    return np.format_float_positional(value, precision=4, unique=False, fractional=False, trim="-") + after


def listed(names: list[str]) -> str:
    """Some names, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def limit_of(options: RuleOptions, value: float | None) -> float | None:
    """The number that ``value`` is held against, for a rule that is no expression; None where it moves."""
    if options.deviation is not None:
        return options.deviation.target if isinstance(options.deviation.target, float) else None
    band = options.limit or options.rate
    if band is None:
        return None
    if band.above is None or band.below is None or value is None:
        return band.above if band.above is not None else band.below
    return band.above if value > (band.above + band.below) / 2 else band.below


def reason(options: RuleOptions, seen: float | None, unit: str | None, compared: tuple[Operator, float] | None) -> str:
    """Why the rule names a sensor that reads ``seen``; ``compared``: what its expression compares the sensor with."""
    now = f"reads {number(seen, unit)}" if seen is not None else "has no value"
    if options.limit is not None:
        limit = limit_of(options, seen)
        return f"{now}, {'above' if limit == options.limit.above else 'below'} {number(limit, unit)}"
    if options.rate is not None:
        rate = options.rate
        bounds = [f"more than {number(rate.above, unit)}"] if rate.above is not None else []
        bounds += [f"less than {number(rate.below, unit)}"] if rate.below is not None else []
        return f"{now}, changed by {' or '.join(bounds)} in {format_duration(rate.per)}"
    if options.deviation is not None:
        target = options.deviation.target
        where = target if isinstance(target, str) else number(target, unit)
        return f"{now}, more than {number(options.deviation.by, unit)} away from {where}"
    return now if compared is None or seen is None else f"{now} ({compared[0]} {number(compared[1])})"
