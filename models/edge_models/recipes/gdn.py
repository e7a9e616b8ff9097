"""Recipe ``gdn``: the graph deviation network.

After A. Deng, B. Hooi, "Graph neural network-based anomaly detection in multivariate time series" (AAAI 2021): every
sensor has an embedding; its neighbours are the sensors of the most similar embeddings (cosine), learned with the rest;
attention over them, computed from embeddings and windows, forecasts the sensor. The score is not that of the paper
(largest residual over median and quartiles of the *test* part), but the one all recipes share. After training
the graph is fixed, so a tick gathers k neighbours instead of comparing all sensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_models.recipes.fitting import Settings, Trainable, fit
from edge_models.recipes.members import Estimator, ResidualMember
from edge_models.recipes.plant import Plant

_SLOPE = 0.2


@dataclass(frozen=True, slots=True)
class GdnOptions:
    """Window in ticks, width of the embeddings, neighbours of a sensor, share of features dropped in training."""

    window: int = 5
    width: int = 64
    neighbours: int = 8
    dropout: float = 0.2
    learning_rate: float = 3e-3

    @classmethod
    def suggest(cls, trial: Any) -> GdnOptions:
        """Draw from a study."""
        return cls(
            trial.suggest_int("gdn.window", 3, 15, step=2),
            trial.suggest_categorical("gdn.width", [32, 64, 128]),
            trial.suggest_int("gdn.neighbours", 4, 20, step=4),
            trial.suggest_float("gdn.dropout", 0.0, 0.3),
            trial.suggest_float("gdn.learning_rate", 1e-3, 6e-3, log=True),
        )


def train(plant: Plant, options: GdnOptions, settings: Settings) -> ResidualMember:
    """Train on the training part with early stopping; spreads on the held-out part."""
    torch.manual_seed(settings.seed)
    estimator = Gdn(len(plant.sensors), options)
    fit(estimator, plant, settings.with_rate(options.learning_rate))
    return ResidualMember.measured(estimator, plant)


class Gdn(Estimator, Trainable):
    """One forecast a sensor, from its own window and those of its neighbours."""

    graph: Tensor

    def __init__(self, sensors: int, options: GdnOptions) -> None:
        super().__init__()
        width = options.width
        self.lags = self.warmup = options.window
        self.block = options.window + 1
        self._neighbours = min(options.neighbours, sensors - 1)
        self.embedding = nn.Parameter(torch.empty(sensors, width).uniform_(-1.0, 1.0) * width**-0.5)
        self.window = nn.Linear(options.window, width, bias=False)
        # Attention of source on target, split in two since a dot product with two vectors side by side is a sum.
        self.target = nn.Linear(2 * width, 1, bias=False)
        self.source = nn.Linear(2 * width, 1, bias=False)
        self.aggregated, self.joined = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(width, 1)
        self.register_buffer("graph", self._similar())

    def forward(self, now: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Equations 5 to 9 of the paper, over the graph as it is."""
        feature = self.window(past)
        attended = torch.cat((self.embedding.expand_as(feature), feature), -1)
        target, source = self.target(attended).squeeze(-1), self.source(attended).squeeze(-1)
        weight = nn.functional.leaky_relu(target.unsqueeze(-1) + source[:, self.graph], _SLOPE)
        mixed = (torch.softmax(weight, -1).unsqueeze(-1) * feature[:, self.graph]).sum(-2)
        mixed = torch.relu(_by_feature(self.aggregated, mixed))
        joined = torch.relu(_by_feature(self.joined, mixed * self.embedding))
        return self.head(self.dropout(joined)), hidden

    def loss(self, seen: Tensor, clean: Tensor) -> Tensor:
        """Error of the forecast of the block's last tick; the graph follows the embeddings."""
        if self.training:
            self.fix_graph()
        past = seen[:, :-1].flip(1).transpose(1, 2)
        estimate, _ = self(seen[:, -1], past, seen.new_zeros(1, 0))
        return nn.functional.mse_loss(estimate.squeeze(-1), clean[:, -1])

    def fix_graph(self) -> None:
        """Set the neighbours to those the embeddings say now."""
        self.graph = self._similar()

    @torch.no_grad()
    def _similar(self) -> Tensor:
        """[S, 1 + k]: each sensor itself, then its neighbours by cosine."""
        unit = nn.functional.normalize(self.embedding, dim=-1)
        cosine = (unit @ unit.T).fill_diagonal_(-2.0)
        best = cosine.topk(self._neighbours, dim=-1).indices
        return torch.cat((torch.arange(len(unit)).unsqueeze(-1), best), -1)


def _by_feature(norm: nn.BatchNorm1d, values: Tensor) -> Tensor:
    """Batch normalisation of [B, S, W] over ticks and sensors."""
    result: Tensor = norm(values.flatten(0, 1)).unflatten(0, values.shape[:2])
    return result
