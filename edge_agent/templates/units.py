"""Durations, times and quantities as people write them. Every function takes what an event's JSON holds."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def duration_text(seconds: float | None) -> str:
    """The two largest units that count: ``45s``, ``3m 20s``, ``1h 5m``, ``2d 3h``; ``?`` when not known."""
    if seconds is None:
        return "?"
    if seconds < 0:
        return "-" + duration_text(-seconds)
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0s"


def seconds_between(first: str, second: str) -> float:
    """Seconds from one RFC 3339 time to another. :raises ValueError: one of them is none."""
    return (_moment(second) - _moment(first)).total_seconds()


def clock_text(time: str | None, zone: str = "UTC") -> str:
    """``2026-11-20 10:42:07 UTC`` of an RFC 3339 time, in ``zone`` (``Europe/Vienna``); ``?`` when not known.

    :raises ValueError: no time, or a zone that this system does not know.
    """
    return "?" if time is None else _moment(time).astimezone(_zone(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def hour_text(time: str | None, zone: str = "UTC") -> str:
    """``10:42:07``, otherwise as :func:`clock_text`."""
    return "?" if time is None else _moment(time).astimezone(_zone(zone)).strftime("%H:%M:%S")


def quantity_text(value: float | None, unit: str | None = None) -> str:
    """Four significant digits and the unit: ``812.4 mm``; ``nothing`` for a sensor without a value."""
    if value is None:
        return "nothing"
    large = abs(value) >= 1000 and abs(value) < 1e9
    number = f"{value:.0f}" if large else f"{value:.4g}"
    return f"{number} {unit}" if unit else number


def percent_text(share: float | None) -> str:
    """``62 %`` of 0.62; ``?`` when not known."""
    return "?" if share is None else f"{100 * share:.0f} %"


def _moment(time: str) -> datetime:
    if not isinstance(time, str):
        raise ValueError(f"got {time!r}, expected a time such as 2026-11-20T10:42:07Z")
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"got the time zone {name!r}, which this system does not know; expected UTC or such"
        ) from error
