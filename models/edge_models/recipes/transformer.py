"""Recipe ``transformer``: attention over time, over sensors, and over the neighbours' present without the sensor.

::

    past[L] of each sensor ─► attention over time ─► attention over sensors ─► forecast
                                                            │
    readings now ───────────────────────────────► attention over the others ─► relation

The blocks are those of A. Vaswani et al., "Attention is all you need" (2017), with the normalisation first. Time and
sensors are attended to one after the other, which costs L + S instead of L·S per token. Only the last block sees the
readings of this tick, with the diagonal masked: no path leads from a sensor's reading to its own estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_models.recipes.fitting import Settings, Trainable, fit
from edge_models.recipes.members import Estimator, ResidualMember
from edge_models.recipes.plant import Plant

_MASKED = -1e9
_BATCH = 32
_MOST_WEIGHTS = 1_000_000
"""Attention weights of one head in one batch: bounds the memory that training takes on large plants."""


@dataclass(frozen=True, slots=True)
class TransformerOptions:
    """Window in ticks, width of a token, heads (a divisor of the width)."""

    window: int = 8
    width: int = 32
    heads: int = 4
    learning_rate: float = 3e-3

    @classmethod
    def suggest(cls, trial: Any) -> TransformerOptions:
        """Draw from a study."""
        return cls(
            trial.suggest_int("transformer.window", 4, 16, step=4),
            trial.suggest_categorical("transformer.width", [16, 32, 48]),
            trial.suggest_categorical("transformer.heads", [2, 4]),
            trial.suggest_float("transformer.learning_rate", 1e-3, 6e-3, log=True),
        )


def train(plant: Plant, options: TransformerOptions, settings: Settings) -> ResidualMember:
    """Train on the training part with early stopping; spreads on the held-out part."""
    torch.manual_seed(settings.seed)
    estimator = Transformer(len(plant.sensors), options)
    batch = min(_BATCH, max(2, _MOST_WEIGHTS // len(plant.sensors) ** 2))
    fit(estimator, plant, settings.with_rate(options.learning_rate, batch))
    return ResidualMember.measured(estimator, plant)


class Transformer(Estimator, Trainable):
    """Two estimates a sensor: forecast from the past, relation with the others' readings now."""

    others: Tensor

    def __init__(self, sensors: int, options: TransformerOptions) -> None:
        super().__init__()
        width = options.width
        self.lags = self.warmup = options.window
        self.block = options.window + 1
        self.identity = nn.Parameter(0.1 * torch.randn(sensors, width))
        self.position = nn.Parameter(0.1 * torch.randn(options.window, width))
        self.past = nn.Linear(1, width)
        self.now = nn.Linear(1, width)
        self.over_time = Block(width, options.heads)
        self.over_sensors = Block(width, options.heads)
        self.over_others = Block(width, options.heads)
        self.forecast = nn.Linear(width, 1)
        self.relation = nn.Linear(width, 1)
        self.register_buffer("others", _MASKED * torch.eye(sensors))

    def forward(self, now: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Forecast and relation, each as a change of the sensor's last reading."""
        tokens = self.past(past.unsqueeze(-1)) + self.position + self.identity.unsqueeze(1)
        newest = self.over_time(tokens[:, :, :1], tokens).squeeze(2)
        summary = self.over_sensors(newest, newest)
        present = summary + self.now(now.unsqueeze(-1))
        related = self.over_others(summary, present, self.others)
        last = past[:, :, 0]
        steps = (self.forecast(summary), self.relation(related))
        return torch.stack([last + step.squeeze(-1) for step in steps], -1), hidden

    def loss(self, seen: Tensor, clean: Tensor) -> Tensor:
        """Error of both estimates of the block's last tick."""
        past = seen[:, :-1].flip(1).transpose(1, 2)
        estimate, _ = self(seen[:, -1], past, seen.new_zeros(1, 0))
        return nn.functional.mse_loss(estimate, clean[:, -1].unsqueeze(-1).expand_as(estimate))


class Block(nn.Module):
    """Attention with residual, then a small network with residual; queries [.., Q, W] look at tokens [.., T, W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.seen, self.asking, self.mixed = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.inside = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask`` [Q, T] is added to the attention before the softmax."""
        seen = self.seen(tokens)
        query, key, value = self.query(self.asking(queries)), self.key(seen), self.value(seen)
        query, key, value = (self._split(item) for item in (query, key, value))
        weight = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if mask is not None:
            weight = weight + mask
        found = (torch.softmax(weight, -1) @ value).transpose(-2, -3).flatten(-2)
        mixed = queries + self.out(found)
        result: Tensor = mixed + self.inside(self.mixed(mixed))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        """[.., T, W] -> [.., heads, T, W / heads]."""
        split: Tensor = tokens.unflatten(-1, (self._heads, -1)).transpose(-2, -3)  # type: ignore[no-untyped-call]
        return split
