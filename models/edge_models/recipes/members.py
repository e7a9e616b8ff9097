"""What a recipe gives: a module that judges one tick of a standardised plant, whatever it is inside.

Everything here is in deviations from each sensor's mean, in the trained order of sensors; units, order and missing
sensors are the business of :mod:`edge_models.recipes.frame`. Shapes: B ticks that are judged side by side, S sensors,
L lags (newest first), H numbers carried for the plant as a whole, V estimates of every sensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edge_models.recipes.plant import INPUT_LIMIT, Plant, Values

_SPREAD_FLOOR = 1e-2
_WINSOR = 5.0
_ROUNDS = 10
_LARGEST_RATIO = 1e3
_BATCH = 512
LEAST_LAGS = 1
T = TypeVar("T")


class Judgement(NamedTuple):
    """``score``, ``expected`` and ``scale`` [B, S]: about 1 on normal readings; the other two in deviations."""

    score: Tensor
    expected: Tensor
    scale: Tensor


class Member(nn.Module):
    """Judges ticks. ``lags`` and ``hidden`` say how much it wants to be carried; ``warmup`` in ticks."""

    lags: int = LEAST_LAGS
    hidden: int = 0
    warmup: int = 0

    def forward(self, level: Tensor, past: Tensor, hidden: Tensor) -> tuple[Judgement, Tensor]:
        """``level`` [B, S] now (not clipped), ``past`` [B, S, L] clipped, ``hidden`` [B, H] -> and the next hidden."""
        raise NotImplementedError


class Estimator(nn.Module):
    """Estimates all sensors; what it must not know (a sensor's own reading now) it leaves out by itself."""

    lags: int = LEAST_LAGS
    hidden: int = 0
    warmup: int = 0

    def forward(self, now: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Clipped ``now`` [B, S], ``past`` [B, S, L], ``hidden`` [B, H] -> estimates [B, S, V] and the next hidden."""
        raise NotImplementedError


class ResidualMember(Member):
    """Residuals by their spread on held-out normal readings, squared, mean over the estimates.

    The spread is a root mean square with a floor, one number for each sensor and estimate: a median, a maximum or a
    predicted deviation in its place detects worse.
    """

    spread: Tensor
    limit: Tensor
    share: Tensor

    def __init__(self, estimator: Estimator, spread: Values, limit: Values) -> None:
        super().__init__()
        self.estimator = estimator
        self.lags, self.hidden, self.warmup = estimator.lags, estimator.hidden, estimator.warmup
        precision = spread**-2.0
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))
        self.register_buffer("limit", torch.tensor(limit, dtype=torch.float32))
        share = precision / precision.sum(1, keepdims=True)
        self.register_buffer("share", torch.tensor(share, dtype=torch.float32))

    @classmethod
    def measured(cls, estimator: Estimator, plant: Plant) -> ResidualMember:
        """With the spreads of what ``estimator`` leaves of the held-out readings."""
        residual = np.concatenate([part[:, :, None] - estimates(estimator, part) for part in plant.held_out])
        return cls(estimator, winsorised_rms(residual) + _SPREAD_FLOOR, plant.normal.limit)

    def forward(self, level: Tensor, past: Tensor, hidden: Tensor) -> tuple[Judgement, Tensor]:
        """Estimate, compare, square."""
        now = torch.clamp(level, -INPUT_LIMIT, INPUT_LIMIT)
        estimate, after = self.estimator(now, past, hidden)
        ratio = torch.clamp((level.unsqueeze(-1) - estimate) / self.spread, -_LARGEST_RATIO, _LARGEST_RATIO)
        score = torch.minimum((ratio * ratio).mean(-1), self.limit)
        expected = (estimate * self.share).sum(-1)
        scale = (self.spread * self.share).sum(-1).expand_as(expected)
        return Judgement(score, expected, scale), after


def winsorised_rms(residual: Values) -> Values:
    """Root mean square over time [T, ...] -> [...]; what is beyond five spreads is pulled in: histories hold faults."""
    square = residual.astype(np.float64) ** 2
    mean = square.mean(0)
    for _ in range(_ROUNDS):
        mean = np.minimum(square, _WINSOR**2 * mean).mean(0)
    return np.asarray(np.sqrt(mean), np.float64)


@torch.no_grad()
def judge(member: Member, part: Values) -> tuple[Values, Values, Values]:
    """Score, expected and scale [T, S] of a standardised part [T, S], from a fresh start."""
    found = [[item.numpy() for item in judgement] for judgement in _run(member.eval(), member, part)]
    score, expected, scale = (np.concatenate(column).astype(np.float64) for column in zip(*found, strict=True))
    return score, expected, scale


@torch.no_grad()
def estimates(estimator: Estimator, part: Values) -> Values:
    """What is estimated of every tick of a standardised part [T, S] -> [T, S, V], from a fresh start."""
    estimator.eval()

    def clipped(level: Tensor, past: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = estimator(torch.clamp(level, -INPUT_LIMIT, INPUT_LIMIT), past, hidden)
        return found

    return np.concatenate([found.numpy() for found in _run(clipped, estimator, part)]).astype(np.float64)


def _run(
    compute: Callable[[Tensor, Tensor, Tensor], tuple[T, Tensor]], form: Member | Estimator, part: Values
) -> Iterator[T]:
    """All ticks in order: many at once, or one by one where a state is carried."""
    hidden = torch.zeros(1, form.hidden)
    step = 1 if form.hidden else _BATCH
    before = np.concatenate((np.repeat(part[:1], form.lags, axis=0), part)).astype(np.float32)
    past = np.lib.stride_tricks.sliding_window_view(before.clip(-INPUT_LIMIT, INPUT_LIMIT), form.lags, axis=0)
    level = torch.from_numpy(part.astype(np.float32))
    for begin in range(0, len(part), step):
        newest_first = past[begin : min(begin + step, len(part)), :, ::-1].copy()
        result, hidden = compute(level[begin : begin + step], torch.from_numpy(newest_first), hidden)
        yield result
