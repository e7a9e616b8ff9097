"""Readings that were there before: sensors that stand still, repeat their past, or give it late.

Every look is exact, to the last bit: what noise and resolution make of a reading does not come twice by chance. So
what is found is found from the first dozen readings on, and a sensor that usually keeps its value is never suspected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TICKS = 1_800
_MOST_VALUES = 500_000  # sensors times ticks that are kept: 2 MB
_RECENT = 256
_STRETCH, _DISTINCT = 16, 6  # readings that are compared, and how many of them have to differ
_LONGEST_LAG = 120
_LEAST_LAG = 8
_STILL = 12
_LIVELY = 0.5  # share of the ticks at which a sensor that usually moves has another value than before

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Copies:
    """The last half hour of all sensors, as far as memory allows, and what in it was there before."""

    def __init__(self) -> None:
        self._sensors: tuple[str, ...] = ()
        self._rows: Floats = np.empty((0, 0), np.float32)
        self._count = 0

    def append(self, sensors: tuple[str, ...], value: NDArray[np.float64], usable: Bools) -> None:
        """Take one tick in."""
        if sensors is not self._sensors:
            self._align(sensors)
        if len(self._rows):
            self._rows[self._count % len(self._rows)] = np.where(usable, value, np.nan)
            self._count += 1

    def forget(self) -> None:
        """Another recording begins."""
        self._count = 0

    def still_since(self) -> tuple[NDArray[np.int64], Bools]:
        """For each sensor, for how many ticks it has kept its value, and whether it usually moves."""
        rows = self._last(_RECENT)
        if len(rows) < 2 * _STILL:
            return np.zeros(rows.shape[1], np.int64), np.zeros(rows.shape[1], np.bool_)
        changed = np.diff(rows, axis=0) != 0.0
        run = np.where(changed.any(axis=0), changed[::-1].argmax(axis=0), len(changed))
        before = np.arange(len(changed))[:, None] < len(changed) - run
        moving = (changed & before).sum(axis=0)
        lively = (moving >= _LIVELY * np.maximum(before.sum(axis=0), 1)) & (before.sum(axis=0) >= _STILL)
        return run + 1, lively & np.isfinite(rows[-1])

    def still(self, run: NDArray[np.int64], lively: Bools) -> Bools:
        """Sensors that usually move and do not any more."""
        return lively & (run >= _STILL)

    def repeats(self, sensor: int) -> int | None:
        """By how many ticks the last readings of ``sensor`` are behind, where they were there before; else None."""
        values = self._last(_TICKS)[:, sensor]
        late = values[-_STRETCH:]
        if len(values) < 3 * _STRETCH or len(np.unique(late)) < _DISTINCT or not np.isfinite(late).all():
            return None
        places = np.flatnonzero(values[: -2 * _STRETCH] == late[0])
        for place in places[::-1].tolist():
            if (values[place : place + _STRETCH] == late).all():
                return int(len(values) - _STRETCH - place)
        return None

    def lags(self, sensors: NDArray[np.int64]) -> NDArray[np.int64]:
        """By how many ticks ``sensors`` give their readings late since some moment of the last minutes; 0: they do not.

        At that moment it starts to repeat itself, and after as many ticks as it is late it has new readings again.
        """
        rows, found = self._last(_RECENT)[:, sensors], np.zeros(len(sensors), np.int64)
        for lag in range(_LEAST_LAG, min(_LONGEST_LAG, len(rows) // 2)):
            longest, end = _longest_runs(rows[lag:] == rows[:-lag])
            for column in np.flatnonzero((abs(longest - lag) <= 1) & (found == 0)).tolist():
                stretch = rows[end[column] - longest[column] + 1 : end[column] + 1, column]
                found[column] = lag if len(np.unique(stretch)) >= _DISTINCT else 0
        return found

    def _last(self, ticks: int) -> Floats:
        length = min(ticks, self._count, len(self._rows))
        places = np.arange(self._count - length, self._count) % max(len(self._rows), 1)
        return self._rows[places]

    def _align(self, sensors: tuple[str, ...]) -> None:
        old = {name: i for i, name in enumerate(self._sensors)}
        length = min(_TICKS, _MOST_VALUES // max(len(sensors), 1))
        before = self._last(length)
        rows = np.full((length, len(sensors)), np.nan, np.float32)
        for i, name in enumerate(sensors):
            if name in old:
                rows[: len(before), i] = before[:, old[name]]
        self._rows, self._count, self._sensors = rows, len(before), sensors


def _longest_runs(same: Bools) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The longest run of True in each column, and where it ends."""
    count = np.arange(1, len(same) + 1)[:, None]
    runs = count - np.maximum.accumulate(np.where(same, 0, count), axis=0)
    return runs.max(axis=0), runs.argmax(axis=0)
