"""One group of related sensors: what its members expect at a tick, how surprised they are, what they learn.

::

    value ─► level ─┬─► own history      ─► residual / its usual spread ─► square ┐
                    ├─► shared history   ─► residual ─┬─► square ─────────────────┤
                    │                                 └─► mean of late ─► square ─┤  persistence
                    ├─► relation         ─► residual ─► square ───────────────────┤
                    └─► nearest prototype ─────────────► squared distance ────────┘

What is learned is clipped narrowly, what is scored widely. Usual spreads are learned on ticks that the weights were not
fitted to, and what is learned has been normal for a while: see :class:`edge_agent.companions.companions.Companions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.admission import GROUP
from edge_agent.companions.experts import RELATED_LAGS, Weights, fit
from edge_agent.companions.moments import LAGS, Moments
from edge_agent.companions.prototypes import Prototypes
from edge_agent.companions.saved import names_in, numbers_in
from edge_agent.verdict import SENSOR_MEMBERS

SQUARES = SENSOR_MEMBERS[:-1]
"""Members with a square for each sensor, in the order of the arrays."""
_CLIP = 5.0  # of deviations in all that is learned, of others' deviations, and in what is compared with prototypes
_LIMIT = 50.0  # of deviations in all that is scored
_WILD = 1e4  # of deviations in what says how far a sensor usually moves
_LARGEST = 1e6  # square
_FEW_CHANGES = 20
_SPREAD_FLOOR = 1e-2
_PERSISTENCE = 0.3  # weight of the newest residual in the mean of late (exponentially weighted moving average)
_WINSOR = 400.0  # largest square, in usual ones, that widens the usual spread
_SHORT_MEMORY, _LONG_MEMORY = 50.0, 20_000.0  # ticks over which spreads are learned: after a fit, in the long run
_SPREADS_KNOWN = 30  # learned ticks before scores count
_GROWTH = 0.2  # share of the rows known that is new at the next fit
_LARGEST_STEP = 2_000.0  # rows between fits in the long run
_TINY = 1e-300  # smallest spread of a saved group
_BLOCK = 16  # rows that are learned at once
_MOVED = 0.25  # deviations by which a mean, or share by which a deviation, may differ from what levels are stated in
_STILL = 0.05  # a deviation below this is that of a sensor that stands still; it is not made usual

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tick may teach the group: deviations [G], hardly limited (``raw``, NaN where there is none) and limited
    with what is missing filled in; ``residual`` [4, G], NaN where there is none.

    ``statement``: which of the group's sensors, centres and spreads this is stated in.
    """

    raw: Floats
    deviation: Floats
    residual: Floats32
    state: Floats32 | None
    statement: int


@dataclass(frozen=True, slots=True)
class GroupScore:
    """``squares`` [4, G]: about 1 on normal data, NaN where nothing can be said. ``distance`` [G]: to a prototype.

    ``forecasts`` [3, G]: what each expert expected, in the sensors' units.
    """

    squares: Floats
    forecasts: Floats
    distance: Floats32 | None


