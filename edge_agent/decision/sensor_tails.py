"""What is usual for each sensor's own score, so that one restless sensor cannot drown the others. Pure.

A model's scores are meant to be about 1 on normal data, and for valves that switch rarely or flows that pulse they are
not. So the 99 % quantile of every sensor's score is tracked on normal ticks, and scores are divided by how much it
exceeds that of a squared normal residual. Tracking is by stochastic approximation (Robbins and Monro, 1951) on the log
scale: a step up when the score is above, a 99 times smaller one down when it is below. Steps shrink as more is seen, so
that minutes of an attack hardly move what days of normal operation have taught. No memory of past scores is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.99
_USUAL = 6.635  # 99 % quantile of the chi-squared distribution with one degree of freedom
_FIRST_STEP, _LAST_STEP = 0.4, 0.001
_HALVED = 30.0  # ticks after which a step is half as large


class SensorTails:
    """One tracked quantile a sensor; rows follow the sensors of the snapshot by name.

    ``least``: scores are never divided by less, so that a sensor whose scores are always tiny is not blown up.
    """

    def __init__(self, least: float = 1.0) -> None:
        self._least = least
        self._sensors: tuple[str, ...] = ()
        self._log_quantile: NDArray[np.float64] = np.zeros(0)
        self._seen: NDArray[np.float64] = np.zeros(0)

    def align(self, sensors: tuple[str, ...]) -> None:
        """Follow the sensors of the snapshot; those that stay keep what is known of them."""
        if sensors is self._sensors:
            return
        old = {name: i for i, name in enumerate(self._sensors)}
        rows = np.array([old.get(name, -1) for name in sensors], dtype=np.int64)
        known = rows >= 0
        quantile = np.full(len(sensors), np.log(_USUAL))
        seen = np.zeros(len(sensors))
        quantile[known], seen[known] = self._log_quantile[rows[known]], self._seen[rows[known]]
        self._sensors, self._log_quantile, self._seen = sensors, quantile, seen

    def usual(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """``score`` (N) in units that mean the same for every sensor: about 1 is normal."""
        excess = np.maximum(np.exp(self._log_quantile) / _USUAL, self._least)
        return np.asarray(score / excess, dtype=np.float32)

    def learn(self, score: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Take the scores of one normal tick into account where ``valid``."""
        step = np.maximum(_FIRST_STEP / (1.0 + self._seen / _HALVED), _LAST_STEP)
        above = score > np.exp(self._log_quantile)
        move = np.where(above, _LEVEL, _LEVEL - 1.0) * step
        self._log_quantile += np.where(valid, move, 0.0)
        self._seen += valid

    def load(self, sensors: tuple[str, ...], scores: NDArray[np.float32]) -> None:
        """Replace what is known by the quantiles of ``scores`` [T, S] on held-out normal data."""
        positive = np.where(scores > 0, scores, np.nan)
        known = np.flatnonzero(np.isfinite(positive).sum(axis=0) >= 20)
        quantile = np.nanquantile(positive[:, known], _LEVEL, axis=0)
        self._sensors = tuple(sensors[i] for i in known)
        self._log_quantile = np.log(np.maximum(quantile, 1e-6))
        self._seen = np.full(len(known), float(len(scores)))

    def export(self) -> dict[str, NDArray[Any]]:
        """What was learned, for saving."""
        return {"names": np.array(self._sensors, dtype=np.str_), "log_quantile": self._log_quantile, "seen": self._seen}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave."""
        self._sensors = tuple(str(name) for name in state["names"])
        self._log_quantile = np.array(state["log_quantile"], dtype=np.float64)
        self._seen = np.array(state["seen"], dtype=np.float64)
