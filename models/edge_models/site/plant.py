"""What is known of a plant before the network is trained: its sensors, their neighbours, and their constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_models.neighbours import choose_neighbours, partial_correlations
from edge_models.site.sample import Values
from edge_models.state import CONTEXT, CONTEXT_WIDTH, EXPERTS, MEMORY, NEIGHBOURS, VIEWS, State

_LEAST_HEARD = 32
_WINSOR = 4.0
_NORMAL_IQR = 1.349


@dataclass(frozen=True, slots=True)
class Plant:
    """The sensors, their neighbours [N, K], and how strongly any two are related [N, N]."""

    sensors: tuple[str, ...]
    neighbour: NDArray[np.int64]
    strength: Values

    @classmethod
    def of(cls, sensors: tuple[str, ...], training: Sequence[Values], declared: Sequence[tuple[int, int]]) -> Plant:
        """Neighbours from the partial correlations of ``training``, ``declared`` ones first."""
        strength = partial_correlations(_winsorised(np.concatenate([_held(part) for part in training])))
        return cls(sensors, choose_neighbours(strength, NEIGHBOURS, declared), strength)

    def context(self, state: State) -> NDArray[np.float32]:
        """Context rows from what the experts have learned; 0 where a sensor was hardly ever heard."""
        memory = dict(zip(MEMORY, state.memory.numpy().T, strict=True))
        rows = np.zeros((len(self.sensors), CONTEXT_WIDTH), np.float32)
        rows[:, CONTEXT.known] = 1.0
        rows[:, CONTEXT.level] = memory["anchor"] + memory["mean"]
        rows[:, CONTEXT.deviation] = np.sqrt(memory["variance"])
        rows[:, CONTEXT.spreads] = np.sqrt(state.memory[:, -(EXPERTS + VIEWS) :].numpy())
        rows[:, CONTEXT.identity] = np.arange(1, len(rows) + 1)
        rows[:, CONTEXT.peers] = self.neighbour + 1
        rows[:, CONTEXT.weights] = state.weight.numpy().reshape(len(rows), -1)
        rows[memory["heard"] < _LEAST_HEARD] = 0.0
        return rows


def _held(values: Values) -> Values:
    """Missing readings replaced by the last one of the sensor, as the gateway holds it; NaN before the first."""
    row = np.where(np.isfinite(values), np.arange(len(values))[:, None], 0)
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(row, axis=0), 0))


def _winsorised(values: Values) -> Values:
    """Readings pulled in to a few robust spreads of their sensor, so that faults in a history relate nothing.

    Sensors at rest most of the time have no robust spread, and are left as they are.
    """
    known = ~np.isnan(values).all(0)
    values = values.copy()
    low, median, high = np.nanquantile(values[:, known], (0.25, 0.5, 0.75), axis=0)
    reach = np.where(high > low, _WINSOR * (high - low) / _NORMAL_IQR, np.inf)
    values[:, known] = np.clip(values[:, known], median - reach, median + reach)
    return values
