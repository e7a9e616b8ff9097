"""Detectors in closed form. On the published recordings a ridge vector autoregression is hard to beat."""

from __future__ import annotations

import numpy as np

from edge_models.evaluation.baselines.base import (
    INPUT_LIMIT,
    LAGS,
    Score,
    Values,
    lagged,
    normalised,
    ridge,
    with_one,
    with_past,
)

_CROSS_LAG = 2
_CROSS_PENALTY = 100.0
_VARIANCE_KEPT = 0.95


def pca_residual(train: Values, held_out: Values, seed: int) -> Score:
    """What principal components of 95 % of the variance leave of each sensor."""
    _, singular, axes = np.linalg.svd(train, full_matrices=False)
    share = np.cumsum(singular**2) / max(float((singular**2).sum()), 1e-12)
    kept = axes[: int(np.searchsorted(share, _VARIANCE_KEPT)) + 1]
    return normalised(lambda _history, values: values - values @ kept.T @ kept, train, held_out)


def mahalanobis(train: Values, held_out: Values, seed: int) -> Score:
    """Squared Mahalanobis distance, covariance shrunk as by Ledoit and Wolf (2004)."""
    from sklearn.covariance import LedoitWolf

    model = LedoitWolf().fit(train)
    return lambda _history, values: np.asarray(model.mahalanobis(values)[:, None], np.float64)


def ar_ridge(train: Values, held_out: Values, seed: int) -> Score:
    """Each sensor from its own last five ticks."""
    inputs = _clipped(train)
    weights = [ridge(lagged(inputs[:, [j]], LAGS), train[LAGS:, j]) for j in range(train.shape[1])]

    def residuals(history: Values, values: Values) -> Values:
        whole = with_past(history, values, LAGS)
        forecasts = [with_one(lagged(whole[:, [j]], LAGS)) @ weight for j, weight in enumerate(weights)]
        return np.asarray(values - np.stack(forecasts, 1), np.float64)

    return normalised(residuals, train, held_out)


def var_ridge(train: Values, held_out: Values, seed: int) -> Score:
    """Vector autoregression: each sensor from the last five ticks of all."""
    weight = ridge(lagged(_clipped(train), LAGS), train[LAGS:])

    def residuals(history: Values, values: Values) -> Values:
        return np.asarray(values - with_one(lagged(with_past(history, values, LAGS), LAGS)) @ weight, np.float64)

    return normalised(residuals, train, held_out)


def cross_linear(train: Values, held_out: Values, seed: int) -> Score:
    """Each sensor from the others, at the same tick and the two before."""
    sensors = train.shape[1]
    design = with_one(lagged(_clipped(train), _CROSS_LAG, first=0))
    square = design.T @ design + _CROSS_PENALTY * np.eye(design.shape[1])
    product = design.T @ train[_CROSS_LAG:]
    weight = np.zeros((design.shape[1], sensors))
    own = np.arange(_CROSS_LAG + 1) * sensors
    for j in range(sensors):
        others = np.delete(np.arange(design.shape[1]), own + j)
        weight[others, j] = np.linalg.solve(square[np.ix_(others, others)], product[others, j])

    def residuals(history: Values, values: Values) -> Values:
        whole = with_past(history, values, _CROSS_LAG)
        return np.asarray(values - with_one(lagged(whole, _CROSS_LAG, first=0)) @ weight, np.float64)

    return normalised(residuals, train, held_out)


def _clipped(values: Values) -> Values:
    """For fitting only: a few wild ticks of the history must not bend the coefficients."""
    return np.asarray(np.clip(values, -INPUT_LIMIT, INPUT_LIMIT), np.float64)
