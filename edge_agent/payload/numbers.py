"""Text and JSON values to floats. Not judged: NaN and infinity pass where the form can express them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from edge_agent.errors import PayloadError
from edge_agent.payload.excerpt import excerpt

ToFloat = Callable[[Any], float | None]
"""A float, or None when the value is not a number in any allowed way."""


def number_from_text(text: str, values: Mapping[str, float]) -> float | None:
    """The number that ``text`` writes, or the one ``values`` gives it; None when neither."""
    stripped = text.strip()
    if stripped in values:
        return values[stripped]
    try:
        # Python also reads 1_000; nobody else does.
        return float(stripped) if "_" not in stripped else None
    except ValueError:
        return None


def json_number(values: Mapping[str, float], *, numbers_as_text: bool) -> ToFloat:
    """How a JSON value becomes a float: numbers, true and false as 1 and 0, null as NaN, text by option."""

    def convert(value: Any) -> float | None:
        kind = type(value)
        if kind is float:
            return value  # type: ignore[no-any-return]
        if kind is int or kind is bool:
            return float(value)
        if value is None:
            return math.nan
        if kind is not str:
            return None
        return number_from_text(value, values) if numbers_as_text else values.get(value.strip())

    return convert


def not_a_number(where: str, value: Any) -> PayloadError:
    """The error for ``value`` found at ``where``, with what to do about it."""
    advice = "; for text, see the options `values` and `numbers_as_text`" if isinstance(value, str) else ""
    return PayloadError("not_a_number", f"{where}: got {excerpt(value)}, expected a number{advice}")
