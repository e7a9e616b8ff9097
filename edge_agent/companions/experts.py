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

    def history(self, lags: Floats) -> Floats:
        """Deviations [G] that the shared history expects after ``lags`` [LAGS, G]."""
        return np.asarray(lags.ravel() @ self.shared[:-1] + self.shared[-1], np.float64)

    def related(self, near: Floats) -> Floats:
        """Deviations [G] that the relation expects beside ``near`` [3, G]: those now, one and two ticks ago.

        They are to be limited: a broken sensor must not make its neighbours odd.
        """
        return np.asarray(near.ravel() @ self.relation[:-1] + self.relation[-1], np.float64)

    def restated(self, shift: Floats, factor: Floats) -> Weights:
        """The weights that expect the same where all levels have become ``(level - shift) / factor``."""

        def moved(weights: Floats, shifts: Floats, factors: Floats) -> Floats:
            constant = weights[-1] + (shifts * weights[:-1]).sum(0) - shift
            return np.asarray(np.concatenate((factors * weights[:-1], constant[None])) / factor, np.float64)

        shifts, factors = np.tile(shift, LAGS)[:, None], np.tile(factor, LAGS)[:, None]
        near = (RELATED_LAGS + 1) * len(shift)
        return Weights(
            moved(self.own, shift, factor),
            moved(self.shared, shifts, factors),
            moved(self.relation, shifts[:near], factors[:near]),
        )


def own_history(moments: Moments) -> Floats:
    """Weights ``own`` [LAGS + 1, G]."""
    width, gram = moments.width, moments.gram
    sensors = np.arange(width)
    places = np.concatenate(
        (sensors[:, None] + width * np.arange(1, LAGS + 1), np.full((width, 1), len(gram) - 1)), axis=1
    )
    square = gram[places[:, :, None], places[:, None, :]] + _RIDGE * np.eye(LAGS + 1)
    return np.asarray(np.linalg.solve(square, gram[places, sensors[:, None]][:, :, None])[:, :, 0].T, np.float64)


def shared_history(moments: Moments) -> Floats:
    """Weights ``shared`` [LAGS G + 1, G]."""
    width, gram = moments.width, moments.gram
    past = gram[width:, width:] + _RIDGE * np.eye(len(gram) - width)
    return np.asarray(np.linalg.solve(past, gram[width:, :width]), np.float64)


def relation(moments: Moments) -> Floats:
    """Weights ``relation`` [3 G + 1, G].

    Leave-one-out for all sensors from one inverse, by the inverse of a matrix from which rows are removed.
    """
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
