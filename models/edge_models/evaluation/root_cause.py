"""Whether the sensors that score highest in an event are those that people found to be its cause.

HitRate@P % as in OmniAnomaly (Su et al., KDD 2019): the share of the |G| true sensors that is among the first P % of
|G| of the ranking. Top-k as RC-top-k in Garg et al. (IEEE TNNLS 2021): whether one of the first k is a true one.
Sensors of an event are ranked by their mean score over its ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_models.evaluation.suites import Cause

_MOST = 1e6  # one tick should not speak for a whole event


@dataclass(frozen=True, slots=True)
class CauseQuality:
    """Means over events, each between 0 and 1."""

    events: int
    hit_rate_100: float
    hit_rate_150: float
    top_1: float
    top_3: float
    top_5: float


def cause_quality(sensor: NDArray[np.float32], causes: Sequence[Cause]) -> CauseQuality:
    """Judge per-sensor scores [T, N]. At least one event is needed."""
    found = [_event(sensor, cause) for cause in causes]
    return CauseQuality(len(found), *(float(mean) for mean in np.mean(found, axis=0)))


def _event(sensor: NDArray[np.float32], cause: Cause) -> tuple[float, ...]:
    scores = np.nan_to_num(sensor[cause.start : cause.stop + 1], nan=0.0, posinf=_MOST)
    ranking = np.argsort(-np.minimum(scores, _MOST).mean(0), kind="stable")
    true = np.isin(ranking, cause.sensors)
    size = len(cause.sensors)
    hits = [float(true[: round(size * share)].sum()) / size for share in (1.0, 1.5)]
    return (*hits, *(float(true[:k].any()) for k in (1, 3, 5)))
