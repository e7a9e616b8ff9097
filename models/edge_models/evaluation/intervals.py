"""How sure a number is: confidence intervals of rates and of differences between detectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 10_000


def poisson_interval(count: int, exposure: float, level: float = 0.95) -> tuple[float, float]:
    """Exact (Garwood 1936) interval of a rate: ``count`` events in ``exposure``."""
    from scipy.stats import chi2

    tail = (1.0 - level) / 2.0
    low = float(chi2.ppf(tail, 2 * count)) / 2.0 if count else 0.0
    return low / exposure, float(chi2.ppf(1.0 - tail, 2 * count + 2)) / 2.0 / exposure


def bootstrap(groups: Sequence[NDArray[np.float64]], level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean over groups of the mean in each, and its percentile interval.

    Each group holds one number a test, a difference between two detectors where these are compared; tests are drawn
    again within their group, so every group counts the same however many tests it has. (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993.)
    """
    rng = np.random.default_rng(seed)
    drawn = [group[rng.integers(len(group), size=(_RESAMPLES, len(group)))].mean(1) for group in groups]
    low, high = np.quantile(np.mean(drawn, axis=0), ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
    return float(np.mean([group.mean() for group in groups])), float(low), float(high)
