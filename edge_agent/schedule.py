"""Times that come again and again, written as in a crontab in the time zone of the plant. Pure; wall times in ns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Generic, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, model_validator

from edge_agent.clock import CLOCK_SET_NS, NS_PER_S
from edge_agent.options import Duration, Options

_NS_PER_US = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_NS = 2**63
_EXPECTED = "expected five fields as in a crontab, such as '0 6 * * SUN' (Sundays at six)"


class WindowOptions(Options):
    """A time that comes again and again, and lasts for a while."""

    begins: str = Field(
        description="When it begins, as in a crontab: minute, hour, day of month, month, day of week.",
        examples=["0 6 * * SUN"],
    )
    duration: Duration = Field(gt=0, le=31 * 86_400.0, description="How long it lasts, at most 31d.")
    timezone: str = Field(
        default="UTC", description="Time zone of `begins`, as in the IANA database.", examples=["Europe/Berlin"]
    )

    @model_validator(mode="after")
    def _ever_begins(self) -> Self:
        check_times("begins", self.begins, self.timezone)
        return self


W = TypeVar("W", bound=WindowOptions)


class Windows(Generic[W]):
    """Answers which windows are open; looks at the calendar at changes only. A wall clock never set opens none."""

    def __init__(self, windows: Sequence[W]) -> None:
        self._windows = tuple(windows)
        self._open: tuple[W, ...] = ()
        self._valid_ns = (0, 0)  # wall time from and until which the answer stays the same

    def open_at(self, wall_ns: int) -> tuple[W, ...]:
        """Windows that are open at ``wall_ns``; the same object until that changes."""
        if not self._windows or wall_ns < CLOCK_SET_NS:
            return ()
        since_ns, until_ns = self._valid_ns
        if not since_ns <= wall_ns < until_ns:
            self._look(wall_ns)
        return self._open

    def _look(self, wall_ns: int) -> None:
        found, until_ns = [], _NEVER_NS
        for one in self._windows:
            ends_ns, begins_ns = _around(one, wall_ns)
            if wall_ns < ends_ns:
                found.append(one)
                until_ns = min(until_ns, ends_ns)
            until_ns = min(until_ns, begins_ns)
        self._valid_ns = (wall_ns, until_ns)
        if tuple(found) != self._open:
            self._open = tuple(found)


def check_times(option: str, times: str, timezone: str) -> None:
    """:raises ValueError: ``timezone`` is none, or ``times``, given as ``option``, cannot be read or never come."""
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone: got {timezone!r}, expected a time zone such as UTC or Europe/Berlin") from error
    if len(times.split()) != 5:
        raise ValueError(f"{option}: got {times!r}, {_EXPECTED}")
    try:
        first = next(CronSim(times, datetime(2026, 1, 1, tzinfo=ZoneInfo(timezone))), None)
    except CronSimError as error:
        raise ValueError(f"{option}: got {times!r} ({error}), {_EXPECTED}") from error
    if first is None:
        raise ValueError(f"{option}: got {times!r}, which never comes; {_EXPECTED}")


def next_after(times: str, timezone: str, wall_ns: int) -> int | None:
    """When ``times`` come next, after ``wall_ns``; None: never."""
    return _wall_ns(next(CronSim(times, _local(wall_ns, timezone)), None))


def _last_before(times: str, timezone: str, wall_ns: int) -> int | None:
    # The search backwards leaves out its starting point.
    start = _local(wall_ns, timezone) + timedelta(microseconds=1)
    return _wall_ns(next(CronSim(times, start, reverse=True), None))


def _around(window: WindowOptions, wall_ns: int) -> tuple[int, int]:
    """When the one that began last ends, and when the next one begins, wall ns."""
    last_ns = _last_before(window.begins, window.timezone, wall_ns)
    following_ns = next_after(window.begins, window.timezone, wall_ns)
    ends_ns = 0 if last_ns is None else last_ns + round(window.duration * NS_PER_S)
    return ends_ns, _NEVER_NS if following_ns is None else following_ns


def _local(wall_ns: int, timezone: str) -> datetime:
    return (_EPOCH + timedelta(microseconds=wall_ns // _NS_PER_US)).astimezone(ZoneInfo(timezone))


def _wall_ns(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1) * _NS_PER_US
