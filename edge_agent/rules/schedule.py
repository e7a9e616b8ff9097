"""Times at which a rule applies: they begin as a crontab says, and last for a while. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_timezone(name: str) -> None:
    """:raises ValueError: there is no time zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"timezone: got {name!r}, expected a time zone such as UTC or Europe/Berlin") from error


def check_schedule(begins: str, timezone: str) -> None:
    """:raises ValueError: it is no crontab line, or its time never comes."""
    expected = "expected five fields as in a crontab, such as '0 6 * * MON-FRI' (on working days at six)"
    if len(begins.split()) != 5:
        raise ValueError(f"begins: got {begins!r}, {expected}")
    try:
        first = next(CronSim(begins, datetime(2026, 1, 1, tzinfo=ZoneInfo(timezone))), None)
    except CronSimError as error:
        raise ValueError(f"begins: got {begins!r} ({error}), {expected}") from error
    if first is None:
        raise ValueError(f"begins: got {begins!r}, which never comes; {expected}")


@dataclass(frozen=True, slots=True)
class Window:
    """One line of a schedule: from each time of ``begins`` on for ``duration_s``."""

    begins: str
    duration_s: float
    timezone: str


class Schedule:
    """Answers whether one of ``windows`` is open; without any it always is. Looks at the calendar at changes only."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = tuple(windows)
        self._open = True
        self._valid_ns = (0, 0)

    def open_at(self, wall_ns: int) -> bool:
        """Whether the rule applies at this wall time."""
        if not self._windows:
            return True
        since_ns, until_ns = self._valid_ns
        if not since_ns <= wall_ns < until_ns:
            self._look(wall_ns)
        return self._open

    def _look(self, wall_ns: int) -> None:
        changes_ns = 2**63
        self._open = False
        for window in self._windows:
            ends_ns, begins_ns = _around(window, wall_ns)
            if wall_ns < ends_ns:
                self._open = True
                changes_ns = min(changes_ns, ends_ns)
            changes_ns = min(changes_ns, begins_ns)
        self._valid_ns = (wall_ns, changes_ns)


def _around(window: Window, wall_ns: int) -> tuple[int, int]:
    """When the one that began last ends, and when the next begins, wall ns."""
    now = (_EPOCH + timedelta(microseconds=wall_ns // 1_000)).astimezone(ZoneInfo(window.timezone))
    # The search backwards leaves out its starting point.
    last = next(CronSim(window.begins, now + timedelta(microseconds=1), reverse=True), None)
    following = next(CronSim(window.begins, now), None)
    ends_ns = 0 if last is None else _wall_ns(last) + round(window.duration_s * 1e9)
    return ends_ns, 2**63 if following is None else _wall_ns(following)


def _wall_ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
