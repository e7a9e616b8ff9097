"""Detectors that know next to nothing: what a real one must clearly beat."""

from __future__ import annotations

import numpy as np

from edge_models.evaluation.baselines.base import Score, Values, normalised, with_past


def noise(train: Values, held_out: Values, seed: int) -> Score:
    """The floor: numbers that have not seen the readings."""
    rng = np.random.default_rng(seed)
    return lambda _history, values: np.asarray(rng.random((len(values), 1)) + 1e-3, np.float64)


def clock(train: Values, held_out: Values, seed: int) -> Score:
    """The time since the test began: recordings that end in a fault reward it."""
    return lambda _history, values: np.arange(1.0, len(values) + 1.0)[:, None]


def last_value(train: Values, held_out: Values, seed: int) -> Score:
    """Change since the tick before."""
    return normalised(lambda history, values: np.diff(with_past(history, values, 1), axis=0), train, held_out)


def max_z(train: Values, held_out: Values, seed: int) -> Score:
    """The largest deviation from the mean over sensors, squared."""
    return lambda _history, values: np.asarray((values**2).max(1, keepdims=True), np.float64)


def l2_norm(train: Values, held_out: Values, seed: int) -> Score:
    """Each sensor's squared deviation from its mean; the plant's score is their mean."""
    return lambda _history, values: np.asarray(values**2, np.float64)
