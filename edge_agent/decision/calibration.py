"""The plant's score statistics to one p-value: conformal ranks in the body, a generalised Pareto tail beyond.

Each tick gives a row of statistics (``decision.statistics``). They are brought to one scale by median and upper spread
on normal data, their maximum is ranked against its own normal past.

Ranks (Vovk et al., Algorithmic Learning in a Random World, 2005): p = (1 + #{calibration >= x}) / (n + 1), valid for
exchangeable normal data but never below 1/(n+1). Beyond the ``_BODY`` quantile a generalised Pareto distribution is
fitted to the exceedances by probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987), which costs two
means and is stable for small samples.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BODY = 0.95
_REFIT_EVERY = 64
_SHAPE_MIN, _SHAPE_MAX = 0.0, 0.5  # a bounded tail would promise that nothing worse can ever happen
_SMALLEST_SPREAD = 0.05  # log units; a plant without any noise must not alarm at the first one


class Calibration:
    """Normal rows of statistics, the last ``capacity`` of them, and the tail fitted to them."""

    def __init__(self, width: int, needed: int, capacity: int = 4096) -> None:
        self._needed = needed
        self._rows: Floats = np.zeros((max(capacity, needed), width))
        self._count = 0
        self._since_fit = 0
        self._centre: Floats | None = None
        self._spread: Floats = np.ones(width)
        self._sorted: Floats = np.zeros(0)
        self._threshold = self._scale = self._shape = self._tail_share = 0.0

    @property
    def ready(self) -> bool:
        """True when enough normal rows were learned for p-values."""
        return self._centre is not None

    @property
    def progress(self) -> float:
        """Share of the rows that are needed, 0 to 1."""
        return min(1.0, self._count / self._needed)

    def learn(self, row: Floats) -> None:
        """Add one row of normal operation; the fit follows every few rows."""
        self._rows[self._count % len(self._rows)] = row
        self._count += 1
        self._since_fit += 1
        if self._count >= self._needed and (self._since_fit >= _REFIT_EVERY or not self.ready):
            self._fit()

    def load(self, rows: Floats) -> None:
        """Replace everything learned by ``rows`` (held-out normal data or a saved state), oldest first."""
        rows = rows[np.isfinite(rows).all(axis=1)][-len(self._rows) :]
        self._rows[: len(rows)] = rows
        self._count = len(rows)
        self._centre = None
        if self._count >= self._needed:
            self._fit()

    def rows(self) -> Floats:
        """What was learned, oldest first, for saving."""
        if self._count <= len(self._rows):
            return self._rows[: self._count].copy()
        return np.roll(self._rows, -(self._count % len(self._rows)), axis=0)

    def p_value(self, row: Floats) -> float | None:
        """Probability of a row at least this extreme in normal operation; None until :attr:`ready`."""
        if self._centre is None:
            return None
        value = float(((row - self._centre) / self._spread).max())
        n = len(self._sorted)
        if value <= self._threshold:
            return float(1 + n - int(np.searchsorted(self._sorted, value, side="left"))) / (n + 1)
        excess = (value - self._threshold) / self._scale
        if self._shape < 1e-6:
            return self._tail_share * math.exp(-min(excess, 700.0))
        return float(self._tail_share * (1.0 + self._shape * excess) ** (-1.0 / self._shape))

    def _fit(self) -> None:
        self._since_fit = 0
        rows = self._rows[: min(self._count, len(self._rows))]
        self._centre = np.median(rows, axis=0)
        self._spread = np.maximum(np.quantile(rows, _BODY, axis=0) - self._centre, _SMALLEST_SPREAD)
        self._sorted = np.sort(((rows - self._centre) / self._spread).max(axis=1))
        first = int(_BODY * len(self._sorted))
        self._threshold = float(self._sorted[first])
        excess = self._sorted[first + 1 :] - self._threshold
        self._tail_share = (len(excess) + 1) / (len(self._sorted) + 1)
        self._scale, self._shape = fit_pareto(excess)


def fit_pareto(excess: Floats) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution for sorted, non-negative exceedances.

    The shape is kept between 0 and 0.5; where it would leave that range, the scale that keeps their mean is returned.
    """
    m, floor = len(excess), 1e-6
    if m < 4 or float(excess[-1]) <= floor:
        return max(floor, float(excess.mean()) if m else floor), 0.0
    a0 = float(excess.mean())
    a1 = float((excess * (np.arange(m - 1, -1, -1) / (m - 1))).mean())
    shape = 2.0 - a0 / (a0 - 2.0 * a1) if a0 - 2.0 * a1 > floor else _SHAPE_MAX
    shape = min(max(shape, _SHAPE_MIN), _SHAPE_MAX)
    return max(a0 * (1.0 - shape), floor), shape
