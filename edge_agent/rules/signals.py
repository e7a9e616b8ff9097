"""What rules look at in one tick: values, ages and changes of the sensors they name, as one row of numbers. Pure.

Every distinct question (the value of LIT101, its change in 5 minutes, the mean of ``tank.*.level``) has one place in
the row, however many rules ask it, and all of one kind are answered at once on columns. NaN is "not known".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.sample import Quality

Row = NDArray[np.float64]

_NEVER = 1e8  # ages in ticks beyond it stand for "no reading yet"
_MOST_SAMPLES = 120
"""Samples kept of a window of time: its beginning is known to a hundredth of its length."""


class Question(Enum):
    """What is asked of one sensor. ``CHANGE`` is its value now less that of ``over_s`` ago; ``STILL`` the seconds for
    which it has not changed; ``AGE`` seconds since a good reading; ``MISSING`` and ``STUCK`` (a flag) are 0 or 1."""

    VALUE = "value"
    AGE = "age"
    MISSING = "missing"
    STUCK = "stuck"
    STILL = "still"
    CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Ask:
    """One question about ``sensor``. ``flagged``: judge values with a data-quality flag too."""

    question: Question
    sensor: str
    over_s: float = 0.0
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``min``, ``max``, ``avg`` or ``sum`` of the sensors that match ``pattern`` and have a value."""

    function: str
    pattern: str
    flagged: bool = False


_AGGREGATES: Mapping[str, Callable[[Row], float]] = {
    "min": lambda row: float(row.min()),
    "max": lambda row: float(row.max()),
    "avg": lambda row: float(row.mean()),
    "sum": lambda row: float(row.sum()),
}


class Signals:
    """Gives each question its place, and answers all of them once a tick. Places never move and are not given back."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._places: dict[Ask | Aggregate, int] = {}
        self._sensors: tuple[str, ...] | None = None
        self._groups: dict[tuple[Question, bool, float], _Group] = {}
        self._aggregates: dict[Aggregate, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def place(self, wanted: Ask | Aggregate) -> int:
        """Where in the row the answer to ``wanted`` stands."""
        known = self._places.get(wanted)
        if known is not None:
            return known
        place = self._places[wanted] = len(self._places)
        if isinstance(wanted, Aggregate):
            self._aggregates[wanted] = np.zeros(0, np.int64)
        else:
            key = (wanted.question, wanted.flagged, wanted.over_s)
            group = self._groups.get(key)
            if group is None:
                group = self._groups[key] = _new_group(wanted, self._period_s)
            group.add(wanted.sensor, place)
        self._sensors = None
        return place

    def sensors(self) -> set[str]:
        """All sensors that are asked about by name."""
        return {wanted.sensor for wanted in self._places if isinstance(wanted, Ask)}

    def row(self, snapshot: Snapshot, now_s: float) -> Row:
        """The answers at ``now_s``, pipeline time in seconds."""
        if snapshot.sensors is not self._sensors:
            self._align(snapshot.sensors)
        row = np.full(len(self._places), np.nan)
        trusted = _Columns(snapshot, flagged=False)
        every = _Columns(snapshot, flagged=True) if any(flagged for _, flagged, _ in self._groups) else trusted
        for (_, flagged, _), group in self._groups.items():
            row[group.places] = group.answer(every if flagged else trusted, now_s)
        for wanted, index in self._aggregates.items():
            values = (_Columns(snapshot, flagged=True) if wanted.flagged else trusted).value[index]
            values = values[~np.isnan(values)]
            if len(values):
                row[self._places[wanted]] = _AGGREGATES[wanted.function](values)
        return row

    def _align(self, sensors: tuple[str, ...]) -> None:
        index = {name: i for i, name in enumerate(sensors)}
        for group in self._groups.values():
            group.align(index)
        for wanted in self._aggregates:
            matches = re.compile(fnmatch.translate(wanted.pattern)).match  # each look-up by fnmatch costs as much again
            matching = [i for i, name in enumerate(sensors) if matches(name)]
            self._aggregates[wanted] = np.array(matching, dtype=np.int64)
        self._sensors = sensors


class _Columns:
    """Columns of a snapshot, with one entry more at the end: what is true of a sensor that is not in it."""

    def __init__(self, snapshot: Snapshot, *, flagged: bool) -> None:
        never = snapshot.age > _NEVER
        usable = ~never if flagged else snapshot.usable
        self.value = np.append(np.where(usable, snapshot.value, np.nan), np.nan)
        self.age = np.append(np.where(never, np.nan, snapshot.age), np.nan)
        self.stuck = np.append((snapshot.quality & np.int32(Quality.STUCK)) != 0, False)


class _Group:
    """All sensors of which the same is asked."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._places: list[int] = []
        self._index: NDArray[np.int64] = np.zeros(0, np.int64)
        self.places: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, sensor: str, place: int) -> None:
        """Take in another sensor, answered at ``place``, from the next :meth:`align` on."""
        self._names.append(sensor)
        self._places.append(place)

    def align(self, index: Mapping[str, int]) -> None:
        """Find the sensors in other columns."""
        self._index = np.array([index.get(name, -1) for name in self._names], dtype=np.int64)
        self.places = np.array(self._places, dtype=np.int64)

    def answer(self, columns: _Columns, now_s: float) -> Row:
        """The answers, in the order in which sensors were added."""
        return np.asarray(columns.value[self._index])


