"""The history as a table to train on: kept readings on a regular grid, and the incidents with what people said of them.

Reads the file of a stopped daemon, a copy of it, or that of a running one, and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataFileError
from edge_agent.history.archive import Archive, history_file, opened
from edge_agent.history.readings import ReadingRows, ReadingsOptions
from edge_agent.options import format_duration
from edge_agent.verdict import Feedback, IncidentKind

_NEW_RUN = 10  # rows missing in a row, from which on it is another run


@dataclass(frozen=True, slots=True)
class Period:
    """One process incident: when it was open (wall ns; ``stop_ns`` None: it still is) and what a person said of it."""

    incident: str
    start_ns: int
    stop_ns: int | None
    verdict: Feedback | None


@dataclass(frozen=True, slots=True)
class ReadingTable:
    """Readings on a regular grid: ``values`` [T, N], NaN where there was none; ``every_ns`` between two rows of a run.

    ``run`` [T] counts stretches without a long gap. ``alarm`` [T]: a process incident was open in the daemon's eyes.
    ``periods``: incidents in the order of their start, also those outside of the readings.
    """

    path: Path
    sensors: tuple[str, ...]
    every_ns: int
    time_ns: NDArray[np.int64]
    values: NDArray[np.float64]
    alarm: NDArray[np.bool_]
    run: NDArray[np.int64]
    periods: tuple[Period, ...]

    def __len__(self) -> int:
        return len(self.time_ns)


def read_readings(path: Path | str, most_rows: int = 200_000, kept_as: ReadingsOptions | None = None) -> ReadingTable:
    """The newest ``most_rows`` rows of the history at ``path``: the file, or the data folder it is in.

    ``kept_as``: options of the daemon that writes it, if they are known, for the message when there are none.
    :raises DataFileError: it is no history, is damaged, or holds no readings.
    """
    path = history_file(path)
    with opened(path) as archive:
        blocks = archive.newest_readings(most_rows)
        periods = _periods(archive)
    if not blocks:
        raise DataFileError(f"{path}: holds no readings; {_when_there_are_some(kept_as)}")
    return _table(path, blocks, periods, most_rows)


def _when_there_are_some(kept_as: ReadingsOptions | None) -> str:
    if kept_as is None or kept_as.every is None:
        return "set history.readings.every and let the daemon gather some days"
    return (
        f"history.readings.every is set, and the daemon writes them once in {format_duration(kept_as.block)} "
        "(history.readings.block) and when it stops: try again then"
    )


def _periods(archive: Archive) -> tuple[Period, ...]:
    return tuple(
        Period(name, opened_ns, closed_ns, None if said is None else Feedback(said))
        for name, opened_ns, closed_ns, body, said in archive.openings()
        if body.get("kind") == IncidentKind.PROCESS.value
    )


def _table(path: Path, blocks: list[ReadingRows], periods: tuple[Period, ...], most_rows: int) -> ReadingTable:
    sensors = tuple(dict.fromkeys(name for block in reversed(blocks) for name in block.sensors))
    time_ns = np.concatenate([block.time_ns for block in blocks])
    order = np.argsort(time_ns, kind="stable")
    steps = np.diff(time_ns[order])
    every_ns = int(np.median(steps[steps > 0])) if (steps > 0).any() else 1
    at, run = _grid(time_ns[order], every_ns)
    length = int(at[-1]) + 1
    values = np.full((length, len(sensors)), np.nan)
    alarm, filled_ns = np.zeros(length, np.bool_), np.zeros(length, np.int64)
    runs = np.zeros(length, np.int64)
    place = np.empty(len(order), np.int64)
    place[order] = at
    done = 0
    for block in blocks:
        rows = place[done : done + len(block)]
        columns = np.array([sensors.index(name) for name in block.sensors], np.int64)
        values[np.ix_(rows, columns)] = block.values
        alarm[rows] |= block.alarm
        done += len(block)
    filled_ns[at], runs[at] = time_ns[order], run
    holes = np.flatnonzero(filled_ns == 0)
    for hole in holes:  # in the order of time: the row before is known
        filled_ns[hole], runs[hole], alarm[hole] = filled_ns[hole - 1] + every_ns, runs[hole - 1], alarm[hole - 1]
    last = slice(max(0, length - most_rows), length)
    return ReadingTable(path, sensors, every_ns, filled_ns[last], values[last], alarm[last], runs[last], periods)


def _grid(time_ns: NDArray[np.int64], every_ns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and run of each time: a short gap leaves rows free, a long one begins a run."""
    steps = np.rint(np.diff(time_ns) / every_ns).astype(np.int64)
    new_run = steps > _NEW_RUN
    at = np.concatenate(([0], np.cumsum(np.where(new_run, 1, steps))))
    return at, np.concatenate(([0], np.cumsum(new_run)))
