"""Which sensors the companions take in, and with whom: once they were heard for a while, in groups of related ones.

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
_STILL = 1e-6  # spread, relative and absolute, of a sensor that has not moved yet
_LOOK_EVERY = 50
_RELATED = 0.5  # correlation below which a sensor does not belong to a group that is already half full

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Waiting:
    """Sensors that no group has taken in yet, and their last ``HISTORY`` readings."""

    def __init__(self) -> None:
        self.sensors: tuple[str, ...] = ()
        self._readings: Floats = np.full((HISTORY, 0), np.nan)
        self._ticks = 0

    def follow(self, sensors: tuple[str, ...]) -> None:
        """These are the sensors that wait now; those that waited before keep their past."""
        if sensors == self.sensors:
            return
        place = {name: i for i, name in enumerate(self.sensors)}
        rows = np.array([place.get(name, len(place)) for name in sensors], np.int64)
        self._readings = np.append(self._readings, np.full((HISTORY, 1), np.nan), axis=1)[:, rows]
        self.sensors = sensors

    def note(self, value: Floats, usable: Bools) -> None:
        """One tick's readings, where ``usable``."""
        self._readings[self._ticks % HISTORY] = np.where(usable, value, np.nan)
        self._ticks += 1

    @property
    def due(self) -> bool:
        """True on ticks on which it is worth asking who is ready."""
        return bool(self.sensors) and self._ticks >= HISTORY and self._ticks % _LOOK_EVERY == 0

    def ready(self) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Positions of sensors of which enough is known, and the centre and spread of each.

        A few readings that are furthest out are left out: one glitch must not make a sensor coarse for ever.
        """
        history = self.history()
        known = np.isfinite(history)
        enough = np.flatnonzero(known.mean(0) >= _HEARD)
        if not len(enough):
            return enough, np.zeros(0), np.zeros(0)
        readings = np.clip(history[:, enough], -_LARGEST, _LARGEST)
        distance = np.abs(readings - np.nanmedian(readings, axis=0))
        furthest = np.nanquantile(distance, 1.0 - _LEFT_OUT, axis=0, method="lower")
        kept = np.where(distance <= furthest, readings, np.nan)
        centre, spread = np.nanmean(kept, axis=0), np.nanstd(kept, axis=0)
        return enough, centre, np.maximum(spread, _STILL * np.abs(centre) + _STILL)

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
