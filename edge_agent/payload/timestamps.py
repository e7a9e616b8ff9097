"""Source timestamps in any usual form to nanoseconds since 1970 (UTC)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from edge_agent.errors import PayloadError
from edge_agent.payload.excerpt import excerpt

TimeParser = Callable[[Any], int | None]
"""Nanoseconds, or None for ``null``. :raises PayloadError: with reason ``time``."""


class TimeForm(StrEnum):
    """Forms with a name of their own; anything else with a ``%`` in it is a ``strptime`` pattern."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"
    ISO8601 = "iso8601"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIMIT_NS = 2**63
_TICKS_PER_SECOND = {
    TimeForm.SECONDS: 1,
    TimeForm.MILLISECONDS: 10**3,
    TimeForm.MICROSECONDS: 10**6,
    TimeForm.NANOSECONDS: 10**9,
}


def time_parser(form: str, zone_name: str) -> TimeParser:
    """The parser for one form. Times without an offset are taken to be in ``zone_name`` (IANA)."""
    zone: tzinfo = UTC if zone_name == "UTC" else ZoneInfo(zone_name)
    if form == TimeForm.AUTO:
        return _auto(zone)
    if form == TimeForm.ISO8601:
        return lambda value: None if value is None else _calendar(value, datetime.fromisoformat, zone)
    if form in _TICKS_PER_SECOND:
        factor = 10**9 // _TICKS_PER_SECOND[TimeForm(form)]
        return lambda value: None if value is None else _count(_number(value), factor)

    def by_pattern(text: str) -> datetime:
        return datetime.strptime(text, form)  # noqa: DTZ007  the zone is added where the text has none

    return lambda value: None if value is None else _calendar(value, by_pattern, zone)


def _auto(zone: tzinfo) -> TimeParser:
    def parse(value: Any) -> int | None:
        if type(value) is float and -9e9 < value < 9e9:  # seconds within the range, the usual form, without detours
            return round(value * 1e6) * 1000
        if value is None:
            return None
        if type(value) is str and not _looks_numeric(value):
            return _calendar(value, datetime.fromisoformat, zone)
        number = _number(value)
        return _count(number, _factor_by_magnitude(abs(number)))

    return parse


def _factor_by_magnitude(number: float) -> int:
    """Nanoseconds a tick. 1e11 is the year 5138 in seconds and 1973 in milliseconds: no gateway means either."""
    if number < 1e11:
        return 10**9
    if number < 1e14:
        return 10**6
    return 10**3 if number < 1e17 else 1


def _count(number: float, factor: int) -> int:
    if type(number) is int:
        time_ns = number * factor
    else:
        # A double holds the present to a quarter of a microsecond: digits below are noise of the representation.
        time_ns = round(number * (factor / 1000)) * 1000 if factor >= 1000 else round(number)
    return _within_range(time_ns, number)


def _number(value: Any) -> float:
    if type(value) is str and _looks_numeric(value):
        value = float(value) if "." in value else int(value)
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) >= _LIMIT_NS:
        raise PayloadError("time", f"timestamp: got {excerpt(value)}, expected a number since 1970")
    return value  # type: ignore[no-any-return]  # checked above


def _looks_numeric(text: str) -> bool:
    # Eight digits would also be the ISO basic date 20261120; as seconds they would mean 1970, which nobody sends.
    return len(text) <= 32 and text.isascii() and len(text) != 8 and text.replace(".", "", 1).isdigit()


def _calendar(value: Any, parse: Callable[[str], datetime], zone: tzinfo) -> int:
    try:
        moment = parse(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        since = moment - _EPOCH
    except (TypeError, ValueError, OverflowError) as error:
        raise PayloadError(
            "time", f"timestamp: got {excerpt(value)}, expected a time such as 2026-11-20T10:42:07Z"
        ) from error
    return _within_range((since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000, value)


def _within_range(time_ns: int, value: Any) -> int:
    if -_LIMIT_NS < time_ns < _LIMIT_NS:
        return time_ns
    raise PayloadError("time", f"timestamp: got {excerpt(value)}, expected a time between 1678 and 2262")
