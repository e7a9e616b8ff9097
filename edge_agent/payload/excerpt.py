"""What was found, short enough for a message and safe for any value from outside."""

from __future__ import annotations

from typing import Any

_LONGEST = 80


def excerpt(value: Any) -> str:
    """``repr`` cut short. Objects and arrays are only described: their ``repr`` may be huge or nested too deep."""
    if type(value) is dict:
        return f"an object with the keys {', '.join(value)[:_LONGEST]!r}"
    if type(value) is list:
        return f"an array of {len(value)}"
    return repr(value[: 2 * _LONGEST] if type(value) in (str, bytes) else value)[:_LONGEST]
