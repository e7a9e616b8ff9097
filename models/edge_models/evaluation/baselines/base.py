"""What a baseline is, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
LAGS = 5
INPUT_LIMIT = 5.0
"""Standard deviations beyond which an input is clipped where a model is fitted, and for state that is carried."""
_FLOOR = 1e-2


class Score(Protocol):
    """A fitted detector: ``(history, values) -> scores`` [T, N] of ``values`` [T, N], or [T, 1] for the plant as one.

    Non-negative, higher is more anomalous. ``history`` [H, N] are the normal ticks just before. Causal: the score of a
    tick depends on that tick and earlier ones only.
    """

    def __call__(self, history: Values, values: Values, /) -> Values: ...


Fit = Callable[[Values, Values, int], Score]
"""``(train, held_out, seed) -> Score``: fitted on ``train``, residuals normalised on ``held_out``, the ticks after it.

All values are standardised by the normal part; a missing reading is 0, the mean.
"""


def lagged(values: Values, lags: int, first: int = 1) -> Values:
    """Rows from ``lags`` on with the values of ``first`` to ``lags`` ticks ago side by side: [T - lags, N * n]."""
    ticks = len(values) - lags
    return np.concatenate([values[lags - lag : lags - lag + ticks] for lag in range(first, lags + 1)], 1)


def with_past(history: Values, values: Values, ticks: int) -> Values:
    """``values`` after the last ``ticks`` of ``history``, whose first row stands for what is missing."""
    past = history[-ticks:]
    missing = ticks - len(past)
    return (
        np.concatenate((np.repeat(past[:1], missing, 0), past, values)) if missing else np.concatenate((past, values))
    )


def with_one(features: Values) -> Values:
    """A column of ones for the intercept."""
    return np.concatenate((features, np.ones((len(features), 1))), 1)


def ridge(features: Values, target: Values, penalty: float = 10.0) -> Values:
    """Coefficients, the intercept last."""
    design = with_one(features)
    square = design.T @ design + penalty * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(square, design.T @ target), np.float64)


def spread(residual: Values) -> Values:
    """Root mean square of each column, never 0."""
    return np.asarray(np.sqrt((residual**2).mean(0)) + _FLOOR, np.float64)


def normalised(residuals: Callable[[Values, Values], Values], train: Values, held_out: Values) -> Score:
    """Squares of residuals in units of their spread on held-out readings."""
    scale = spread(residuals(train, held_out))
    return lambda history, values: np.asarray((residuals(history, values) / scale) ** 2, np.float64)
