"""Detectors trained by gradient: what neural forecasters do without the rest of ours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edge_models.evaluation.baselines.base import INPUT_LIMIT, Score, Values, normalised, with_past

_HIDDEN = 64
_LENGTH = 60
_SETTLING = 10
_WARMUP = 200
_BATCH = 32
_MOST_STEPS = 1_500
_CHECK_EVERY = 50
_PATIENCE = 5
_VALIDATION = 0.15


class Forecaster(nn.Module):
    """An LSTM over all sensors that forecasts the next tick."""

    def __init__(self, sensors: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sensors, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN, sensors)

    def forward(self, values: Tensor) -> Tensor:
        """[B, T, N] to the forecasts of the ticks after each, [B, T, N]."""
        hidden, _ = self.lstm(values)
        forecast: Tensor = self.head(hidden)
        return forecast


def lstm_forecaster(train: Values, held_out: Values, seed: int) -> Score:
    """An LSTM alone: 64 units, mean squared error, early stopping on the last part of ``train``, state carried."""
    torch.manual_seed(seed)
    model = Forecaster(train.shape[1])
    _fit(model, _tensor(train), np.random.default_rng(seed))
    return normalised(lambda history, values: values - _forecasts(model, history, values), train, held_out)


def gdn(train: Values, held_out: Values, seed: int) -> Score:
    """Graph deviation network (Deng and Hooi, AAAI 2021), the recipe of that name, by one-step forecast residuals."""
    from edge_models.recipes.fitting import Settings
    from edge_models.recipes.gdn import GdnOptions
    from edge_models.recipes.gdn import train as train_gdn
    from edge_models.recipes.members import estimates
    from edge_models.recipes.plant import plant_of, standardise
    from edge_models.reporting import DataSummary

    names = tuple(str(sensor) for sensor in range(train.shape[1]))
    plant = plant_of(names, [train], [held_out], DataSummary("normal part", "", len(train), len(train), names))
    options = GdnOptions()
    estimator = train_gdn(plant, options, Settings(seed=seed)).estimator

    def residuals(history: Values, values: Values) -> Values:
        level = standardise(with_past(history, values, options.window), plant.normal)
        return np.asarray((level - estimates(estimator, level)[:, :, 0])[options.window :], np.float64)

    return normalised(residuals, train, held_out)


def _fit(model: Forecaster, values: Tensor, rng: np.random.Generator) -> None:
    border = len(values) - max(int(len(values) * _VALIDATION), 2 * _SETTLING)
    training, validation = values[:border], values[border:]
    length = min(_LENGTH, len(training) - 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    best, weights, waited = np.inf, model.state_dict(), 0
    for step in range(1, _MOST_STEPS + 1):
        starts = rng.integers(0, len(training) - length, size=_BATCH)
        loss = _loss(model, torch.stack([training[start : start + length + 1] for start in starts]))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % _CHECK_EVERY == 0:
            with torch.no_grad():
                found = float(_loss(model, validation[None]))
            waited = 0 if found < best else waited + 1
            if found < best:
                best, weights = found, {name: value.clone() for name, value in model.state_dict().items()}
            if waited >= _PATIENCE:
                break
    model.load_state_dict(weights)


def _loss(model: Forecaster, blocks: Tensor) -> Tensor:
    """Of the ticks after the state has settled."""
    return nn.functional.mse_loss(model(blocks[:, :-1])[:, _SETTLING - 1 :], blocks[:, _SETTLING:])


@torch.no_grad()
def _forecasts(model: Forecaster, history: Values, values: Values) -> Values:
    past = min(_WARMUP, len(history))
    whole = _tensor(with_past(history, values, past))
    return np.asarray(model(whole[None, :-1])[0, past - 1 :].numpy(), np.float64)


def _tensor(values: Values) -> Tensor:
    return torch.from_numpy(np.clip(values, -INPUT_LIMIT, INPUT_LIMIT).astype(np.float32))
