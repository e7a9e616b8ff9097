"""Three linear experts from one matrix of moments: ridge regressions in closed form.

* **own history**: a sensor from its own last five levels (an autoregression of each sensor by itself);
* **shared history**: a sensor from the last five levels of the whole group (vector autoregression);
* **relation**: a sensor from the others now, one and two ticks ago, never from itself: what a sensor that repeats its
  own past cannot fool.

A. E. Hoerl, R. W. Kennard, "Ridge regression", Technometrics 12 (1970); H. Luetkepohl, "New Introduction to Multiple
Time Series Analysis" (2005), chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.moments import LAGS, Moments

_RIDGE = 10.0  # in rows: what so many rows of pure noise would add
RELATED_LAGS = 2
EXPERTS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weights:
    """``own`` [LAGS + 1, G]: on the sensor's lags and one. ``shared`` [LAGS G + 1, G]: on all lags and one.

    ``relation`` [3 G + 1, G]: on the levels now, one and two ticks ago, and one.
    """

    own: Floats
    shared: Floats
    relation: Floats

    @classmethod
    def none(cls, width: int) -> Weights:
        """Experts that expect the mean."""
        near = RELATED_LAGS + 1
        return cls(
            np.zeros((LAGS + 1, width)), np.zeros((LAGS * width + 1, width)), np.zeros((near * width + 1, width))
        )

    def estimate(self, now: Floats, lags: Floats, limit: float) -> tuple[Floats, Floats]:
        """Expected deviations [3, G] by each expert, from those ``now`` [G] and their ``lags`` [LAGS, G]; and ``now``.

        Others' deviations are limited to ``limit`` in the relation: a broken sensor must not make its neighbours odd.
        One that is missing (NaN) is filled in with what the experts expect of it, for the same reason.
        """
        own = np.einsum("lg,lg->g", self.own[:LAGS], lags) + self.own[LAGS]
        shared = lags.ravel() @ self.shared[:-1] + self.shared[-1]
        missing = np.isnan(now)
        if missing.any():
            now = np.where(missing, self._related(np.where(missing, shared, now), lags, limit), now)
        return np.stack((own, shared, self._related(now, lags, limit))), now

    def _related(self, now: Floats, lags: Floats, limit: float) -> Floats:
        near = np.clip(np.concatenate((now, lags[:RELATED_LAGS].ravel())), -limit, limit)
        return np.asarray(near @ self.relation[:-1] + self.relation[-1], np.float64)


def fit(moments: Moments) -> Weights:
    """The weights of all three experts."""
    return Weights(_own_history(moments), _shared_history(moments), _relation(moments))


def _own_history(moments: Moments) -> Floats:
    width, gram = moments.width, moments.gram
    sensors = np.arange(width)
    places = np.concatenate(
        (sensors[:, None] + width * np.arange(1, LAGS + 1), np.full((width, 1), len(gram) - 1)), axis=1
    )
    square = gram[places[:, :, None], places[:, None, :]] + _RIDGE * np.eye(LAGS + 1)
    return np.asarray(np.linalg.solve(square, gram[places, sensors[:, None]][:, :, None])[:, :, 0].T, np.float64)


def _shared_history(moments: Moments) -> Floats:
    width, gram = moments.width, moments.gram
    past = gram[width:, width:] + _RIDGE * np.eye(len(gram) - width)
    return np.asarray(np.linalg.solve(past, gram[width:, :width]), np.float64)


def _relation(moments: Moments) -> Floats:
    """Leave-one-out for all sensors from one inverse, by the inverse of a matrix from which rows are removed."""
    width, gram = moments.width, moments.gram
    near = np.append(np.arange((RELATED_LAGS + 1) * width), len(gram) - 1)
    inverse = np.linalg.inv(gram[np.ix_(near, near)] + _RIDGE * np.eye(len(near)))
    full = inverse @ gram[near, :width]
    sensors = np.arange(width)
    own = sensors[:, None] + width * np.arange(RELATED_LAGS + 1)
    removed = inverse[own[:, :, None], own[:, None, :]]
    surplus = np.linalg.solve(removed, full[own, sensors[:, None]][:, :, None])
    weights = full - np.einsum("fgk,gk->fg", inverse[:, own], surplus[:, :, 0])
    weights[own.T, sensors] = 0.0  # exactly, not up to rounding
    return np.asarray(weights, np.float64)
