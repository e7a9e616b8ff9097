"""Second moments of the recent past: all that linear experts need to know of a history, in bounded memory.

A row holds a group's levels now and at the last ``LAGS`` ticks, and a one:
``[now (G), 1 ago (G), ..., LAGS ago (G), 1]``. Regressions of any part on any other follow from the sum of the rows'
outer products (the normal equations), which is recursive and forgets exponentially.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LAGS = 5

Floats = NDArray[np.float64]


class Moments:
    """The matrix ``gram`` [6 G + 1, 6 G + 1] of ``width`` (G) sensors, and how many ``rows`` it stands for."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = 0.0
        size = (LAGS + 1) * width + 1
        self.gram: Floats = np.zeros((size, size))

    def learn(self, levels: Floats, weight: Floats, remember: float) -> None:
        """Add consecutive ``levels`` [LAGS + T, G], oldest first, as T rows that count ``weight`` [T] each.

        ``remember``: rows after which a row has faded to about a third.
        """
        ticks = len(levels) - LAGS
        parts = [levels[LAGS - lag : LAGS - lag + ticks] for lag in range(LAGS + 1)]
        counts = weight > 0.0
        rows, weight = np.concatenate((*parts, np.ones((ticks, 1))), axis=1)[counts], weight[counts]
        total = float(weight.sum())
        kept = 1.0 if self.rows < remember else max(0.0, 1.0 - total / remember)
        if kept < 1.0:
            self.gram *= kept
        self.gram += rows.T @ (weight[:, None] * rows)
        self.rows = kept * self.rows + total

    def fade(self, rows: float) -> None:
        """Give the past the weight of at most ``rows`` rows, so that what comes is learned quickly."""
        if self.rows > rows:
            self.gram *= rows / self.rows
            self.rows = rows

    def restate(self, shift: Floats, factor: Floats) -> None:
        """As if all levels had been ``(level - shift) / factor``: the matrix of the changed rows, exactly."""
        shifts = np.append(np.tile(shift, LAGS + 1), 0.0)
        factors = np.append(np.tile(factor, LAGS + 1), 1.0)
        moved = self.gram - np.outer(shifts, self.gram[-1])
        moved -= np.outer(moved[:, -1], shifts)
        self.gram = moved / np.outer(factors, factors)

    def extend(self, by: int) -> None:
        """Make room for ``by`` more sensors at the end, of which nothing is known."""
        old, places = self.gram, self._places(self.width + by)
        self.width += by
        self.gram = np.zeros(((LAGS + 1) * self.width + 1,) * 2)
        self.gram[np.ix_(places, places)] = old

    def keep(self, which: NDArray[np.int64]) -> None:
        """Forget all sensors but those at the positions ``which``, and take on their order."""
        places = np.append((np.arange(LAGS + 1)[:, None] * self.width + which).ravel(), len(self.gram) - 1)
        self.gram = self.gram[np.ix_(places, places)]
        self.width = len(which)

    def _places(self, width: int) -> NDArray[np.int64]:
        """Where the present rows are to be found in a matrix for ``width`` sensors."""
        blocks = np.arange(LAGS + 1)[:, None] * width + np.arange(self.width)
        return np.append(blocks.ravel(), (LAGS + 1) * width)
