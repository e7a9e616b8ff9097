"""Plants that do not exist, so that the universal model has seen more than the few whose recordings are free.

Hidden causes (wandering, periodic, set points, pulses) act on the sensors with delays, some of them through a curve,
and with noise of many kinds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def random_plant(generator: np.random.Generator, ticks: int = 6_000) -> Values:
    """Normal readings [ticks, N] of a plant with 6 to 29 sensors; the same generator state gives the same."""
    sensors, causes = int(generator.integers(6, 30)), int(generator.integers(2, 6))
    made = np.stack([_CAUSES[generator.integers(len(_CAUSES))](generator, ticks) for _ in range(causes)], 1)
    values = made @ (generator.normal(size=(causes, sensors)) * (generator.random((causes, sensors)) < 0.6))
    curved = generator.random(sensors) < 0.3
    values[:, curved] = 2.0 * np.tanh(values[:, curved]) + 0.3 * values[:, curved] ** 2
    for sensor in range(sensors):
        delay = int(generator.integers(0, 4))
        values[delay:, sensor] = values[: ticks - delay, sensor].copy()
        values[:, sensor] += _noise(generator, ticks, made[:, 0])
        if generator.random() < 0.1:
            values[:, sensor] = np.round(values[:, sensor])
    return values


def _noise(generator: np.random.Generator, ticks: int, cause: Values) -> Values:
    spread = np.exp(generator.uniform(np.log(0.02), np.log(0.8)))
    noise = generator.standard_t(3, ticks) if generator.random() < 0.3 else generator.normal(size=ticks)
    if generator.random() < 0.2:
        noise = noise * (1.0 + 2.0 * (np.abs(cause) > 1.0))
    memory = generator.choice((0.0, 0.0, 0.5, 0.9))
    return np.asarray(spread * _remembering(np.sqrt(1.0 - memory**2) * noise, memory), np.float64)


def _wandering(generator: np.random.Generator, ticks: int) -> Values:
    memory = generator.uniform(0.8, 0.998)
    return _remembering(np.sqrt(1.0 - memory**2) * generator.normal(size=ticks), memory)


def _periodic(generator: np.random.Generator, ticks: int) -> Values:
    phase = 2.0 * np.pi * np.arange(ticks) / generator.uniform(20.0, 800.0) + generator.uniform(0.0, 6.0)
    return np.asarray(1.4 * np.sin(phase) + 0.2 * generator.normal(size=ticks), np.float64)


def _set_points(generator: np.random.Generator, ticks: int) -> Values:
    usual = generator.uniform(40.0, 400.0)
    lengths = 5 + generator.exponential(usual, ticks // 5).astype(np.int64)
    wanted = np.repeat(generator.normal(size=len(lengths)), lengths)[:ticks]
    return _followed(wanted, generator.uniform(0.5, 0.97))


def _pulses(generator: np.random.Generator, ticks: int) -> Values:
    switched = generator.random(ticks) < generator.uniform(0.005, 0.05)
    position = (np.cumsum(switched) % 2).astype(np.float64)
    return _followed(2.0 * position - 1.0, generator.uniform(0.0, 0.9))


def _followed(wanted: Values, memory: float) -> Values:
    return _remembering((1.0 - memory) * wanted, memory)


def _remembering(given: Values, memory: float) -> Values:
    """First-order recursion ``y[t] = memory * y[t - 1] + given[t]``."""
    found = np.empty_like(given)
    last = 0.0
    for tick, value in enumerate(given):
        last = memory * last + value
        found[tick] = last
    return found


_CAUSES = (_wandering, _periodic, _set_points, _pulses)
