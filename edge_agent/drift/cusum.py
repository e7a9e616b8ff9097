"""Two-sided cumulative sums that learn their own reference, for many streams at once.

E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954); D. M. Hawkins, "Self-starting CUSUM charts for
location and scale", The Statistician 36 (1987): each number is compared with the mean and spread of those before it by
Student's t, turned into a normal score (D. L. Wallace, Annals of Mathematical Statistics 30, 1959). Streams whose
numbers depend on each other are held to their long-run deviation, from the first autocorrelation (S.-H. Kim,
C. Alexopoulos, K.-L. Tsui, J. R. Wilson, "A distribution-free tabular CUSUM chart for autocorrelated data", IIE
Transactions 39, 2007). The limit follows from the false signals allowed (D. Siegmund, Sequential Analysis, 1985).
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SLACK = 0.5
_LARGEST = 4.0  # normal score: no single block is a drift
_LEAST = 4
_MEMORY = 300  # numbers after which old ones begin to be forgotten
_RELATIVE_FLOOR, _FLOOR = 1e-4, 1e-6  # smallest deviation: a stream that never moved must not cry at its last digit
_PRIOR_CORRELATION, _PRIOR_WEIGHT = 0.3, 10.0
_LARGEST_CORRELATION = 0.95


class Reference:
    """Running mean, long-run deviation and first autocorrelation of streams of shape [S, N].

    The mean follows slowly, so what creeps takes it along. ``anchor`` does not: it is the mean as it was after the
    first 300 numbers, ``anchored`` the long-run deviation then.
    """

    FIELDS = ("count", "mean", "square", "cross", "last", "anchor", "anchored")

    def __init__(self, shape: tuple[int, int]) -> None:
        self.count, self.mean, self.square, self.cross, self.last, self.anchor, self.anchored = np.zeros((7, *shape))
        self._usual: Floats | None = None

    @property
    def usual(self) -> Floats:
        """Long-run standard deviation, never 0: larger than the plain one where numbers follow those before them."""
        if self._usual is None:
            self._usual = self._deviation() * self._inflation()
        return self._usual

    def score(self, value: Floats) -> Floats:
        """Normal score of ``value`` against what came before; 0 while too little did."""
        freedom = np.maximum(self.count - 1.0, 1.0)
        t = (value - self.mean) / self.usual
        square = t * t * (self.count / (self.count + 1.0))
        normal = np.copysign(np.sqrt(freedom * np.log1p(square / freedom)), t) * (8 * freedom + 1) / (8 * freedom + 3)
        return np.where(self.count >= _LEAST, normal, 0.0)

    def learn(self, value: Floats, which: Bools) -> None:
        """Take ``value`` in where ``which`` is True."""
        keep = np.where(self.count >= _MEMORY, 1.0 - 1.0 / _MEMORY, 1.0)
        count = self.count * keep + 1.0
        away = value - self.mean
        mean = self.mean + away / count
        square = self.square * keep + away * (value - mean)
        cross = self.cross * keep + np.where(self.count > 0, away * (self.last - self.mean), 0.0)
        for name, new in zip(self.FIELDS[:5], (count, mean, square, cross, value), strict=True):
            np.copyto(getattr(self, name), new, where=which)
        self._usual = None
        self.settle(which & (self.count < _MEMORY))

    @property
    def crept(self) -> Floats:
        """How far the mean has come from its anchor, in the long-run deviations of then; 0 while that is not fixed."""
        away = self.mean - self.anchor
        return np.divide(away, self.anchored, out=np.zeros_like(away), where=self.anchored > 0)

    def settle(self, which: Bools) -> None:
        """Drop anchor where the mean is now, where ``which`` is True."""
        np.copyto(self.anchor, self.mean, where=which)
        np.copyto(self.anchored, self.usual, where=which)

    def forget(self, which: Bools) -> None:
        """Begin anew where ``which`` is True."""
        for name in self.FIELDS:
            getattr(self, name)[which] = 0.0
        self._usual = None

    def _deviation(self) -> Floats:
        raw = np.sqrt(self.square / np.maximum(self.count - 1.0, 1.0))
        return np.maximum(raw, _RELATIVE_FLOOR * np.abs(self.mean) + _FLOOR)

    def _inflation(self) -> Floats:
        variance, weight = np.maximum(self.square, 1e-300), np.maximum(self.count, _LEAST)
        found = self.cross / variance
        # From few numbers a correlation comes out too small (M. G. Kendall, Biometrika 41, 1954).
        found += (1.0 + 4.0 * np.maximum(found, 0.0)) / weight
        correlation = (weight * found + _PRIOR_WEIGHT * _PRIOR_CORRELATION) / (weight + _PRIOR_WEIGHT)
        correlation = np.clip(correlation, 0.0, _LARGEST_CORRELATION)
        return np.sqrt((1.0 + correlation) / (1.0 - correlation))


def limit(streams: int, false_signals: float) -> float:
    """Limit of the sums at which ``streams`` streams together give ``false_signals`` false signals a number."""
    average_run = 2.0 * max(streams, 1) / false_signals  # of one side of one stream
    return log(2.0 * _SLACK**2 * average_run) / (2.0 * _SLACK) - 1.166


class Cusum:
    """Sums upwards and downwards [S, N] of how far numbers lie from their reference."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.up, self.down = np.zeros((2, *shape))

    @property
    def sum(self) -> Floats:
        """The larger of both sums."""
        return np.maximum(self.up, self.down)

    def add(self, score: Floats, learned: Floats) -> None:
        """Take one normal score a stream in; ``learned``: from how many numbers its reference comes.

        The slack covers what the reference itself may be off by: twice the standard error of its mean.
        """
        bounded = np.clip(score, -_LARGEST, _LARGEST)
        slack = _SLACK + 2.0 / np.sqrt(np.maximum(learned, 1.0))
        self.up = np.maximum(self.up + bounded - slack, 0.0)
        self.down = np.maximum(self.down - bounded - slack, 0.0)

    def forget(self, which: Bools) -> None:
        """Begin anew where ``which`` is True."""
        self.up[which] = self.down[which] = 0.0
