"""How well a model foretells normal readings, as one number that can be compared between models of a plant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def gaussian_likelihood(readings: Values, expected: Values, scale: Values, spread: Values) -> float:
    """Mean log density (nats per reading) of ``readings`` under a Gaussian around ``expected`` of deviation ``scale``.

    All [T, N] in the sensors' units, ``spread`` [N] too: densities are of readings in spreads, so that units do not
    matter. Missing readings and sensors without a spread do not count. -1.42 is what the mean and spread alone reach.

    :raises ValueError: no reading counts, or ``scale`` is not above 0.
    """
    counts = np.isfinite(readings) & np.isfinite(expected) & (spread > 0)
    if not counts.any():
        raise ValueError("no reading of a sensor that moves, expected some to measure the likelihood on")
    unit = np.broadcast_to(spread, readings.shape)[counts]
    deviation = np.broadcast_to(scale, readings.shape)[counts] / unit
    if not (deviation > 0).all():
        raise ValueError(f"scale: got {deviation.min() * unit[deviation.argmin()]:g}, expected numbers above 0")
    z = (readings - expected)[counts] / unit / deviation
    return float(np.mean(-0.5 * np.log(2 * np.pi) - np.log(deviation) - 0.5 * z**2))
