"""One group of related sensors: what its experts and prototypes have learned of how they hang together.

What concerns each sensor by itself is in :mod:`edge_agent.companions.groups`, for the sensors of all groups at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.admission import GROUP
from edge_agent.companions.experts import Weights, own_history, relation, shared_history
from edge_agent.companions.moments import LAGS, Moments
from edge_agent.companions.prototypes import Prototypes
from edge_agent.companions.saved import names_in, numbers_in

CLIP = 5.0
"""Limit of deviations in all that is learned, of others' deviations, and in what is compared with prototypes."""
_GROWTH = 0.2  # share of the rows known that is new at the next fit
_LARGEST_STEP = 2_000.0  # rows between fits in the long run
_BLOCK, _LONG_BLOCK = 16, 64  # rows that are learned at once: in the beginning, in the long run

Floats = NDArray[np.float64]


class Group:
    """Sensors ``names`` (G).

    ``phase``: groups of different phase learn their rows on different ticks, so that no tick has to wait for all.
    """

    def __init__(self, names: tuple[str, ...], phase: int = 0) -> None:
        self.names = names
        self.place = slice(0, len(names))
        """Where its sensors are among those of all groups."""
        self.statement = 0
        """Grows when its sensors change, and when their levels are stated in another centre and spread."""
        self.weights = Weights.none(len(names))
        self.prototypes = Prototypes(len(names))
        self._moments = Moments(len(names))
        self._phase = phase % _BLOCK
        self.unfitted = 0.0
        """Rows learned since the last fit."""
        self._unsolved: list[str] = []  # experts that are still to be fitted
        self._run: list[Floats] = []  # consecutive levels that are not in the moments yet, and LAGS before them
        self._run_weights: list[float] = []  # what each of them counts; 0 where it is not sure to be normal
        self._due = 0
        self.interrupted()

    @property
    def rows(self) -> float:
        """Normal ticks that are remembered."""
        return self._moments.rows

    # -- learning ----------------------------------------------------------------------------------------------

    def append(self, level: Floats, weight: float, remember: float) -> None:
        """Take in the levels [G] of the next tick. ``weight`` 0: not sure to be normal, it leads over to the next."""
        self._run.append(level)
        self._run_weights.append(weight)
        if len(self._run) >= self._due:
            self.learn_run(remember)

    def learn_run(self, remember: float) -> None:
        """Take all that was appended into the moments."""
        if len(self._run) > LAGS:
            self.learn_history(np.array(self._run), np.array(self._run_weights[LAGS:]), remember)
            self._run, self._run_weights = self._run[-LAGS:], self._run_weights[-LAGS:]
            # Sooner than half-way to the next fit nobody would notice.
            self._due = LAGS + min(max(_BLOCK, int(0.5 * _GROWTH * self.rows)), _LONG_BLOCK)

    def learn_history(self, levels: Floats, weight: Floats, remember: float) -> None:
        """Take consecutive ``levels`` [LAGS + T, G] into the moments; ``weight`` [T]."""
        self._moments.learn(levels, weight, remember)
        self.unfitted += sum(weight.tolist())

    def interrupted(self) -> None:
        """What comes next does not follow on what was learned last."""
        self._run, self._run_weights = [], []
        self._due = LAGS + 1 + self._phase

    def fade(self, rows: float) -> None:
        """What comes is to be learned quickly: the past counts as ``rows`` rows at most."""
        self._moments.fade(rows)

    # -- fitting: one expert at a time, so that no tick has to wait for all ----------------------------------------

    @property
    def wants_fit(self) -> bool:
        """True when enough was learned since the last fit."""
        return self.unfitted >= max(1.0, min(_GROWTH * self._moments.rows, _LARGEST_STEP))

    def hurry(self) -> None:
        """Something was learned that should not wait for the next fit."""
        self.unfitted = max(self.unfitted, _LARGEST_STEP)

    @property
    def fitting(self) -> bool:
        """True while experts are still to be fitted."""
        return bool(self._unsolved)

    def begin_fit(self) -> None:
        """All experts are to be fitted anew."""
        self.unfitted = 0.0
        self._unsolved = ["own", "shared", "relation"]

    def fit_next(self) -> None:
        """Fit one of those that are still to be fitted."""
        expert = self._unsolved.pop(0)
        solve = {"own": own_history, "shared": shared_history, "relation": relation}[expert]
        self.weights = replace(self.weights, **{expert: solve(self._moments)})

    def restate(self, shift: Floats, factor: Floats) -> None:
        """As if all levels had been ``(level - shift) / factor``."""
        self.statement += 1
        self._moments.restate(shift, factor)
        self.prototypes.restate(shift, factor)
        self.weights = self.weights.restated(shift, factor)
        self._run = [np.clip((level - shift) / factor, -CLIP, CLIP) for level in self._run]

    # -- sensors -----------------------------------------------------------------------------------------------

    def extend(self, names: tuple[str, ...]) -> None:
        """Take in more sensors, of which nothing is known yet."""
        self.names += names
        self._moments.extend(len(names))
        self.prototypes.extend(len(names))
        self._begin_anew()

    def keep(self, which: NDArray[np.int64]) -> None:
        """Forget all sensors but those at the positions ``which``."""
        self.names = tuple(self.names[place] for place in which)
        self._moments.keep(which)
        self.prototypes.keep(which)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.statement += 1
        self.weights = Weights.none(len(self.names))
        self._unsolved = []
        self.interrupted()

    # -- saving ------------------------------------------------------------------------------------------------

    def export(self) -> dict[str, NDArray[Any]]:
        """Everything learned, for saving; the moments as the upper half of a symmetric matrix."""
        upper = np.triu_indices(len(self._moments.gram))
        return {
            "names": np.array(self.names, dtype=np.str_),
            "rows": np.array(self._moments.rows),
            "gram": self._moments.gram[upper].astype(np.float32),
            **self.prototypes.export(),
        }

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]], phase: int) -> Group:
        """A group from what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        names = names_in(state, "names", GROUP)
        size = (LAGS + 1) * len(names) + 1
        group = cls(names, phase)
        upper = np.triu_indices(size)
        half = np.zeros((size, size))
        half[upper] = numbers_in(state, "gram", upper[0].shape)
        group._moments.gram = half + half.T - np.diag(np.diag(half))
        group._moments.rows = float(numbers_in(state, "rows", (), least=1.0))
        group.prototypes.restore(state)
        return group
