"""Replay faults put into normal recordings: a sensor repeats its own earlier readings for a while.

Each reading is plausible by itself; only the relation to other sensors is broken. It is what an attacker does,
published recordings hardly hold it, and detectors that look at one sensor at a time cannot see it.
"""

from __future__ import annotations

import numpy as np

from edge_models.datasets import Entity, LabelledRun, Values

_RELATED = 0.6
_FIRST = 100
_LENGTHS = (24, 60)
_GAPS = (150, 300)


def with_replays(name: str, sensors: tuple[str, ...], normal: Values, test: Values, seed: int) -> Entity:
    """``test`` [T, N] with episodes of 24 to 59 ticks taken from ``normal``, one sensor at a time.

    Sensors that move with another one (correlation above 0.6) only: where nothing is related, nothing can be seen.
    """
    generator = np.random.default_rng(seed)
    eligible = np.flatnonzero(_relation(normal) > _RELATED)
    values, label = test.copy(), np.zeros(len(test), np.int8)
    tick = _FIRST
    while len(eligible) and tick < len(test) - _LENGTHS[1]:
        length = int(generator.integers(*_LENGTHS))
        sensor = int(generator.choice(eligible))
        source = int(generator.integers(len(normal) - length))
        values[tick : tick + length, sensor] = normal[source : source + length, sensor]
        label[tick : tick + length] = 1
        tick += int(generator.integers(*_GAPS))
    return Entity(name, sensors, normal, (LabelledRun("replay", values, label),))


def _relation(values: Values) -> Values:
    """Largest absolute correlation of each sensor with another one; 0 for one that hardly moves."""
    centred = values - values.mean(0)
    deviation = centred.std(0)
    alive = deviation > 1e-3 * np.abs(values).max(0)
    z = np.where(alive, centred / np.where(alive, deviation, 1.0), 0.0)
    correlation = np.abs(z.T @ z) / len(z)
    np.fill_diagonal(correlation, 0.0)
    return np.asarray(correlation.max(1), np.float64)
