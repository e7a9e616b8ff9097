"""How good a candidate is, without a label: what it makes of held-out normal readings and of synthetic faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.bundle.verify import Bundle
from edge_models.faults import Detection, detection
from edge_models.recipes.members import Member, judge
from edge_models.recipes.plant import Plant, Values, standardise
from edge_models.recipes.publish import outputs
from edge_models.reporting import gaussian_likelihood

MEAN_ALONE = -0.5 * float(np.log(2.0 * np.pi)) - 0.5
"""Likelihood, in nats per reading, of a model that expects every sensor at its mean."""
_LIKELIHOOD_WEIGHT = 0.1
_MOST_PARTS = 3
_MOST_TICKS = 2_000
Judge = Callable[[Values], tuple[Values, Values, Values]]
"""Readings [T, N] in units -> score, expected, scale [T, N], the last two in units, from a fresh start."""


@dataclass(frozen=True, slots=True)
class Judged:
    """``likelihood``: nats per held-out reading. ``faults``: each kind, means over the parts it was put into."""

    likelihood: float
    faults: tuple[Detection, ...]

    @property
    def fault_auroc(self) -> float | None:
        """Mean over the kinds that could be put in; None without any."""
        found = [one.auroc for one in self.faults if one.auroc is not None]
        return float(np.mean(found)) if found else None

    @property
    def quality(self) -> float:
        """What recipes are compared by: AUROC on synthetic faults, plus a tenth of the spread that is explained.

        The likelihood decides among models that see faults equally well: ``1 - exp(mean alone - likelihood)`` is the
        part of the spread, in the geometric mean, that the expected values take away.
        """
        explained = 1.0 - float(np.exp(np.clip(MEAN_ALONE - self.likelihood, -50.0, 1.0)))
        return (self.fault_auroc or 0.5) + _LIKELIHOOD_WEIGHT * max(explained, -1.0)


def judged(candidate: Member | Bundle, plant: Plant, seed: int) -> Judged:
    """Judge on the longest held-out parts. Faults depend on plant and ``seed`` only: all candidates get the same."""
    score = _in_units(candidate, plant) if isinstance(candidate, Member) else lambda part: outputs(candidate, part)
    parts = sorted(plant.raw, key=len, reverse=True)[:_MOST_PARTS]
    known = np.concatenate(plant.known)[-8 * _MOST_TICKS :]
    found = [detection(lambda part: score(part)[0].astype(np.float32), known, part, seed) for part in parts]
    return Judged(_likelihood(score, parts, plant), _pooled(found))


def _in_units(member: Member, plant: Plant) -> Judge:
    mean, deviation = plant.normal.mean, plant.normal.deviation

    def score(part: Values) -> tuple[Values, Values, Values]:
        found, expected, scale = judge(member, standardise(part, plant.normal))
        return found, mean + deviation * expected, deviation * scale

    return score


def _likelihood(score: Judge, parts: list[Values], plant: Plant) -> float:
    """Of readings within the reach of the model only: one that never moved in training has no spread to judge by."""
    moving = plant.normal.limit == plant.normal.limit.max()
    found = [(part, *score(part)[1:]) for part in parts]
    readings, expected, scale = (np.concatenate(column)[:, moving] for column in zip(*found, strict=True))
    return gaussian_likelihood(readings, expected, scale, plant.normal.deviation[moving])


def _pooled(found: list[tuple[Detection, ...]]) -> tuple[Detection, ...]:
    return tuple(
        Detection(
            kind=same[0].kind,
            faults=sum(one.faults for one in same),
            auroc=_mean([one.auroc for one in same]),
            named=_mean([one.named for one in same]),
        )
        for same in zip(*(part for part in found if part), strict=True)
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
