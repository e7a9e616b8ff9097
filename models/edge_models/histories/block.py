"""What flows out of a history: rows as the file has them, and blocks of ticks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows of a table, in the order of the file.

    ``time_ns`` [T] is None where the table has no timestamps; ``values`` [T, N], NaN where a reading is missing;
    ``run`` [T] tells independent runs apart, ``label`` [T] marks known anomalies; None where there is no such column.
    """

    time_ns: Times | None
    values: Values
    run: NDArray[np.str_] | None = None
    label: Values | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive ticks of one segment: ``time_ns`` [T], evenly spaced, and ``values`` [T, N].

    NaN where nothing arrived in a tick: whoever needs a reading holds the last one and counts its age, as the gateway
    does. A new ``segment`` begins where nothing may be carried over: another ``run``, a long gap, a clock set back.
    """

    time_ns: Times
    values: Values
    run: str | None
    segment: int

    def __len__(self) -> int:
        return len(self.values)


class Table(Protocol):
    """A source of rows that can be read again and again. ``where`` names it in messages, without passwords."""

    @property
    def where(self) -> str: ...

    @property
    def sensors(self) -> tuple[str, ...]: ...

    @property
    def units(self) -> tuple[str | None, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the source itself."""
        ...

    def rows(self, most: int) -> Iterator[Rows]:
        """All rows from the first on, at most ``most`` at a time."""
        ...
