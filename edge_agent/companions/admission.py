"""Which sensors the companions take in, and with whom: once they were heard and have moved, in groups of related ones.

Relations are solved for inside a group only, so that cost grows with the number of sensors, not with its square. A
plant of up to ``GROUP`` sensors is one group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GROUP = 64
HISTORY = 150
"""Ticks that are looked at before sensors are taken in."""
_HEARD = 0.9  # share of the history with a reading
_LEFT_OUT = 0.03  # share of the readings of a history that may be glitches
_LARGEST = 1e100  # so that squares of readings are finite
_CHANGES = 2  # there and back
_ROUNDING = 1e-9  # relative spread that is none
_LOOK_EVERY = 50
_RELATED = 0.5  # correlation below which a sensor does not belong to a group that is already half full

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Waiting:
    """Sensors that no group has taken in yet, and their last ``HISTORY`` readings."""

    def __init__(self) -> None:
        self.sensors: tuple[str, ...] = ()
        self._readings: Floats = np.full((HISTORY, 0), np.nan)
        self._changes = np.zeros(0, np.int64)
        self._last: Floats = np.zeros(0)
        self._heard: Floats = np.zeros(0)  # readings so far, their mean and sum of squared deviations
        self._mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)
        self._ticks = 0

    def follow(self, sensors: tuple[str, ...]) -> None:
        """These are the sensors that wait now; those that waited before keep their past."""
        if sensors == self.sensors:
            return
        place = {name: i for i, name in enumerate(self.sensors)}
        rows = np.array([place.get(name, len(place)) for name in sensors], np.int64)
        self._readings = np.append(self._readings, np.full((HISTORY, 1), np.nan), axis=1)[:, rows]
        self._changes = np.append(self._changes, 0)[rows]
        self._last = np.append(self._last, np.nan)[rows]
        self._heard = np.append(self._heard, 0.0)[rows]
        self._mean = np.append(self._mean, 0.0)[rows]
        self._squares = np.append(self._squares, 0.0)[rows]
        self.sensors = sensors

    def note(self, value: Floats, usable: Bools) -> None:
        """One tick's readings, where ``usable``."""
        self._readings[self._ticks % HISTORY] = np.where(usable, value, np.nan)
        self._ticks += 1
        value = np.clip(value, -_LARGEST, _LARGEST)
        self._changes += usable & np.isfinite(self._last) & (value != self._last)
        self._last = np.where(usable, value, self._last)
        self._heard += usable
        step = np.where(usable, value - self._mean, 0.0)
        self._mean += step / np.maximum(self._heard, 1.0)
        self._squares += step * np.where(usable, value - self._mean, 0.0)

    @property
    def due(self) -> bool:
        """True on ticks on which it is worth asking who is ready."""
        return bool(self.sensors) and self._ticks >= HISTORY and self._ticks % _LOOK_EVERY == 0

    def ready(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Positions of sensors of which enough is known, and the centre and spread of each.

        From the last readings, without the few that are furthest out: one glitch must not make a sensor coarse for
        ever. A sensor that stood still meanwhile is judged by all it ever did, and must have moved at least once.
        """
        history = self.history()
        enough = np.flatnonzero((np.isfinite(history).mean(0) >= _HEARD) & (self._changes >= _CHANGES))
        if not len(enough):
            return enough, np.zeros(0), np.zeros(0)
        readings = np.clip(history[:, enough], -_LARGEST, _LARGEST)
        distance = np.abs(readings - np.nanmedian(readings, axis=0))
        furthest = np.nanquantile(distance, 1.0 - _LEFT_OUT, axis=0, method="lower")
        kept = np.where(distance <= furthest, readings, np.nan)
        centre, spread = np.nanmean(kept, axis=0), np.nanstd(kept, axis=0)
        ever = np.sqrt(self._squares / np.maximum(self._heard, 1.0))[enough]
        still = spread <= _ROUNDING * np.abs(centre)
        centre, spread = np.where(still, self._mean[enough], centre), np.where(still, ever, spread)
        moves = spread > _ROUNDING * np.abs(centre)
        return enough[moves], centre[moves], spread[moves]

    def history(self) -> Floats:
        """The last readings [T, W], oldest first, NaN where there was none."""
        start = self._ticks % HISTORY
        return np.concatenate((self._readings[start:], self._readings[:start]))


def grouped(history: Floats, neighbour: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Positions of at most ``GROUP`` sensors each, every sensor in one group.

    ``history`` [T, W]: they are put together by correlation; ``neighbour`` [W, K]: known neighbours (-1: none) first.
    """
    count = history.shape[1]
    if count <= GROUP:
        return [np.arange(count)]
    related = _correlation(history)
    rows, columns = np.nonzero(neighbour >= 0)
    related[rows, neighbour[rows, columns]] += 1.0
    related[neighbour[rows, columns], rows] += 1.0
    free = np.ones(count, bool)
    groups = []
    while free.any():
        members = [int(np.argmax(free))]
        closeness = related[members[0]].copy()
        free[members[0]] = False
        while len(members) < GROUP and free.any():
            member = int(np.argmax(np.where(free, closeness, -1.0)))
            if len(members) >= GROUP // 2 and closeness[member] < _RELATED:
                break
            members.append(member)
            free[member] = False
            np.maximum(closeness, related[member], out=closeness)
        groups.append(np.array(members))
    return groups


def _correlation(history: Floats) -> NDArray[np.float32]:
    known = np.isfinite(history)
    mean = np.where(known, history, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    centred = np.where(known, history - mean, 0.0)
    scale = np.sqrt((centred**2).sum(0)) + 1e-30
    unit = (centred / scale).astype(np.float32)
    return np.asarray(np.abs(unit.T @ unit), np.float32)
