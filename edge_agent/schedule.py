"""Times that come again and again, written as in a crontab in the time zone of the plant. Pure; wall times in ns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

CLOCK_SET_NS = 1_577_836_800 * 10**9
"""2020: a gateway that believes to be earlier has not been told the time yet."""

_NS_PER_US = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXPECTED = "expected five fields as in a crontab, such as '0 6 * * SUN' (Sundays at six)"


def check_timezone(name: str) -> str:
    """``name``, which is a time zone of the IANA database. :raises ValueError: it is not."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"got {name!r}, expected a time zone such as UTC or Europe/Berlin") from error
    return name


def check_schedule(schedule: str, timezone: str) -> None:
    """:raises ValueError: ``schedule`` cannot be read, or never comes."""
    if len(schedule.split()) != 5:
        raise ValueError(f"got {schedule!r}, {_EXPECTED}")
    try:
        first = next(CronSim(schedule, datetime(2026, 1, 1, tzinfo=ZoneInfo(timezone))), None)
    except CronSimError as error:
        raise ValueError(f"got {schedule!r} ({error}), {_EXPECTED}") from error
    if first is None:
        raise ValueError(f"got {schedule!r}, which never comes; {_EXPECTED}")


def last_before(schedule: str, timezone: str, wall_ns: int) -> int | None:
    """When ``schedule`` came last, at ``wall_ns`` or before; None: never."""
    # The search backwards leaves out its starting point.
    start = _local(wall_ns, timezone) + timedelta(microseconds=1)
    return _wall_ns(next(CronSim(schedule, start, reverse=True), None))


def next_after(schedule: str, timezone: str, wall_ns: int) -> int | None:
    """When ``schedule`` comes next, after ``wall_ns``; None: never."""
    return _wall_ns(next(CronSim(schedule, _local(wall_ns, timezone)), None))


def _local(wall_ns: int, timezone: str) -> datetime:
    return (_EPOCH + timedelta(microseconds=wall_ns // _NS_PER_US)).astimezone(ZoneInfo(timezone))


def _wall_ns(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1) * _NS_PER_US
