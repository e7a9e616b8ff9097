"""The history as a table to train on: kept readings on a regular grid, and the incidents with what people said of them.

Reads the file of a stopped daemon, a copy of it, or that of a running one, and changes nothing.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from edge_agent.errors import DataFileError, StoreError
from edge_agent.history.readings import ReadingRows, decode
from edge_agent.verdict import Feedback, IncidentKind

FILE = "history.db"
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


def read_readings(path: Path | str, most_rows: int = 200_000) -> ReadingTable:
    """The newest ``most_rows`` rows of the history at ``path``: the file, or the data folder it is in.

    :raises DataFileError: it is no history, is damaged, or holds no readings.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise DataFileError(f"{path}: not found, expected a history of the daemon ({FILE} in its data folder)")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            blocks = _blocks(database, most_rows)
            periods = _periods(database)
    except (sqlite3.Error, StoreError, zlib.error, KeyError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as a history of the daemon: {error}") from error
    if not blocks:
        raise DataFileError(
            f"{path}: holds no readings; set history.readings.every and let the daemon gather some days"
        )
    return _table(path, blocks, periods, most_rows)


def _blocks(database: sqlite3.Connection, most_rows: int) -> list[ReadingRows]:
    """Newest blocks, in the order of time."""
    layouts = {
        name: tuple(orjson.loads(zlib.decompress(sensors)))
        for name, sensors in database.execute("SELECT id, sensors FROM layout")
    }
    found: list[ReadingRows] = []
    rows = 0
    for layout, count, body in database.execute("SELECT layout, count, body FROM reading ORDER BY first_ns DESC"):
        if rows >= most_rows:
            break
        found.append(decode(body, layouts[layout], count))
        rows += count
    return found[::-1]


def _periods(database: sqlite3.Connection) -> tuple[Period, ...]:
    rows: list[tuple[Any, ...]] = database.execute(
        "SELECT incident.id, opened_ns, updated_ns, closed, body, verdict FROM incident "
        "LEFT JOIN feedback ON feedback.incident = incident.id ORDER BY opened_ns"
    ).fetchall()
    return tuple(
        Period(name, opened, updated if closed else None, None if verdict is None else Feedback(verdict))
        for name, opened, updated, closed, body, verdict in rows
        if orjson.loads(body).get("kind") == IncidentKind.PROCESS.value
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