class _Ages(_Group):
    def __init__(self, period_s: float) -> None:
        super().__init__()
        self._period_s = period_s

    def answer(self, columns: _Columns, now_s: float) -> Row:
        return np.asarray(columns.age[self._index] * self._period_s)


class _Missing(_Group):
    def answer(self, columns: _Columns, now_s: float) -> Row:
        return np.where(np.isnan(columns.value[self._index]), 1.0, 0.0)


class _Stuck(_Group):
    def answer(self, columns: _Columns, now_s: float) -> Row:
        known = ~np.isnan(columns.age[self._index])
        return np.where(known, columns.stuck[self._index], np.nan)


class _Still(_Group):
    """Seconds since the value was seen to change; NaN while it is missing. A gap counts if the value is the same."""

    def __init__(self) -> None:
        super().__init__()
        self._before: Row = np.zeros(0)
        self._since: Row = np.zeros(0)

    def answer(self, columns: _Columns, now_s: float) -> Row:
        value = columns.value[self._index]
        new = len(value) - len(self._before)
        if new:
            self._before = np.append(self._before, np.full(new, np.nan))
            self._since = np.append(self._since, np.full(new, now_s))
        known = ~np.isnan(value)
        other = known & (value != self._before)
        self._since = np.where(other, now_s, self._since)
        self._before = np.where(known, value, self._before)
        return np.where(known, now_s - self._since, np.nan)


class _Changes(_Group):
    """Value now less value ``over_s`` ago, from a ring of samples."""

    def __init__(self, over_s: float, period_s: float) -> None:
        super().__init__()
        self._over_s = over_s
        self._every_s = max(period_s, over_s / _MOST_SAMPLES)
        self._slack_s = period_s / 1e3  # times are sums of ticks
        self._times: list[float] = []
        self._samples: list[Row] = []

    def answer(self, columns: _Columns, now_s: float) -> Row:
        value = columns.value[self._index]
        if not self._times or now_s - self._times[-1] >= self._every_s - self._slack_s:
            self._times.append(now_s)
            self._samples.append(value)
        # The newest sample that is old enough is kept, everything before it is of no use any more.
        while len(self._times) > 1 and now_s - self._times[1] >= self._over_s - self._slack_s:
            del self._times[0], self._samples[0]
        then = self._samples[0]
        if now_s - self._times[0] < self._over_s - self._slack_s:
            return np.full(len(value), np.nan)
        then = np.append(then, np.full(len(value) - len(then), np.nan))
        return (value - then) * (self._over_s / (now_s - self._times[0]))


def _new_group(wanted: Ask, period_s: float) -> _Group:
    match wanted.question:
        case Question.VALUE:
            return _Group()
        case Question.AGE:
            return _Ages(period_s)
        case Question.MISSING:
            return _Missing()
        case Question.STUCK:
            return _Stuck()
        case Question.STILL:
            return _Still()
        case Question.CHANGE:
            return _Changes(wanted.over_s, period_s)
