"""Long histories, one reading a row, turned into rows of all sensors while streaming.

Readings that are not in the order of their times (exports series by series) are sorted on disk first: parts that fit
into memory are sorted, written, and merged while they are read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import NS_PER_S
from edge_agent.errors import DataFileError
from edge_agent.recording.columns import CellError, split_unit
from edge_models.histories.block import Rows, Times, Values
from edge_models.histories.cells import Place, as_numbers, as_times
from edge_models.histories.header import TIME

SENSOR, VALUE, WHEN = "sensor", "value", "time"
_LOOKED_AT = 200_000
_LEAST_INTERVALS = 8
_SPOOL_READINGS = 1_000_000
_READING = np.dtype([("time", np.int64), ("sensor", np.int32), ("value", np.float64)])
_Coded = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Readings:
    """Some readings in the order of the source: ``time_ns`` [M], names of their sensors [M], ``value`` [M]."""

    time_ns: Times
    sensor: Sequence[str]
    value: Values


Source = Callable[[], Iterator[Readings]]


def is_long(names: Collection[str]) -> bool:
    """Whether columns of these names hold one reading a row."""
    return {SENSOR, VALUE} <= set(names) and bool({TIME, WHEN} & set(names))


def readings_of(where: str, objects: Sequence[Mapping[str, Any]], place: Place) -> Readings:
    """Readings from objects with ``sensor``, ``time`` or ``timestamp``, and ``value``.

    :raises DataFileError: an object that is no reading.
    """
    when = TIME if TIME in objects[0] else WHEN
    for row, one in enumerate(objects):
        if one.get(SENSOR) is None or one.get(when) is None or VALUE not in one:
            raise DataFileError(f"{where}: {place(row)}: got {sorted(one)}, expected {SENSOR}, {when} and {VALUE}")
    try:
        return Readings(
            as_times([one[when] for one in objects]),
            [str(one[SENSOR]) for one in objects],
            as_numbers([one[VALUE] for one in objects]),
        )
    except CellError as error:
        raise DataFileError(f"{where}: {place(error.row)}: {error}") from error


class LongTable:
    """Readings of a source as a table. Sensors are listed by name; ``tick_s`` None: the shortest usual interval."""

    def __init__(self, where: str, source: Source, units: Mapping[str, str], tick_s: float | None) -> None:
        self.where = where
        self._source = source
        found = _look(where, source)
        self._code = {name: code for code, name in enumerate(sorted(found.names))}
        split = {name: split_unit(name) for name in self._code}
        self.sensors = tuple(split[name][0] for name in self._code)
        self.units = tuple(units.get(name, unit) for name, (_, unit) in split.items())
        self._tick_ns = round((tick_s or found.interval_s or 1.0) * NS_PER_S)
        self._spool = None if found.in_order else _Spool(self._coded())
        unordered = "readings are not in the order of their times; they are sorted on disk while reading"
        self.notes = () if found.in_order else (unordered,)

    def rows(self, most: int) -> Iterator[Rows]:
        origin: int | None = None
        parts = self._coded() if self._spool is None else self._spool.merged()
        for part in parts:
            if origin is None:
                origin = int(part["time"][0])
            tick = (part["time"] - origin + self._tick_ns // 2) // self._tick_ns
            yield from self._wide(part, tick, origin, most)

    def _wide(self, part: _Coded, tick: Times, origin: int, most: int) -> Iterator[Rows]:
        """One row for each tick that brought anything; of several readings in a tick the last one counts."""
        present, row = np.unique(tick, return_inverse=True)
        for first in range(0, len(present), most):
            chosen = (row >= first) & (row < first + most)
            ticks = present[first : first + most]
            values = np.full((len(ticks), len(self._code)), np.nan)
            known = chosen & np.isfinite(part["value"])
            values[row[known] - first, part["sensor"][known]] = part["value"][known]
            yield Rows(origin + ticks * self._tick_ns, values)

    def _coded(self) -> Iterator[_Coded]:
        for readings in self._source():
            part = np.empty(len(readings.value), _READING)
            part["time"], part["value"] = readings.time_ns, readings.value
            part["sensor"] = [self._code[name] for name in readings.sensor]
            yield part


@dataclass(frozen=True, slots=True)
class _Look:
    names: set[str]
    in_order: bool
    interval_s: float | None


def _look(where: str, source: Source) -> _Look:
    """One pass over all readings for their sensors, order and usual interval."""
    names: set[str] = set()
    head: list[Readings] = []
    seen, last, in_order = 0, None, True
    for readings in source():
        names.update(readings.sensor)
        time = readings.time_ns
        in_order = in_order and bool((np.diff(time) >= 0).all()) and (last is None or last <= time[0])
        last = int(time[-1])
        if seen < _LOOKED_AT:
            head.append(readings)
        seen += len(time)
    if not names:
        raise DataFileError(f"{where}: no readings, expected at least one sensor with values")
    return _Look(names, in_order, _interval_s(head))


def _interval_s(head: Sequence[Readings]) -> float | None:
    """The shortest median interval of a sensor; None where too little is known."""
    time = np.concatenate([readings.time_ns for readings in head])
    sensor = np.concatenate([np.array(readings.sensor, np.str_) for readings in head])
    order = np.lexsort((time, sensor))
    step = np.diff(time[order])
    same = (sensor[order][1:] == sensor[order][:-1]) & (step > 0)
    names, which = np.unique(sensor[order][1:][same], return_inverse=True)
    medians = [
        np.median(step[same][which == at]) for at in range(len(names)) if (which == at).sum() >= _LEAST_INTERVALS
    ]
    return float(min(medians)) / NS_PER_S if medians else None


class _Spool:
    """Readings sorted by time in files of a temporary folder, which goes when this object does."""

    def __init__(self, parts: Iterator[_Coded]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edge-agent-history-")
        self._files: list[Path] = []
        waiting: list[_Coded] = []
        for part in parts:
            waiting.append(part)
            if sum(map(len, waiting)) >= _SPOOL_READINGS:
                self._write(waiting)
                waiting = []
        if waiting:
            self._write(waiting)

    def _write(self, parts: Sequence[_Coded]) -> None:
        whole = np.concatenate(parts)
        path = Path(self._folder.name) / f"{len(self._files)}.npy"
        np.save(path, whole[np.argsort(whole["time"], kind="stable")])
        self._files.append(path)

    def merged(self) -> Iterator[_Coded]:
        """All readings in order; of equal times, in the order of the source."""
        runs = [np.load(path, mmap_mode="r") for path in self._files]
        at = [0] * len(runs)
        share = max(64, _SPOOL_READINGS // 4 // len(runs))
        while True:
            ends = [
                run["time"][min(place + share, len(run)) - 1]
                for run, place in zip(runs, at, strict=True)
                if place < len(run)
            ]
            if not ends:
                return
            limit = min(ends)
            stop = [int(np.searchsorted(run["time"], limit, "right")) for run in runs]
            part = np.concatenate([run[a:b] for run, a, b in zip(runs, at, stop, strict=True)])
            at = [max(a, b) for a, b in zip(at, stop, strict=True)]
            yield part[np.argsort(part["time"], kind="stable")]
