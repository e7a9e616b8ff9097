"""Has a sensor been put into another unit? Told from medians and spreads alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_models.histories.block import Values

_CONVERSIONS: tuple[tuple[str, float, float], ...] = (
    *((f"{factor:,.0f} times that", factor, 0.0) for factor in (10.0, 100.0, 1e3, 1e6)),
    *((f"1/{factor:,.0f} of that", 1.0 / factor, 0.0) for factor in (10.0, 100.0, 1e3, 1e6)),
    ("60 times that (minutes to seconds)", 60.0, 0.0),
    ("1/60 of that (seconds to minutes)", 1.0 / 60.0, 0.0),
    ("3,600 times that (hours to seconds)", 3600.0, 0.0),
    ("1/3,600 of that (seconds to hours)", 1.0 / 3600.0, 0.0),
    ("degrees Fahrenheit of the degrees Celsius", 1.8, 32.0),
    ("degrees Celsius of the degrees Fahrenheit", 1.0 / 1.8, -32.0 / 1.8),
    ("kelvins of the degrees Celsius", 1.0, 273.15),
    ("degrees Celsius of the kelvins", 1.0, -273.15),
    ("14.5 times that (bar to psi)", 14.5038, 0.0),
    ("1/14.5 of that (psi to bar)", 1.0 / 14.5038, 0.0),
    ("6.89 times that (psi to kPa)", 6.89476, 0.0),
    ("1/6.89 of that (kPa to psi)", 1.0 / 6.89476, 0.0),
    ("25.4 times that (inches to mm)", 25.4, 0.0),
    ("1/25.4 of that (mm to inches)", 1.0 / 25.4, 0.0),
)
_LEAST_KNOWN = 32
_FAR_SPREADS = 5.0
_OTHER_SPREAD = 5.0
_LOOSE = (1.5, math.log(1.6))
"""How far median (in spreads) and spread (as a ratio) may be off for a conversion that load can hardly imitate."""
_TIGHT = (0.5, math.log(1.15))
"""For a mere factor of some tens: a plant under more load has larger medians and spreads, too."""
_LARGE = 50.0
_NORMAL_IQR = 1.349


@dataclass(frozen=True, slots=True)
class ScaleChange:
    """Robust level and spread of a sensor in two histories, and the known conversion between them, if one fits."""

    conversion: str | None
    train_median: float
    train_spread: float
    test_median: float
    test_spread: float


def scale_changes(train: Values, test: Values) -> ScaleChange | None:
    """Compare samples of one sensor; None where they look alike, or too little is known.

    Far is a median five spreads away, or a spread five times as large or small.
    """
    train, test = train[np.isfinite(train)], test[np.isfinite(test)]
    if len(train) < _LEAST_KNOWN or len(test) < _LEAST_KNOWN:
        return None
    (m1, s1), (m2, s2) = _robust(train), _robust(test)
    if s1 == 0.0 or s2 == 0.0:  # at rest most of the time: its moves say nothing about units
        return None
    far = abs(m2 - m1) > _FAR_SPREADS * max(s1, s2) or not 1.0 / _OTHER_SPREAD < s2 / s1 < _OTHER_SPREAD
    if not far:
        return None
    fitting = []
    for name, a, b in _CONVERSIONS:
        level, spread = abs(m2 - a * m1 - b) / (a * s1), abs(math.log(s2 / (a * s1)))
        most = _LOOSE if b or not 1.0 / _LARGE < a < _LARGE else _TIGHT
        if level <= most[0] and spread <= most[1]:
            fitting.append((level + spread, name))
    return ScaleChange(min(fitting)[1] if fitting else None, m1, s1, m2, s2)


def _robust(values: Values) -> tuple[float, float]:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    spread = (high - low) / _NORMAL_IQR
    return float(median), float(spread)
