"""Simple detectors to stand beside the model. Closed form, causal, fitted on normal readings only.

A claim that the model is good counts only beside these: on the published recordings a ridge vector autoregression is
hard to beat.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Scorer = Callable[[Values, Values], Values]
"""``(normal, test) -> per-sensor squares [T, N]`` of the test part, about 1 on normal readings."""
_HELD_OUT = 0.25
_LAGS = 5


def random_score(normal: Values, test: Values) -> Values:
    """The floor: noise that has not seen the readings."""
    return np.asarray(np.random.default_rng(len(test)).random((len(test), 1)) + 1e-3, np.float64)


def max_z(normal: Values, test: Values) -> Values:
    """Largest deviation from the mean over sensors, squared."""
    z = _standardised(normal, test)
    return np.asarray((z**2).max(1, keepdims=True), np.float64)


def var_ridge(normal: Values, test: Values) -> Values:
    """Ridge vector autoregression over five ticks; residuals by their spread on held-out normal readings."""
    scaled, fresh = _standardised(normal, normal), _standardised(normal, test)
    border = int(len(scaled) * (1.0 - _HELD_OUT))
    weight = _ridge(_lagged(scaled[:border]), scaled[_LAGS:border], 10.0)
    held_out = scaled[border:] - _with_one(_lagged(scaled[border - _LAGS :])) @ weight
    whole = np.concatenate((scaled[-_LAGS:], fresh))
    return _by_spread(fresh - _with_one(_lagged(whole)) @ weight, held_out)


def pca_residual(normal: Values, test: Values) -> Values:
    """What principal components of 95 % of the variance leave, by its spread on held-out normal readings."""
    scaled, fresh = _standardised(normal, normal), _standardised(normal, test)
    border = int(len(scaled) * (1.0 - _HELD_OUT))
    _, singular, axes = np.linalg.svd(scaled[:border], full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    kept = axes[: int(np.searchsorted(share, 0.95)) + 1]
    held_out = scaled[border:]
    return _by_spread(fresh - fresh @ kept.T @ kept, held_out - held_out @ kept.T @ kept)


BASELINES: dict[str, Scorer] = {
    "random": random_score,
    "max |z|": max_z,
    "PCA residual": pca_residual,
    "VAR(5) ridge": var_ridge,
}


def _standardised(normal: Values, values: Values) -> Values:
    known = np.isfinite(normal)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, normal, 0.0).sum(0) / count
    spread = np.sqrt((np.where(known, normal - mean, 0.0) ** 2).sum(0) / count)
    alive = spread > 1e-6 * np.abs(mean) + 1e-9
    z = np.where(np.isfinite(values), values - mean, 0.0) / np.where(alive, spread, 1.0)
    return np.asarray(np.clip(z, -50.0, 50.0), np.float64)


def _lagged(values: Values) -> Values:
    ticks = len(values) - _LAGS
    return np.concatenate([values[_LAGS - lag : _LAGS - lag + ticks] for lag in range(1, _LAGS + 1)], 1)


def _with_one(values: Values) -> Values:
    return np.concatenate((values, np.ones((len(values), 1))), 1)


def _ridge(features: Values, target: Values, penalty: float) -> Values:
    features = _with_one(np.clip(features, -5.0, 5.0))
    square = features.T @ features + penalty * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(square, features.T @ target), np.float64)


def _by_spread(residual: Values, held_out: Values) -> Values:
    spread = np.sqrt((held_out**2).mean(0)) + 1e-2
    return np.asarray((residual / spread) ** 2, np.float64)
