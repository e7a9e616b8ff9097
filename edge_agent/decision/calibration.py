"""The plant's score statistics to one p-value: conformal ranks in the body, a generalised Pareto tail beyond.

Each tick gives a row of statistics (``decision.statistics``). Every statistic is ranked against its own normal past;
the smallest p-value, times their number (Bonferroni), is the tick's: a restless statistic costs the others nothing.

Ranks (Vovk et al., Algorithmic Learning in a Random World, 2005): p = (1 + #{calibration >= x}) / (n + 1), valid for
exchangeable normal data but never below 1/(n+1). Beyond the ``_BODY`` quantile a generalised Pareto distribution is
fitted to the exceedances by probability-weighted moments (Hosking and Wallis, Technometrics 29, 1987), which costs two
means and is stable for small samples. A tail known from few clusters m only is never taken to be lighter than shape
1/m (at most .1): that is what m observations of an exponential tail allow to predict of the next one (J. Aitchison,
I. R. Dunsmore, Statistical Prediction Analysis, 1975, chapter 2).

Ticks that exceed a level come in clusters, above all in averages over time. People are disturbed once a cluster, so the
budget is held by the rate of clusters: probability times extremal index, estimated by the runs method (Smith and
Weissman, Journal of the Royal Statistical Society B 56, 1994).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BODY = 0.95
_REFIT_EVERY = 64
# The statistics are logarithms, in which a power law has an exponential tail (shape 0). A bounded tail (below 0) would
# promise that nothing worse can ever happen; a much heavier one is an artefact of few exceedances.
_SHAPE_MIN, _SHAPE_MAX = 0.0, 0.1
_FEW_CLUSTERS = 8.0  # fewer leave it open how heavy the tail is
_SMALLEST_SCALE = 0.02  # log units; a plant without any noise must not alarm at the first one
_SMALLEST_P = 1e-300
_APART = 10  # exceedances with so many quiet ticks between them belong to different clusters


class Judgement(NamedTuple):
    """How often normal operation gives a row at least this extreme.

    ``p_value``: the probability at a tick. ``event_rate``: events a tick, a cluster of ticks being one event.
    """

    p_value: float
    event_rate: float


class Calibration:
    """Normal rows of statistics, the last ``capacity`` of them, and the tails fitted to them."""

    def __init__(self, width: int, needed: int, capacity: int = 4096) -> None:
        self._needed = needed
        self._rows: Floats = np.zeros((max(capacity, needed), width))
        self._count = 0
        self._since_fit = 0
        self._sorted: Floats | None = None
        self._threshold: Floats = np.zeros(width)
        self._scale: Floats = np.ones(width)
        self._shape: Floats = np.zeros(width)
        self._extremal_index: Floats = np.ones(width)
        self._tail_share = 1.0

    @property
    def ready(self) -> bool:
        """True when enough normal rows were learned for p-values."""
        return self._sorted is not None

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
        self._sorted = None
        if self._count >= self._needed:
            self._fit()

    def rows(self) -> Floats:
        """What was learned, oldest first, for saving."""
        if self._count <= len(self._rows):
            return self._rows[: self._count].copy()
        return np.roll(self._rows, -(self._count % len(self._rows)), axis=0)

    def judge(self, row: Floats) -> Judgement | None:
        """How unusual ``row`` is; None until :attr:`ready`."""
        p = self._each(row)
        return None if p is None else Judgement(_smallest(p), _smallest(p * self._extremal_index))

    def _each(self, row: Floats) -> Floats | None:
        if self._sorted is None:
            return None
        n, width = self._sorted.shape
        at_least = [n - int(np.searchsorted(self._sorted[:, j], row[j], side="left")) for j in range(width)]
        body = (1.0 + np.array(at_least)) / (n + 1.0)
        excess = np.maximum((row - self._threshold) / self._scale, 0.0)
        tail = self._tail_share * _survival(excess, self._shape)
        return np.where(row <= self._threshold, body, tail)

    def _fit(self) -> None:
        self._since_fit = 0
        rows = self.rows()
        self._sorted = np.sort(rows, axis=0)
        first = int(_BODY * len(self._sorted))
        self._threshold = self._sorted[first]
        excess = self._sorted[first + 1 :] - self._threshold
        self._tail_share = (len(excess) + 1) / (len(self._sorted) + 1)
        fits = [fit_pareto(column) for column in excess.T]
        self._scale = np.maximum([scale for scale, _ in fits], _SMALLEST_SCALE)
        exceeds = rows > self._threshold
        self._extremal_index = np.array([_clusters_per_exceedance(column) for column in exceeds.T])
        clusters = np.maximum(exceeds.sum(axis=0) * self._extremal_index, 1.0)
        unsure = np.where(clusters < _FEW_CLUSTERS, np.minimum(1.0 / clusters, _SHAPE_MAX), 0.0)
        self._shape = np.maximum([shape for _, shape in fits], unsure)


def fit_pareto(excess: Floats) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution for sorted, non-negative exceedances.

    The shape is kept between 0 and 0.1; where it would leave that range, the scale that keeps their mean is returned.
    """
    m, floor = len(excess), 1e-6
    if m < 4 or float(excess[-1]) <= floor:
        return max(floor, float(excess.mean()) if m else floor), 0.0
    a0 = float(excess.mean())
    a1 = float((excess * (np.arange(m - 1, -1, -1) / (m - 1))).mean())
    shape = 2.0 - a0 / (a0 - 2.0 * a1) if a0 - 2.0 * a1 > floor else _SHAPE_MAX
    shape = min(max(shape, _SHAPE_MIN), _SHAPE_MAX)
    return max(a0 * (1.0 - shape), floor), shape


def _smallest(p: Floats) -> float:
    return float(min(1.0, max(len(p) * float(p.min()), _SMALLEST_P)))


def _clusters_per_exceedance(exceeds: NDArray[np.bool_]) -> float:
    ticks = np.flatnonzero(exceeds)
    return (1.0 + np.count_nonzero(np.diff(ticks) > _APART)) / len(ticks) if len(ticks) else 1.0


def _survival(excess: Floats, shape: Floats) -> Floats:
    exponential = np.exp(-np.minimum(excess, 690.0))
    heavy = shape > 1e-6
    safe = np.where(heavy, shape, 1.0)
    return np.where(heavy, (1.0 + safe * excess) ** (-1.0 / safe), exponential)
