"""Whether the sensors that are ranked highest in an event are those that people found to be its cause.

* **HitRate@P %** as in OmniAnomaly (Y. Su et al., "Robust anomaly detection for multivariate time series through
  stochastic recurrent neural network", KDD 2019): at each tick of an event the sensors are ranked by their scores, and
  the share of its G true ones that is among the first floor(P % of G) is the hit rate; mean over ticks.
* **IPS@P %** as in InterFusion (Z. Li et al., "Multivariate time series anomaly detection and interpretation using
  hierarchical inter-metric and temporal embedding", KDD 2021, and ``cal_IPS.py`` of its authors): one ranking an event,
  by each sensor's highest score in it; mean over events, weighted by their length.
* **event@100 %**: one ranking an event, by each sensor's mean score over its ticks, as an incident ranks them; mean
  over events, each counting the same.
* **top-k** as RC-top-k in A. Garg et al. (IEEE TNNLS 33, 2021): whether one of the first k of that last ranking is a
  true one.

The papers count only what their detector found; here all labelled events count, so that detectors can be compared.
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
    """Means over ``events`` or over their ``ticks``, each between 0 and 1."""

    events: int
    ticks: int
    hit_rate_100: float
    hit_rate_150: float
    ips_100: float
    ips_150: float
    event_100: float
    top_1: float
    top_3: float
    top_5: float


def cause_quality(sensor: NDArray[np.float32], causes: Sequence[Cause]) -> CauseQuality:
    """Judge per-sensor scores [T, N]. At least one event is needed."""
    ticks = [cause.stop + 1 - cause.start for cause in causes]
    by_length = np.average([_by_tick(sensor, cause) for cause in causes], axis=0, weights=ticks)
    by_event = np.mean([_by_event(sensor, cause) for cause in causes], axis=0)
    return CauseQuality(len(causes), sum(ticks), *map(float, by_length), *map(float, by_event))


def _by_tick(sensor: NDArray[np.float32], cause: Cause) -> tuple[float, ...]:
    """HitRate@100 %, @150 %, IPS@100 %, @150 %."""
    scores = _scores(sensor, cause)
    every, highest = _true(scores, cause), _true(scores.max(0, keepdims=True), cause)
    return tuple(_hit_rate(true, cause, share) for true in (every, highest) for share in (1.0, 1.5))


def _by_event(sensor: NDArray[np.float32], cause: Cause) -> tuple[float, ...]:
    """Hit rate of the event, top-1, top-3, top-5."""
    true = _true(_scores(sensor, cause).mean(0, keepdims=True), cause)
    return (_hit_rate(true, cause, 1.0), *(float(true[0, :k].any()) for k in (1, 3, 5)))


def _scores(sensor: NDArray[np.float32], cause: Cause) -> NDArray[np.float32]:
    return np.minimum(np.nan_to_num(sensor[cause.start : cause.stop + 1], nan=0.0, posinf=_MOST), _MOST)


def _true(scores: NDArray[np.float32], cause: Cause) -> NDArray[np.bool_]:
    """For each row of ``scores`` whether the first, second ... of its ranking is a true one."""
    return np.isin(np.argsort(-scores, axis=1, kind="stable"), cause.sensors)


def _hit_rate(true: NDArray[np.bool_], cause: Cause, share: float) -> float:
    size = len(cause.sensors)
    return float(true[:, : int(size * share)].sum(1).mean()) / size
