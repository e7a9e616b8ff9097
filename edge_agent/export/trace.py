"""What the pipeline tells of one tick that was chosen to be traced. Times are wall clock, ns since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Stage(NamedTuple):
    """One step of a tick: ``intake``, ``graph``, ``score``, ``decide`` or ``deliver``."""

    name: str
    start_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class ReadingTrace:
    """One reading that landed in the tick: when it arrived, and when intake had taken it."""

    sensor: str
    source: str
    arrival_ns: int
    taken_ns: int


@dataclass(frozen=True, slots=True)
class TickTrace:
    """A traced tick. ``p_value`` is None while warming up; ``incidents`` are the ids that it opened or changed."""

    tick: int
    start_ns: int
    stages: tuple[Stage, ...]
    sensors: int
    score: float
    p_value: float | None
    reading: ReadingTrace | None = None
    incidents: tuple[str, ...] = ()

    @property
    def end_ns(self) -> int:
        """When the last stage ended."""
        return max((stage.start_ns + stage.duration_ns for stage in self.stages), default=self.start_ns)


def is_sampled(tick: int, ratio: float) -> bool:
    """True for ``ratio`` of all ticks, evenly spread and the same in every run: 0.01 takes each hundredth."""
    return int((tick + 1) * ratio) > int(tick * ratio)
