"""Detectors to stand beside ours. A claim that a model is good counts only beside these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_models.evaluation.baselines import density, learned, linear, simple
from edge_models.evaluation.baselines.base import Fit, Values
from edge_models.evaluation.cache import sources_digest
from edge_models.evaluation.streams import Stream, Streams
from edge_models.evaluation.suites import Case

HELD_OUT = 0.25
_LIMIT = 50.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """A detector as a function. ``random``: it depends on the seed. ``slow``: left out of quick runs."""

    name: str
    fit: Fit
    random: bool = False
    slow: bool = False

    @property
    def key(self) -> str:
        return f"baseline/{self.name}/{sources_digest('edge_models.evaluation.baselines')}"

    def run(self, case: Case, seed: int) -> Streams:
        """Fitted on the first three quarters of the normal part, normalised and calibrated on the last."""
        normal = case.entity.normal
        border = int(len(normal) * (1.0 - HELD_OUT))
        scale = Scale.of(normal)
        train, held_out = scale(normal[:border]), scale(normal[border:])
        score = self.fit(train, held_out, seed)
        whole = scale(normal)
        calm = plant_log(score(train, held_out))
        return Streams(calm, {test.name: _stream(score(whole, scale(test.values))) for test in case.entity.tests})


BASELINES = (
    Baseline("random", simple.noise, random=True),
    Baseline("clock", simple.clock),
    Baseline("last value", simple.last_value),
    Baseline("max |z|", simple.max_z),
    Baseline("L2 norm", simple.l2_norm),
    Baseline("PCA residual", linear.pca_residual),
    Baseline("Mahalanobis", linear.mahalanobis),
    Baseline("AR(5)", linear.ar_ridge),
    Baseline("VAR(5) ridge", linear.var_ridge),
    Baseline("cross-linear lag 2", linear.cross_linear),
    Baseline("window k-means", density.window_k_means, random=True),
    Baseline("Netdata-like k-means", density.netdata_k_means, random=True),
    Baseline("kNN", density.nearest_neighbours, random=True),
    Baseline("isolation forest", density.isolation_forest, random=True),
    Baseline("ECOD", density.ecod),
    Baseline("half-space trees", density.half_space_trees, random=True, slow=True),
    Baseline("LSTM", learned.lstm_forecaster, random=True, slow=True),
    Baseline("GDN", learned.gdn, random=True, slow=True),
)
REFERENCE = "VAR(5) ridge"
"""What differences are taken to, after its five-tick mean."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Standardises readings by a normal part, for baselines."""

    mean: Values
    deviation: Values

    @classmethod
    def of(cls, normal: Values) -> Scale:
        known = np.isfinite(normal)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, normal, 0.0).sum(0) / count
        deviation = np.sqrt((np.where(known, normal - mean, 0.0) ** 2).sum(0) / count)
        alive = deviation > 1e-6 * np.abs(mean) + 1e-9
        return cls(mean, np.where(alive, deviation, 1.0))

    def __call__(self, values: Values) -> Values:
        """Missing readings become 0; nothing is further out than 50 deviations."""
        z = np.where(np.isfinite(values), values - self.mean, 0.0) / self.deviation
        return np.asarray(np.clip(z, -_LIMIT, _LIMIT), np.float64)


def plant_log(scores: Values) -> Values:
    """Scores [T, N] to one a tick: logarithm of the mean over sensors."""
    return np.asarray(np.log(scores.mean(1) + 1e-9), np.float64)


def _stream(scores: Values) -> Stream:
    return Stream(plant_log(scores), scores.astype(np.float32) if scores.shape[1] > 1 else None)
