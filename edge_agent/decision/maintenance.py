"""Maintenance windows: when work on the plant is announced, and which sensors it concerns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, field_validator, model_validator

from edge_agent.options import Duration, Options
from edge_agent.schedule import CLOCK_SET_NS, check_schedule, check_timezone, last_before, next_after

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
        return check_timezone(name)

    @model_validator(mode="after")
    def _ever_begins(self) -> Self:
        try:
            check_schedule(self.schedule, self.timezone)
        except ValueError as error:
            raise ValueError(f"schedule: {error}") from error
        return self


class Windows:
    """Answers which windows are open. A wall clock that was never set opens none."""

    def __init__(self, options: Sequence[MaintenanceOptions]) -> None:
        self._options = tuple(options)
        self._open: tuple[MaintenanceOptions, ...] = ()
        self._valid_ns = (0, 0)  # wall time from and until which the answer stays the same

    def open_at(self, wall_ns: int) -> tuple[MaintenanceOptions, ...]:
        """Windows that are open at ``wall_ns``; the same object until that changes."""
        if not self._options or wall_ns < CLOCK_SET_NS:
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
    last = last_before(one.schedule, one.timezone, wall_ns)
    following = next_after(one.schedule, one.timezone, wall_ns)
    ends_ns = 0 if last is None else last + round(one.duration * 10**9)
    return ends_ns, 2**63 if following is None else following
