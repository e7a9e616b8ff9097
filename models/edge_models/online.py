"""What the model learns on the gateway: where each sensor usually is, and two small linear experts. No gradients.

All of it is carried state of one row per sensor and lives inside the exported graph; scalars are columns [N, 1]. Every
update is winsorised, and slows down while a sensor or its neighbourhood looks suspicious, so that an attack is neither
learned quickly nor allowed to stretch the yardstick it is measured with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SUSPICIOUS = 10.0
"""Score above which a tick is not more suspicious."""
OUTLIER = 3.0
"""Normalised residual from which the experts trust a reading less (Huber's rule)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things are learned; times are in ticks that brought a value.

    ``open_ticks``: level is taken as it comes, experts wait. ``settle_ticks``: spreads are taken as they come.
    ``guard_ticks``: from here on suspicion slows learning. ``horizon``: memory of level and spread afterwards.
    ``leak``: certainty an expert loses in a tick, its memory is about ``1/sqrt(leak)``. ``prior``: inverse of the ridge
    penalty. ``suspicion_ticks``: memory of suspicion. ``tolerance``: suspicion (mean score) that is still normal.
    ``frozen``: what is left of the pace under strong suspicion. ``patience``: memory of what is typical of the sensor;
    suspicion counts relative to it, or a plant that has changed for good would stay frozen for ever.
    """

    open_ticks: float = 20.0
    settle_ticks: float = 60.0
    guard_ticks: float = 400.0
    horizon: float = 5000.0
    leak: float = 1e-7
    prior: float = 1.0
    suspicion_ticks: float = 20.0
    tolerance: float = 2.0
    frozen: float = 2e-3
    patience: float = 4000.0


def floor_of(reference: Tensor) -> Tensor:
    """The smallest spread float32 can show around a value of this size; never 0."""
    return reference.abs() * 3e-7 + 1e-6


def learn_level(
    offset: Tensor, mean: Tensor, variance: Tensor, rate: Tensor, floor: Tensor, limit: Tensor
) -> tuple[Tensor, Tensor]:
    """Winsorised running mean and variance: moves by ``rate`` towards at most ``limit`` deviations away."""
    bound = limit * (torch.sqrt(variance) + floor)
    step = torch.minimum(torch.maximum(offset - mean, -bound), bound)
    # Runtimes round differently: what should be 0 may come out below it.
    return mean + rate * step, torch.clamp(variance + rate * ((1.0 - rate) * step * step - variance), min=0.0)


def learn_spread(residual: Tensor, variance: Tensor, rate: Tensor, limit: Tensor) -> Tensor:
    """Winsorised running mean square of ``residual`` (all in units of the sensor's own deviation)."""
    square = torch.minimum(residual * residual, limit * limit * (variance + 1e-6))
    return torch.clamp(variance + rate * (square - variance), min=0.0)


def compress(score: Tensor) -> Tensor:
    """Logarithmic above 100, or one sensor off by a million deviations hides all others in a mean."""
    return torch.where(score > 100.0, 100.0 + 100.0 * torch.log(torch.clamp(score, min=100.0) / 100.0), score)


def pace_under(suspicion: Tensor, pace: Pace) -> Tensor:
    """Share of the usual learning pace, 1 while ``suspicion`` (1 = as usual) is tolerable."""
    calm = torch.clamp(pace.tolerance / torch.clamp(suspicion, min=1e-3), max=1.0)
    cube = calm * calm * calm
    return torch.clamp(cube * cube, min=pace.frozen)


@dataclass(frozen=True, slots=True)
class Experts:
    """Ridge regressions learned tick by tick (recursive least squares): E views of each sensor with F features.

    ``weight`` [N, E, F]; ``inverse`` [N, E, F, F] is the inverse of the regularised feature covariance.
    """

    weight: Tensor
    inverse: Tensor

    def estimate(self, feature: Tensor) -> Tensor:
        """Estimates [N, E] from features [N, E, F]."""
        return (self.weight * feature).sum(-1)

    def learn(
        self,
        feature: Tensor,
        innovation: Tensor,
        trust: Tensor,
        fresh: Tensor,
        restart: Tensor,
        prior: Tensor,
        leak: float,
    ) -> Experts:
        """Move towards ``innovation`` [N, E] with ``trust`` [N, E] (1 for a normal reading, towards 0 for an outlier).

        ``fresh`` [N, 1] is 0 where nothing arrived: nothing is learned there. ``restart`` [N, 1] is 1 where certainty
        starts from ``prior`` [N, 1] again: at the first tick, or when the neighbours are other sensors than before.
        The whole update is one scaling, one outer product and one diagonal, because ``inverse`` is the largest state.
        """
        keep = (1.0 - restart).unsqueeze(-1)
        fade, fresh_view = 1.0 - keep, fresh.unsqueeze(-1)
        start = prior.unsqueeze(-1)
        gain = keep * (self.inverse @ feature.unsqueeze(-1)).squeeze(-1) + fade * start * feature
        spread = 1.0 / trust + (feature * gain).sum(-1)
        weight = self.weight + (fresh * innovation / spread).unsqueeze(-1) * gain
        share = leak * fresh_view
        down = torch.sqrt(fresh / spread).unsqueeze(-1) * gain
        diagonal = start * (share + (1.0 - share) * fade)
        eye = torch.eye(feature.shape[-1], dtype=feature.dtype)
        inverse = ((1.0 - share) * keep).unsqueeze(-1) * self.inverse
        inverse = inverse - down.unsqueeze(-1) * down.unsqueeze(-2) + diagonal.unsqueeze(-1) * eye
        return Experts(weight, inverse)
