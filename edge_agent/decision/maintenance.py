"""Maintenance windows: when work on the plant is announced, and which sensors it concerns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from edge_agent.options import Duration, Options

_NS_PER_US = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_SET_NS = 1_577_836_800 * 10**9  # 2020: a gateway that believes to be earlier has not been told the time yet
_LONGEST_S = 31 * 86_400.0


class MaintenanceOptions(Options):
    """Work on the plant that comes again and again: incidents in it disturb nobody, and nothing is learned from it."""

    name: str = Field(min_length=1, max_length=100, description="Name, shown in the incidents that fall into it.")
    schedule: str = Field(
        description="When it begins, as in a crontab: minute, hour, day of month, month, day of week.",
        examples=["0 6 * * SUN"],
    )
    duration: Duration = Field(gt=0, le=_LONGEST_S, description="How long it takes, at most 31d.")
    timezone: str = Field(
        default="UTC", description="Time zone of `schedule`, as in the IANA database.", examples=["Europe/Berlin"]
    )
    sensors: tuple[str, ...] = Field(
        default=(), description="Sensors concerned, as shell-style patterns. Default with no `areas`: all."
    )
    areas: tuple[str, ...] = Field(default=(), description="Areas concerned, as shell-style patterns.")

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"got {name!r}, expected a time zone such as UTC or Europe/Berlin") from error
        return name

    @model_validator(mode="after")
    def _ever_begins(self) -> Self:
        expected = "expected five fields as in a crontab, such as '0 6 * * SUN' (Sundays at six)"
        if len(self.schedule.split()) != 5:
            raise ValueError(f"schedule: got {self.schedule!r}, {expected}")
        try:
            first = next(CronSim(self.schedule, datetime(2026, 1, 1, tzinfo=ZoneInfo(self.timezone))), None)
        except CronSimError as error:
            raise ValueError(f"schedule: got {self.schedule!r} ({error}), {expected}") from error
        if first is None:
            raise ValueError(f"schedule: got {self.schedule!r}, which never comes; {expected}")
        return self


class Windows:
    """Answers which windows are open. A wall clock that was never set opens none."""

    def __init__(self, options: Sequence[MaintenanceOptions]) -> None:
        self._options = tuple(options)
        self._open: tuple[MaintenanceOptions, ...] = ()
        self._valid_ns = (0, 0)  # wall time from and until which the answer stays the same

    def open_at(self, wall_ns: int) -> tuple[MaintenanceOptions, ...]:
        """Windows that are open at ``wall_ns``; the same object until that changes."""
        if not self._options or wall_ns < _CLOCK_SET_NS:
            return ()
        since_ns, until_ns = self._valid_ns
        if not since_ns <= wall_ns < until_ns:
            self._look(wall_ns)
        return self._open

    def _look(self, wall_ns: int) -> None:
        found, until_ns = [], 2**63
        for one in self._options:
            ends_ns, begins_ns = _around(one, wall_ns)
            if wall_ns < ends_ns:
                found.append(one)
                until_ns = min(until_ns, ends_ns)
            until_ns = min(until_ns, begins_ns)
        self._valid_ns = (wall_ns, until_ns)
        if tuple(found) != self._open:
            self._open = tuple(found)


def _around(one: MaintenanceOptions, wall_ns: int) -> tuple[int, int]:
    """When the window that began last ends, and when the next one begins, wall ns."""
    now = (_EPOCH + timedelta(microseconds=wall_ns // _NS_PER_US)).astimezone(ZoneInfo(one.timezone))
    # The search backwards leaves out its starting point.
    last = next(CronSim(one.schedule, now + timedelta(microseconds=1), reverse=True), None)
    following = next(CronSim(one.schedule, now), None)
    ends_ns = 0 if last is None else _wall_ns(last) + round(one.duration * 10**9)
    return ends_ns, 2**63 if following is None else _wall_ns(following)


def _wall_ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * _NS_PER_US
