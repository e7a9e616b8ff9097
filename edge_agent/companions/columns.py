"""What companions know of each sensor by itself, in columns: the last axis of every array is the sensor."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.moments import LAGS
from edge_agent.companions.prototypes import LONG
from edge_agent.verdict import SENSOR_MEMBERS

SQUARES = SENSOR_MEMBERS[:-1]
"""Members with a square for each sensor, in the order of the arrays."""

Floats = NDArray[np.float64]


@dataclass(slots=True)
class Columns:
    """Of S sensors, learned: ``centre`` and ``spread`` in their units, from a normal past; ``mean`` of the deviations
    and of their squares (``square``) over so many ``ticks``; ``variance`` [4, S] of the residuals, and how many ticks
    are behind it (``learned`` [4, S]); ``changes``: how often the reading was another one than the ``last``.

    Of the last ticks: ``lags`` [LAGS, S] of the deviations, newest first; for how many ticks (``heard``, up to
    LONG); ``late``: the mean of late residuals; ``squares`` [4, S]; ``levels`` [LONG, S]: a ring.
    """

    centre: Floats
    spread: Floats
    mean: Floats
    square: Floats
    ticks: Floats
    variance: Floats
    learned: Floats
    changes: Floats
    last: Floats
    lags: Floats
    heard: NDArray[np.int64]
    late: Floats
    squares: Floats
    levels: NDArray[np.float32]

    @classmethod
    def fresh(cls, centre: Floats, spread: Floats) -> Columns:
        """Sensors of which nothing else is known yet."""
        count, members = len(centre), len(SQUARES)
        return cls(
            centre=centre.astype(np.float64),
            spread=spread.astype(np.float64),
            mean=np.zeros(count),
            square=np.ones(count),
            ticks=np.zeros(count),
            variance=np.ones((members, count)),
            learned=np.zeros((members, count)),
            changes=np.zeros(count),
            last=np.full(count, np.nan),
            lags=np.zeros((LAGS, count)),
            heard=np.zeros(count, np.int64),
            late=np.zeros(count),
            squares=np.full((members, count), np.nan),
            levels=np.zeros((LONG, count), np.float32),
        )

    def joined(self, more: Columns) -> Columns:
        """These sensors, and ``more`` behind them."""
        return Columns(
            *(np.concatenate((mine, its), axis=-1) for mine, its in zip(self._all(), more._all(), strict=True))
        )

    def chosen(self, places: NDArray[np.int64]) -> Columns:
        """The sensors at ``places``, in that order."""
        return Columns(*(column[..., places] for column in self._all()))

    def with_recent_of(self, other: Columns) -> Columns:
        """What was learned here, and the last ticks of ``other``."""
        return replace(
            self,
            changes=other.changes,
            last=other.last,
            lags=other.lags,
            heard=other.heard,
            late=other.late,
            squares=other.squares,
            levels=other.levels,
        )

    def forget_recent(self, places: slice) -> None:
        """The stream was interrupted for the sensors at ``places``: what was learned stays."""
        self.lags[:, places] = 0.0
        self.heard[places] = 0
        self.late[places] = 0.0
        self.squares[:, places] = np.nan
        self.levels[:, places] = 0.0

    def _all(self) -> list[NDArray[Any]]:
        return [getattr(self, field.name) for field in fields(self)]
