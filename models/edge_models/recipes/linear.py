"""Recipe ``linear``: two ridge regressions, hard to beat on published recordings.

Temporal: every sensor from the last five ticks of all sensors (vector autoregression). Relational: every sensor from
the *others* now and in the last two ticks, so that a sensor that is replayed or spoofed cannot vouch for itself. Both
in closed form from one pass over the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_models.recipes.fitting import Settings
from edge_models.recipes.members import Estimator, ResidualMember
from edge_models.recipes.plant import INPUT_LIMIT, Plant, Values

_CHUNK = 4_096


@dataclass(frozen=True, slots=True)
class LinearOptions:
    """Lags of both regressions in ticks, and the ridge penalty in units of one reading's square."""

    lags: int = 5
    relation_lags: int = 2
    penalty: float = 10.0

    @classmethod
    def suggest(cls, trial: Any) -> LinearOptions:
        """Draw from a study."""
        return cls(
            trial.suggest_int("linear.lags", 1, 10),
            trial.suggest_int("linear.relation_lags", 0, 4),
            trial.suggest_float("linear.penalty", 0.1, 1_000.0, log=True),
        )


def train(plant: Plant, options: LinearOptions, settings: Settings) -> ResidualMember:
    """Fit on training and validation parts; spreads on the held-out part."""
    parts = [np.clip(part, -INPUT_LIMIT, INPUT_LIMIT) for part in (*plant.training, *plant.validation)]
    gram = _Gram.of(parts, max(options.lags, options.relation_lags))
    return ResidualMember.measured(
        LinearEstimator(
            gram.forecast(options.lags, options.penalty),
            gram.relation(options.relation_lags, options.penalty),
            options,
        ),
        plant,
    )


class LinearEstimator(Estimator):
    """``forecast`` [S·L + 1, S] and ``relation`` [S + S·R + 1, S]; the last row of each is the intercept."""

    forecast: Tensor
    relation: Tensor
    intercept: Tensor

    def __init__(self, forecast: Values, relation: Values, options: LinearOptions) -> None:
        super().__init__()
        self.lags = max(options.lags, options.relation_lags)
        self.warmup = self.lags
        self._own, self._before = options.lags, options.relation_lags
        self.register_buffer("forecast", torch.tensor(forecast[:-1], dtype=torch.float32))
        self.register_buffer("relation", torch.tensor(relation[:-1], dtype=torch.float32))
        intercept = np.stack((forecast[-1], relation[-1]), -1)
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float32))

    def forward(self, now: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast and relation, stacked."""
        by_lag = past.transpose(1, 2)
        own = by_lag[:, : self._own].flatten(1)
        around = torch.cat((now, by_lag[:, : self._before].flatten(1)), -1) if self._before else now
        estimates = torch.stack((own @ self.forecast, around @ self.relation), -1)
        return estimates + self.intercept, hidden


@dataclass(frozen=True, slots=True)
class _Gram:
    """Sums of products of (now, 1 tick ago, ..., L ticks ago, 1), each of S sensors."""

    products: Values
    sensors: int

    @classmethod
    def of(cls, parts: Sequence[Values], lags: int) -> _Gram:
        sensors = parts[0].shape[1]
        width = sensors * (lags + 1) + 1
        products = np.zeros((width, width))
        for part in parts:
            for begin in range(lags, len(part), _CHUNK):
                stop = min(begin + _CHUNK, len(part))
                columns = [part[begin - lag : stop - lag] for lag in range(lags + 1)]
                rows = np.concatenate([*columns, np.ones((stop - begin, 1))], 1)
                products += rows.T @ rows
        return cls(products, sensors)

    def forecast(self, lags: int, penalty: float) -> Values:
        """Weights [S·L + 1, S] of all sensors from the past of all."""
        used = self._columns(1, lags)
        square = self.products[np.ix_(used, used)] + penalty * np.eye(len(used))
        return np.asarray(np.linalg.solve(square, self.products[np.ix_(used, range(self.sensors))]), np.float64)

    def relation(self, lags: int, penalty: float) -> Values:
        """Weights [S + S·R + 1, S] of each sensor from all others, now and before; 0 from itself at any time.

        Every regression leaves other columns out, yet one inverse P of the whole serves all: given the rest, the
        columns B of a sensor are -inv(P[B, B]) @ P[B, rest] (conditional mean of a normal distribution).
        """
        used = self._columns(0, lags)
        precision = np.linalg.inv(self.products[np.ix_(used, used)] + penalty * np.eye(len(used)))
        weight = np.zeros((len(used), self.sensors))
        for sensor in range(self.sensors):
            own = sensor + self.sensors * np.arange(lags + 1)
            first = np.linalg.solve(precision[np.ix_(own, own)], np.eye(lags + 1)[0])
            weight[:, sensor] = -first @ precision[own]
            weight[own, sensor] = 0.0
        return weight

    def _columns(self, first: int, last: int) -> list[int]:
        return [*range(first * self.sensors, (last + 1) * self.sensors), len(self.products) - 1]