class Group:
    """Sensors ``names`` (G) with ``centre`` and ``spread`` [G] in their units, from a normal past.

    ``phase``: groups of different phase learn their rows on different ticks, so that no tick has to wait for all.
    """

    def __init__(self, names: tuple[str, ...], centre: Floats, spread: Floats, phase: int = 0) -> None:
        self._phase = phase % _BLOCK
        self.names = names
        self._centre = centre.astype(np.float64)
        self._spread = spread.astype(np.float64)
        width = len(names)
        self._mean: Floats = np.zeros(width)  # of the deviations, and of their squares, over so many ticks
        self._square: Floats = np.ones(width)
        self._ticks = 0.0
        self._statement = 0
        self._moments = Moments(width)
        self._weights = Weights.none(width)
        self._variance: Floats = np.ones((len(SQUARES), width))
        self._learned: Floats = np.zeros((len(SQUARES), width))  # ticks behind each variance
        self._changes: Floats = np.zeros(width)
        self._last: Floats = np.full(width, np.nan)
        self._prototypes = Prototypes(width)
        self._unfitted = 0.0  # rows learned since the last fit
        self._lags: Floats = np.zeros((LAGS, width))
        self._lags_known = 0
        self._late: Floats = np.zeros(width)
        self._squares: Floats = np.full((len(SQUARES), width), np.nan)
        self._run: list[Floats] = []  # consecutive levels that are not in the moments yet, and LAGS before them
        self._run_weights: list[float] = []  # what each of them counts; 0 where it is not sure to be normal
        self._due = 0
        self.forget_recent()

    @property
    def rows(self) -> float:
        """Normal ticks that are remembered."""
        return self._moments.rows

    def score(self, value: Floats, usable: Bools, fresh: Bools) -> tuple[GroupScore | None, Seen]:
        """Look at one tick: ``value``, ``usable`` and ``fresh`` [G] in the group's order."""
        self._changes += fresh & usable & np.isfinite(self._last) & (value != self._last)
        self._last = np.where(fresh & usable, value, self._last)
        raw = np.where(usable, np.clip((value - self._centre) / self._spread, -_WILD, _WILD), np.nan)
        deviation = np.clip(raw, -_LIMIT, _LIMIT)
        deviation = np.where(usable, deviation, np.nan if self._lags_known == LAGS else 0.0)
        score, residual = None, np.full((len(SQUARES), len(deviation)), np.nan, np.float32)
        if self._lags_known == LAGS:
            deviation, residual, squares, expected = self._compare(deviation, usable, fresh & usable)
        distance = self._prototypes.distance(np.clip(deviation, -_CLIP, _CLIP).astype(np.float32))
        if self._lags_known == LAGS:
            forecasts = self._centre + self._spread * expected
            score = GroupScore(squares, forecasts, None if distance is None else np.where(usable, distance, np.nan))
        self._lags = np.concatenate((deviation[None], self._lags[:-1]))
        self._lags_known = min(self._lags_known + 1, LAGS)
        return score, Seen(raw, deviation, residual, self._prototypes.state, self._statement)

    def relation(self, place: int) -> tuple[Floats, Floats]:
        """How much each sensor weighs in the relation of the one at ``place`` [G], and how far it moves it now [G].

        The latter in the unit of the one at ``place``, as at the tick scored last.
        """
        near = RELATED_LAGS + 1
        weights = self._weights.relation[:-1, place].reshape(near, len(self.names))
        pull = (weights * np.clip(self._lags[:near], -_CLIP, _CLIP)).sum(0)
        return np.abs(weights).sum(0), pull * self._spread[place]

    def learn(self, seen: Seen, remember: float, weight: float = 1.0) -> None:
        """Take in a tick that turned out to be normal, unless it is stated in what no longer holds.

        ``weight``: what it counts beside a tick of a known history, above 0 and up to 1.
        """
        if seen.statement != self._statement:
            self.interrupted()
            return
        self._learn_spreads(seen.residual, weight)
        if seen.state is not None:
            self._prototypes.learn(seen.state, remember, weight)
        self._learn_usual(seen.raw[None], remember, weight)
        self._append(seen.deviation, weight, remember)

    def pass_over(self, seen: Seen, remember: float) -> None:
        """A tick that is not sure to be normal: it only leads over to the next ones."""
        if seen.statement != self._statement:
            self.interrupted()
            return
        self._append(seen.deviation, 0.0, remember)

    def consolidate(self, remember: float) -> None:
        """Take in all that was learned, and fit."""
        self._learn_run(remember)
        self.fit()

    def learn_history(self, values: Floats, remember: float) -> None:
        """Take in a stretch of normal readings [T, G] at once, NaN where there were none."""
        raw = np.clip((values - self._centre) / self._spread, -_WILD, _WILD)
        if len(raw) > LAGS:
            self._learn_usual(raw, remember, 1.0)
            levels = np.clip(np.nan_to_num(raw), -_CLIP, _CLIP)
            self._moments.learn(levels, np.ones(len(levels) - LAGS), remember)
            self._unfitted += len(levels) - LAGS

    @property
    def wants_fit(self) -> bool:
        """True when enough was learned since the last fit."""
        return self._unfitted >= max(1.0, min(_GROWTH * self._moments.rows, _LARGEST_STEP))

    def fit(self) -> None:
        """Solve for the weights anew; where levels are no longer what is usual, state everything anew first."""
        shift = self._mean
        factor = np.sqrt(np.maximum(self._square - shift**2, 0.0))
        factor = np.where(factor > _STILL, factor, 1.0)
        if (np.abs(shift) > _MOVED).any() or (np.abs(np.log(factor)) > _MOVED).any():
            self._restate(shift, factor)
        self._weights = fit(self._moments)
        self._learned = np.minimum(self._learned, _SHORT_MEMORY + 0.25 * self._moments.rows)
        self._unfitted = 0.0

    def fade(self, rows: float) -> None:
        """What comes is to be learned quickly: the past counts as ``rows`` rows at most."""
        self._moments.fade(rows)
        self._ticks = min(self._ticks, rows)
        self._learned = np.minimum(self._learned, _SHORT_MEMORY)

    def interrupted(self) -> None:
        """What comes next does not follow on what was learned last."""
        self._run, self._run_weights = [], []
        self._due = LAGS + 1 + self._phase

    def forget_recent(self) -> None:
        """The stream was interrupted: lags and means begin anew, what was learned stays."""
        width = len(self.names)
        self._lags = np.zeros((LAGS, width))
        self._lags_known = 0
        self._late = np.zeros(width)
        self._squares = np.full((len(SQUARES), width), np.nan)
        self.interrupted()
        self._prototypes.forget_recent()

    def admit(self, names: tuple[str, ...], centre: Floats, spread: Floats) -> None:
        """Take in more sensors, of which nothing else is known yet."""
        more = len(names)
        self.names += names
        self._centre, self._spread = np.append(self._centre, centre), np.append(self._spread, spread)
        self._mean, self._square = np.append(self._mean, np.zeros(more)), np.append(self._square, np.ones(more))
        self._moments.extend(more)
        self._prototypes.extend(more)
        self._variance = np.append(self._variance, np.ones((len(SQUARES), more)), axis=1)
        self._learned = np.append(self._learned, np.zeros((len(SQUARES), more)), axis=1)
        self._changes, self._last = (
            np.append(self._changes, np.zeros(more)),
            np.append(self._last, np.full(more, np.nan)),
        )
        self._begin_anew()

    def keep(self, which: NDArray[np.int64]) -> None:
        """Forget all sensors but those at the positions ``which``."""
        self.names = tuple(self.names[place] for place in which)
        self._centre, self._spread = self._centre[which], self._spread[which]
        self._mean, self._square = self._mean[which], self._square[which]
        self._moments.keep(which)
        self._prototypes.keep(which)
        self._variance, self._learned = self._variance[:, which], self._learned[:, which]
        self._changes, self._last = self._changes[which], self._last[which]
        self._begin_anew()

    def export(self) -> dict[str, NDArray[Any]]:
        """Everything learned, for saving; the moments as the upper half of a symmetric matrix."""
        upper = np.triu_indices(len(self._moments.gram))
        return {
            "names": np.array(self.names, dtype=np.str_),
            "centre": self._centre.copy(),
            "spread": self._spread.copy(),
            "usual": np.stack((self._mean, self._square)),
            "rows": np.array(self._moments.rows),
            "gram": self._moments.gram[upper].astype(np.float32),
            "variance": self._variance.astype(np.float32),
            "learned": self._learned.astype(np.float32),
            "changes": self._changes.astype(np.float32),
            **self._prototypes.export(),
        }

    @classmethod
    def restored(cls, state: dict[str, NDArray[Any]], phase: int) -> Group:
        """A group from what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        names = names_in(state, "names", GROUP)
        count, size = len(names), (LAGS + 1) * len(names) + 1
        centre, spread = numbers_in(state, "centre", (count,)), numbers_in(state, "spread", (count,), least=_TINY)
        group = cls(names, centre, spread, phase)
        upper = np.triu_indices(size)
        half = np.zeros((size, size))
        half[upper] = numbers_in(state, "gram", upper[0].shape)
        group._moments.gram = half + half.T - np.diag(np.diag(half))
        group._moments.rows = group._ticks = float(numbers_in(state, "rows", (), least=1.0))
        group._mean, group._square = numbers_in(state, "usual", (2, count))
        group._variance = numbers_in(state, "variance", (len(SQUARES), count), least=0.0)
        group._prototypes.restore(state)
        group.fit()
        group._learned = numbers_in(state, "learned", (len(SQUARES), count), least=0.0)
        group._changes = numbers_in(state, "changes", (count,), least=0.0)
        return group

    def _compare(self, deviation: Floats, usable: Bools, fresh: Bools) -> tuple[Floats, Floats32, Floats, Floats]:
        """Deviations with what is missing filled in, residuals [4, G] to learn from, squares [4, G].

        And the deviations [3, G] that were expected.
        """
        expected, deviation = self._weights.estimate(deviation, self._lags, _CLIP)
        residual = np.empty((len(SQUARES), len(deviation)))
        residual[:3] = deviation - expected
        usual = np.sqrt(self._variance) + _SPREAD_FLOOR
        newest = np.clip(residual[1] / usual[1], -_LIMIT, _LIMIT)
        self._late = np.where(fresh, self._late + _PERSISTENCE * (newest - self._late), self._late)
        residual[3] = self._late
        square = np.minimum((residual / usual) ** 2, self._evidence())
        self._squares = np.where(usable, np.where(fresh, square, self._squares), np.nan)
        taught = np.where(fresh, residual, np.nan).astype(np.float32)
        return (
            np.clip(deviation, -_LIMIT, _LIMIT),
            taught,
            np.where(self._learned >= _SPREADS_KNOWN, self._squares, np.nan),
            expected,
        )

    def _evidence(self) -> Floats:
        """The largest square [G] that is believed: what happened once in n ticks has a squared deviation of 2 ln n.

        A pump that was switched twice so far has no usual movement that could make the third time a sensation.
        """
        return np.where(self._changes < _FEW_CHANGES, 2.0 * np.log(self._learned[0] + 2.0), _LARGEST)

    def _learn_usual(self, raw: Floats, remember: float, weight: float) -> None:
        """Take deviations [T, G] into their mean and mean square; NaN changes nothing."""
        known = np.isfinite(raw)
        gained = weight * len(raw)
        share = weight * known.sum(0) / min(self._ticks + gained, remember)
        self._ticks = min(self._ticks + gained, remember)
        total = np.maximum(known.sum(0), 1)
        filled = np.where(known, raw, 0.0)
        self._mean = self._mean + share * (filled.sum(0) / total - self._mean)
        self._square = self._square + share * ((filled**2).sum(0) / total - self._square)

    def _append(self, deviation: Floats, weight: float, remember: float) -> None:
        self._run.append(np.clip(deviation, -_CLIP, _CLIP))
        self._run_weights.append(weight)
        if len(self._run) >= self._due:
            self._learn_run(remember)

    def _learn_run(self, remember: float) -> None:
        if len(self._run) > LAGS:
            self._moments.learn(np.array(self._run), np.array(self._run_weights[LAGS:]), remember)
            self._unfitted += sum(self._run_weights[LAGS:])
            self._run, self._run_weights = self._run[-LAGS:], self._run_weights[-LAGS:]
            self._due = LAGS + _BLOCK

    def _learn_spreads(self, residual: Floats32, weight: float) -> None:
        there = np.isfinite(residual)
        square = np.where(there, residual.astype(np.float64) ** 2, 0.0)
        limited = np.where(self._learned > _SPREADS_KNOWN, np.minimum(square, _WINSOR * self._variance), square)
        gained = weight * there
        rate = gained / np.clip(self._learned + gained, 1e-9, _LONG_MEMORY)
        self._variance += rate * (limited - self._variance)
        self._learned += gained

    def _restate(self, shift: Floats, factor: Floats) -> None:
        self._statement += 1
        self._moments.restate(shift, factor)
        self._prototypes.restate(shift, factor)
        self._centre += shift * self._spread
        self._spread *= factor
        self._square = (self._square - 2.0 * shift * self._mean + shift**2) / factor**2
        self._mean = (self._mean - shift) / factor
        self._lags = np.clip((self._lags - shift) / factor, -_LIMIT, _LIMIT)
        self._run = [np.clip((level - shift) / factor, -_CLIP, _CLIP) for level in self._run]
        self._variance[:3] /= factor**2

    def _begin_anew(self) -> None:
        self._statement += 1
        self._weights = Weights.none(len(self.names))
        self.forget_recent()
        if self._moments.rows:
            self.fit()
