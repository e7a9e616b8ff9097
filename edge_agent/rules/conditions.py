"""All conditions of all rules, each true, false or unknown in a tick. Pure.

Bands (a value above or below something) are judged together on columns, expressions one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.rules.binding import Condition
from edge_agent.rules.signals import Row
from edge_agent.rules.timers import FALSE, TRUE, UNKNOWN

_CODE = {True: TRUE, False: FALSE, None: UNKNOWN}


@dataclass(frozen=True, slots=True)
class Band:
    """True while the number at ``place`` less that at ``target`` (None: 0) is above ``high`` or below ``low``.

    Once it holds, the number must come back by ``deadband`` for it to be false.
    """

    place: int
    low: float
    high: float
    deadband: float
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """True while ``when`` is; once it holds, until ``until`` is true, if there is one."""

    when: Condition
    until: Condition | None = None


class Conditions:
    """Entries in the order in which they were added."""

    def __init__(self) -> None:
        self._count = 0
        self._bands: list[Band] = []
        self._band_entries: list[int] = []
        self._whens: list[Condition] = []
        self._when_entries: list[int] = []
        self._untils: list[tuple[int, Condition]] = []
        self._columns: _Bands | None = None
        self._entries: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, condition: Band | Watch) -> None:
        """Another entry."""
        if isinstance(condition, Band):
            self._bands.append(condition)
            self._band_entries.append(self._count)
            self._columns = None
        else:
            self._whens.append(condition.when)
            self._when_entries.append(self._count)
            if condition.until is not None:
                self._untils.append((self._count, condition.until))
        self._count += 1

    def truth(self, row: Row, holds: NDArray[np.bool_]) -> NDArray[np.int8]:
        """What each entry says of this tick's signals; ``holds``: which of them hold so far."""
        truth = np.full(self._count, UNKNOWN, np.int8)
        if self._bands:
            if self._columns is None:
                self._columns = _Bands(self._bands, self._band_entries)
            self._columns.judge(row, holds, truth)
        if self._whens:
            if len(self._entries) != len(self._whens):
                self._entries = np.array(self._when_entries, np.int64)
            values = row.tolist()
            truth[self._entries] = [_CODE[when(values)] for when in self._whens]
            for entry, until in self._untils:
                if holds[entry]:
                    ended = until(values)
                    truth[entry] = UNKNOWN if ended is None else _CODE[not ended]
        return truth


class _Bands:
    def __init__(self, bands: list[Band], entries: list[int]) -> None:
        self._entries = np.array(entries, np.int64)
        self._places = np.array([band.place for band in bands], np.int64)
        self._low = np.array([band.low for band in bands])
        self._high = np.array([band.high for band in bands])
        self._deadband = np.array([band.deadband for band in bands])
        moving = [(i, band.target) for i, band in enumerate(bands) if band.target is not None]
        self._moving = np.array([i for i, _ in moving], np.int64)
        self._targets = np.array([place for _, place in moving], np.int64)

    def judge(self, row: Row, holds: NDArray[np.bool_], truth: NDArray[np.int8]) -> None:
        """Write what each band says to its entry in ``truth``."""
        value = row[self._places]
        value[self._moving] -= row[self._targets]
        give = np.where(holds[self._entries], self._deadband, 0.0)
        outside = (value > self._high - give) | (value < self._low + give)
        truth[self._entries] = np.where(np.isnan(value), UNKNOWN, outside)
