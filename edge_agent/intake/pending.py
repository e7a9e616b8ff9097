"""Readings noted since the last tick, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Readings:
    """Readings as aligned columns. ``time_ns`` is pipeline time; ``stamped``: it came from the device."""

    index: NDArray[np.int64]
    value: NDArray[np.float64]
    time_ns: NDArray[np.int64]
    flags: NDArray[np.int32]
    stamped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.index)

    def where(self, chosen: NDArray[np.bool_]) -> Readings:
        """The rows where ``chosen`` is True."""
        return Readings(
            self.index[chosen], self.value[chosen], self.time_ns[chosen], self.flags[chosen], self.stamped[chosen]
        )

    def followed_by(self, other: Readings) -> Readings:
        """These rows and then those of ``other``."""
        if not len(self):
            return other
        if not len(other):
            return self
        return Readings(
            np.concatenate((self.index, other.index)),
            np.concatenate((self.value, other.value)),
            np.concatenate((self.time_ns, other.time_ns)),
            np.concatenate((self.flags, other.flags)),
            np.concatenate((self.stamped, other.stamped)),
        )

    def sorted(self) -> Readings:
        """By sensor, then time, then order of arrival."""
        order = np.lexsort((self.time_ns, self.index))
        return Readings(
            self.index[order], self.value[order], self.time_ns[order], self.flags[order], self.stamped[order]
        )


class Pending:
    """Collects readings as they come; plain lists, because appending to them is what Python does fastest."""

    def __init__(self) -> None:
        self._early = _EMPTY  # of a later tick: kept in columns, since they may have to wait for many ticks
        self._clear()

    def __len__(self) -> int:
        return len(self._early) + len(self._index)

    @property
    def noted(self) -> int:
        """Readings noted since the last :meth:`take`."""
        return len(self._index)

    def add_one(self, index: int, value: float, time_ns: int, flags: int, stamped: bool) -> None:
        """Note one reading."""
        self._index.append(index)
        self._value.append(value)
        self._time_ns.append(time_ns)
        self._flags.append(flags)
        self._stamped.append(stamped)

    def add(
        self,
        index: Sequence[int],
        values: Sequence[float] | NDArray[np.float64],
        times: Sequence[int],
        flags: Sequence[int],
        stamped: Sequence[bool],
    ) -> None:
        """Note the readings of one frame, columns of equal length; those with index -1 are left out when taken."""
        self._index.extend(index)
        self._value.extend(values.tolist() if isinstance(values, np.ndarray) else values)
        self._time_ns.extend(times)
        self._flags.extend(flags)
        self._stamped.extend(stamped)

    def take(self, until_ns: int) -> Readings:
        """Remove and return what has a time up to ``until_ns``, in order of arrival; the rest stays."""
        readings = self._early.followed_by(self._noted())
        self._early = _EMPTY
        early = readings.time_ns > until_ns
        if not early.any():
            return readings
        self._early = readings.where(early)
        return readings.where(~early)

    def _noted(self) -> Readings:
        if not self._index:
            return _EMPTY
        readings = Readings(
            np.array(self._index, dtype=np.int64),
            _floats(self._value),
            np.array(self._time_ns, dtype=np.int64),
            np.array(self._flags, dtype=np.int64).astype(np.int32),
            np.array(self._stamped, dtype=np.bool_),
        )
        self._clear()
        taken = readings.index >= 0
        return readings if taken.all() else readings.where(taken)

    def _clear(self) -> None:
        self._index: list[int] = []
        self._value: list[float] = []
        self._time_ns: list[int] = []
        self._flags: list[int] = []
        self._stamped: list[bool] = []


def _floats(values: list[float]) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):  # an adapter broke its promise: what is no float is missing
        return np.array([v if isinstance(v, float | int) and abs(v) < 1e300 else np.nan for v in values], np.float64)


_EMPTY = Readings(
    np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.bool_)
)
