"""Numbers, rates, spans and times as people write them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge_agent.verdict import rfc3339

_PER = ((1.0, "s", "second"), (60.0, "min", "minute"), (3600.0, "h", "hour"), (86_400.0, "d", "day"))
_COARSE = 10.0  # ticks: a rate is told per a time that is at least a tenth of a tick
_DATED_NS = 12 * 3600 * 10**9  # from then on a time of day alone could be that of another day
_MOST_DIGITS = 9


def number(value: float) -> str:
    """A value as people write it: four significant digits, no needless exponent."""
    if not math.isfinite(value):
        return "?"
    if value and not 1e-6 <= abs(value) < 1e12:
        return f"{value:.4g}"
    return np.format_float_positional(value + 0.0, precision=4, unique=False, fractional=False, trim="-")


def with_unit(value: float, unit: str | None) -> str:
    """Such as ``812.3 mm``, ``45 %`` or, without a unit, ``812.3``."""
    return number(value) + (f" {unit}" if unit else "")


def comparison(seen: float, expected: float, scale: float, unit: str | None, when: str) -> str:
    """Such as ``read 1013.42 hPa at 10:42:07 UTC, expected 1013.31 ± 0.02 hPa``: the difference shows."""
    after = f" {unit}" if unit else ""
    if not all(map(math.isfinite, (seen, expected, scale))):
        return f"read {number(seen)}{after} at {when}, expected {number(expected)}{after}"
    finest = min((size for size in (abs(seen - expected), scale) if size > 0.0), default=0.0)
    left, right = _together(seen, expected, finest)
    spread = f" ± {_two_digits(scale)}" if scale > 0.0 else ""
    return f"read {left}{after} at {when}, expected {right}{spread}{after}"


def rate(per_second: float, unit: str | None, period_s: float, like: float | None = None) -> str:
    """Such as ``4.1 mm/s``, ``3 %/min`` or ``0.2 m³/h per min``: the shortest time in which it is at least one.

    Never per a time much shorter than the ``period_s`` between two readings. ``like``: a rate that is told beside it,
    and decides per what time.
    """
    size = abs(per_second if like is None else like)
    fit = [per for per in _PER if per[0] * _COARSE >= period_s] or [_PER[-1]]
    seconds, short, long = next((per for per in fit if size * per[0] >= 1.0), None) or _near_one(size, fit)
    text = _two_digits(abs(per_second) * seconds)
    if not unit:
        return f"{text} per {long}"
    return f"{text} {unit} per {short}" if "/" in unit else f"{text} {unit}/{short}"


def span(seconds: float) -> str:
    """Such as ``0.5 s``, ``34 s``, ``12 min``, ``3.5 h`` or ``2.1 days``."""
    if seconds < 120.0:
        return f"{seconds:.1f} s" if seconds < 9.95 and seconds != round(seconds) else f"{seconds:.0f} s"
    if seconds < 7200.0:
        return f"{seconds / 60.0:.0f} min"
    if seconds < 172_800.0:
        return f"{_trimmed(seconds / 3600.0)} h"
    return f"{_trimmed(seconds / 86_400.0)} days"


def time_of(wall_ns: int, now_ns: int) -> str:
    """Such as ``10:42:07 UTC``, with the date when it is not of about the same day as ``now_ns``."""
    text = rfc3339(wall_ns)
    clock = f"{text[11:19]} UTC"
    return clock if abs(now_ns - wall_ns) < _DATED_NS else f"{text[:10]} {clock}"


def listed(names: Sequence[str], of: int | None = None) -> str:
    """Such as ``A, B and C``; where they are the first ``of`` more, ``A, B, C and 7 more``."""
    shown, more = list(names), 0 if of is None else of - len(names)
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _together(seen: float, expected: float, finest: float) -> tuple[str, str]:
    """Both with as many decimals, so that ``finest`` shows in two digits."""
    largest = max(abs(seen), abs(expected))
    if largest >= 1e12 or (0.0 < largest < 1e-6):
        return number(seen), number(expected)
    places = 3 - _exponent(largest) if finest == 0.0 else 1 - _exponent(finest)
    places = min(places, _MOST_DIGITS - 1 - _exponent(largest))
    return _fixed(seen, places), _fixed(expected, places)


def _fixed(value: float, places: int) -> str:
    rounded = round(value, places) + 0.0
    return f"{rounded:.{max(0, places)}f}".rstrip("0").rstrip(".") if places > 0 else f"{rounded:.0f}"


def _two_digits(size: float) -> str:
    if size == 0.0 or not math.isfinite(size):
        return "0" if size == 0.0 else "?"
    return _fixed(size, 1 - _exponent(size)) if 1e-6 <= size < 1e12 else f"{size:.2g}"


def _trimmed(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _exponent(size: float) -> int:
    return math.floor(math.log10(size)) if size > 0.0 else 0


def _near_one(size: float, fit: Sequence[tuple[float, str, str]]) -> tuple[float, str, str]:
    """No time makes it one: the longest, or where nothing moves the shortest."""
    return fit[-1] if size > 0.0 else fit[0]
