"""What is usual for each sensor's own score, so that one restless sensor cannot drown the others. Pure.

A model's scores are meant to be about 1 on normal data, and for valves that switch rarely or flows that pulse they are
not. So the 99 % quantile of every sensor's score on normal ticks is known here, and scores are divided by how much it
exceeds that of a squared normal residual.

The quantile comes from a histogram of log scores for each sensor that forgets exponentially: at first over as many
ticks as were seen, so that the model's own settling loses its weight, in the long run over ``_LONGEST`` ticks, so that
minutes of an attack hardly move what hours of normal operation have taught. Memory is ``_BINS`` numbers a sensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEVEL = 0.99
_USUAL = 6.635  # 99 % quantile of the chi-squared distribution with one degree of freedom
_BINS = 48
_FIRST, _LAST = np.log(1e-2), np.log(1e6)  # log score at the lower edge of the first and the upper edge of the last bin
_WIDTH = (_LAST - _FIRST) / _BINS
_SHORTEST, _LONGEST = 50.0, 20_000.0  # ticks over which the histogram remembers
_ENOUGH = 100.0  # ticks before a quantile is believed
_REFRESH_EVERY = 16  # ticks between two looks at a histogram
_AT_ONCE = 1024  # with more sensors the looks are spread over the ticks


class SensorTails:
    """One histogram a sensor; rows follow the sensors of the snapshot by name.

    ``least``: scores are never divided by less, so that a sensor whose scores are always tiny is not blown up.
    """

    def __init__(self, least: float = 1.0) -> None:
        self._least = least
        self._ticks = 0
        self.sensors: tuple[str, ...] = ()
        self._counts: NDArray[np.float32] = np.zeros((0, _BINS), np.float32)
        self._total: NDArray[np.float32] = np.zeros(0, np.float32)  # ticks ever learned, nothing forgotten
        self._excess: NDArray[np.float32] = np.ones(0, np.float32)

    def align(self, sensors: tuple[str, ...]) -> None:
        """Follow the sensors of the snapshot; those that stay keep what is known of them."""
        if sensors is self.sensors:
            return
        old = {name: i for i, name in enumerate(self.sensors)}
        rows = np.array([old.get(name, len(old)) for name in sensors], dtype=np.int64)
        self._counts = np.append(self._counts, np.zeros((1, _BINS), np.float32), axis=0)[rows]
        self._total = np.append(self._total, np.float32(0))[rows]
        self._excess = np.append(self._excess, np.float32(1))[rows]
        self.sensors = sensors

    def usual(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """``score`` (N) in units that mean the same for every sensor: about 1 is normal."""
        return np.asarray(score / self._excess, dtype=np.float32)

    def learn(self, score: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Take the scores of one normal tick into account where ``valid``."""
        rows = np.flatnonzero(valid)
        self._counts[rows, _bin(score[rows])] += 1.0
        self._total += valid
        self._ticks += 1
        rows_now = self._turn()
        if rows_now.start < rows_now.stop:
            self._forget(rows_now)
            self._refresh(rows_now)

    def load(self, sensors: tuple[str, ...], scores: NDArray[np.float32]) -> None:
        """Replace what is known by ``scores`` [T, S] on held-out normal data; 0 or NaN: not scored."""
        self.sensors = sensors
        self._counts = np.zeros((len(sensors), _BINS), np.float32)
        self._ticks = 0
        for row in scores:
            there = np.flatnonzero(np.isfinite(row) & (row > 0))
            self._counts[there, _bin(row[there])] += 1.0
        self._total = self._counts.sum(axis=1)
        self._refresh_all()

    def export(self) -> dict[str, NDArray[Any]]:
        """What was learned, for saving."""
        return {
            "names": np.array(self.sensors, dtype=np.str_),
            "counts": self._counts.copy(),
            "total": self._total.copy(),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises ValueError: it has another form."""
        counts, total = np.array(state["counts"], dtype=np.float32), np.array(state["total"], dtype=np.float32)
        if counts.shape != (len(state["names"]), _BINS) or total.shape != counts.shape[:1]:
            raise ValueError(
                f"saved sensor tails: got shapes {counts.shape} and {total.shape}, expected [N, {_BINS}], [N]"
            )
        if not (np.isfinite(counts).all() and np.isfinite(total).all()):
            raise ValueError("saved sensor tails: got numbers that are not finite")
        self.sensors = tuple(str(name) for name in state["names"])
        self._counts = counts
        self._total = total
        self._refresh_all()

    def _turn(self) -> slice:
        """The rows to look at on this tick; few sensors all have the same turn."""
        count, turn = len(self.sensors), self._ticks % _REFRESH_EVERY
        if count <= _AT_ONCE:
            return slice(0, count if turn == 0 else 0)
        return slice(turn * count // _REFRESH_EVERY, (turn + 1) * count // _REFRESH_EVERY)

    def _forget(self, rows: slice) -> None:
        memory = np.clip(self._total[rows], _SHORTEST, _LONGEST)
        self._counts[rows] *= np.exp(-_REFRESH_EVERY / memory).astype(np.float32)[:, None]

    def _refresh_all(self) -> None:
        self._excess = np.ones(len(self.sensors), np.float32)
        self._refresh(slice(0, len(self.sensors)))

    def _refresh(self, rows: slice) -> None:
        """Quantiles by linear interpolation inside the bin in which the level is reached."""
        counts = self._counts[rows]
        seen = counts.sum(axis=1)
        cumulative = np.cumsum(counts, axis=1)
        target = _LEVEL * seen
        bin_index = (cumulative < target[:, None]).sum(axis=1).clip(0, _BINS - 1)
        inside = np.take_along_axis(counts, bin_index[:, None], axis=1)[:, 0]
        below = np.take_along_axis(cumulative, bin_index[:, None], axis=1)[:, 0] - inside
        part = np.where(inside > 0, (target - below) / np.maximum(inside, 1e-9), 0.0)
        quantile = np.exp(_FIRST + _WIDTH * (bin_index + part))
        quantile = np.where(seen >= _ENOUGH, quantile, _USUAL)
        self._excess[rows] = np.maximum(quantile / _USUAL, self._least)


def _bin(score: NDArray[np.float32]) -> NDArray[np.int64]:
    with np.errstate(divide="ignore"):
        position = (np.log(score) - _FIRST) / _WIDTH
    return np.asarray(np.fmin(np.fmax(position, 0.0), _BINS - 1), np.int64)  # no number: the lowest
