"""The kinds of faults. Each is a function of one stretch of clean readings; :data:`CATALOGUE` says what fits each.

Severities are in spreads (standard deviations of the sensor's normal readings) unless the catalogue says otherwise.
Kinds that cannot be made stronger (a frozen value is a frozen value) are placed where they change the readings by at
least ``severity`` spreads (root mean square over the stretch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edge_models.faults.habits import Flags, Habits, Values


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a fault is put: rows ``start`` to ``stop`` (exclusive) of ``values`` [T, N], which miss nothing.

    ``sensors``: K columns. ``earlier`` [M, N]: normal readings from before the stretch.
    """

    values: Values
    earlier: Values
    habits: Habits
    start: int
    stop: int
    sensors: tuple[int, ...]
    severity: float

    @property
    def ticks(self) -> int:
        return self.stop - self.start

    @property
    def clean(self) -> Values:
        """Readings without the fault [L, K]."""
        return self.values[self.start : self.stop, list(self.sensors)]

    @property
    def spread(self) -> Values:
        return self.habits.spread[list(self.sensors)]

    @property
    def change(self) -> Values:
        """Severity in the unit of each sensor [K]."""
        return self.severity * self.spread


Apply = Callable[[Stretch, np.random.Generator], Values]
"""Readings with the fault [L, K]; NaN where the fault loses them."""


def offset(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A constant is added, in one direction for all sensors of the fault."""
    return stretch.clean + _sign(generator) * stretch.change


def drift(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A ramp that reaches the severity at the last tick."""
    ramp = np.arange(1, stretch.ticks + 1)[:, None] / stretch.ticks
    return stretch.clean + _sign(generator) * ramp * stretch.change


def stuck(stretch: Stretch, _generator: np.random.Generator) -> Values:
    """The last reading before the fault stays."""
    last = stretch.values[stretch.start - 1, list(stretch.sensors)]
    return np.tile(last, (stretch.ticks, 1))


def noise(stretch: Stretch, generator: np.random.Generator) -> Values:
    """White Gaussian noise of this standard deviation is added."""
    return stretch.clean + generator.normal(size=stretch.clean.shape) * stretch.change


def gain(stretch: Stretch, generator: np.random.Generator) -> Values:
    """Deviations from the usual mean grow or shrink by the factor 1 + severity."""
    mean = stretch.habits.mean[list(stretch.sensors)]
    return np.asarray(mean + (1.0 + stretch.severity) ** _sign(generator) * (stretch.clean - mean), np.float64)


def delay(stretch: Stretch, _generator: np.random.Generator) -> Values:
    """Readings arrive late, by the lag over which the sensor usually changes by the severity."""
    return _late(stretch, np.full(stretch.ticks, _lag(stretch)))


def time_warp(stretch: Stretch, _generator: np.random.Generator) -> Values:
    """The sensor's clock runs slow: a lag grows evenly from 0 to that of :func:`delay`."""
    return _late(stretch, np.ceil(np.arange(1, stretch.ticks + 1) / stretch.ticks * _lag(stretch)).astype(np.int64))


def replay(stretch: Stretch, generator: np.random.Generator) -> Values:
    """The sensor's own earlier normal readings, from a place drawn evenly."""
    source = int(generator.integers(len(stretch.earlier) - stretch.ticks + 1))
    return stretch.earlier[source : source + stretch.ticks, list(stretch.sensors)]


def swap(stretch: Stretch, _generator: np.random.Generator) -> Values:
    """Two sensors are exchanged, each brought to the other's mean and spread.

    As they are, two sensors of different levels would be a bias, which is another kind.
    """
    mean = stretch.habits.mean[list(stretch.sensors)]
    z = (stretch.clean - mean) / stretch.spread
    return np.asarray(mean + z[:, ::-1] * stretch.spread, np.float64)


def dropout(stretch: Stretch, generator: np.random.Generator) -> Values:
    """Readings are lost in runs; the severity is the share that is lost."""
    lost = _on(stretch.ticks, stretch.severity, generator)
    return np.asarray(np.where(lost[:, None], np.nan, stretch.clean), np.float64)


def clipping(stretch: Stretch, generator: np.random.Generator) -> Values:
    """The range ends so many spreads before the extreme of the stretch, though not beyond its median."""
    sign = _sign(generator)
    upward = sign * stretch.clean
    limit = np.maximum(upward.max(0) - stretch.change, np.median(upward, axis=0))
    return np.asarray(sign * np.minimum(upward, limit), np.float64)


def oscillation(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A sine of this amplitude is added; its period is 5 to 20 ticks."""
    angle = 2 * np.pi * np.arange(stretch.ticks) / generator.uniform(5.0, 20.0) + generator.uniform(0.0, 2 * np.pi)
    return np.asarray(stretch.clean + np.sin(angle)[:, None] * stretch.change, np.float64)


def quantisation(stretch: Stretch, _generator: np.random.Generator) -> Values:
    """Readings are rounded to multiples of the severity."""
    return np.asarray(np.round(stretch.clean / stretch.change) * stretch.change, np.float64)


def decorrelation(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A surrogate of about the same spectrum, made of the very readings of the stretch in another order.

    Random phases, then ranks (Theiler et al. 1992, "Testing for nonlinearity in time series"); one pass, without the
    iteration that would bring the spectrum closer.
    """
    spectrum = np.fft.rfft(stretch.clean - stretch.clean.mean(0), axis=0)
    phase = generator.uniform(0.0, 2 * np.pi, spectrum.shape)
    surrogate = np.fft.irfft(np.abs(spectrum) * np.exp(1j * phase), stretch.ticks, axis=0)
    rank = surrogate.argsort(0, kind="stable").argsort(0, kind="stable")
    return np.take_along_axis(np.sort(stretch.clean, axis=0), rank, axis=0)


def intermittent(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A bias that comes and goes, present in half of the ticks."""
    present = _on(stretch.ticks, 0.5, generator)
    return stretch.clean + _sign(generator) * present[:, None] * stretch.change


def stealthy(stretch: Stretch, generator: np.random.Generator) -> Values:
    """A creep without a kink to the severity, over a stretch four times as long, held within the usual range."""
    ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, stretch.ticks + 1) / stretch.ticks)
    crept = stretch.clean + _sign(generator) * ramp[:, None] * stretch.change
    low = np.minimum(stretch.habits.low[list(stretch.sensors)], stretch.clean)
    high = np.maximum(stretch.habits.high[list(stretch.sensors)], stretch.clean)
    return np.clip(crept, low, high)


class Needs(Enum):
    """Which sensors a kind is visible on."""

    HEARD = "any sensor that has values"
    MOVING = "sensors that move"
    RELATED = "sensors that move with another one (correlation above 0.6)"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is put in. Severities are drawn from ``severity`` so that their logarithm is uniform.

    ``group`` sensors at a time, or ``share`` of the eligible ones where that is more. ``ticks``: length, where the
    caller's does not apply; ``longer`` multiplies the caller's. ``least``: the severity is the least change that is
    asked of the place. ``relation_only``: every reading is plausible by itself. ``most``: the largest severity that
    means anything.
    """

    apply: Apply
    severity: tuple[float, float]
    needs: Needs = Needs.MOVING
    group: int = 1
    share: float = 0.0
    ticks: tuple[int, int] | None = None
    longer: int = 1
    least: bool = False
    relation_only: bool = False
    most: float = np.inf
    unit: str = "spreads"


CATALOGUE: dict[str, Kind] = {
    "spike": Kind(offset, (2.0, 6.0), ticks=(1, 4)),
    "bias": Kind(offset, (1.0, 3.0)),
    "drift": Kind(drift, (2.0, 6.0)),
    "stuck": Kind(stuck, (0.5, 1.5), least=True),
    "noise": Kind(noise, (0.5, 2.0)),
    "gain": Kind(gain, (1.0, 4.0)),
    "delay": Kind(delay, (0.7, 1.5), Needs.RELATED, relation_only=True),
    "replay": Kind(replay, (0.5, 1.0), Needs.RELATED, least=True, relation_only=True),
    "swap": Kind(swap, (0.3, 1.0), Needs.RELATED, group=2, least=True, relation_only=True),
    "dropout": Kind(dropout, (0.3, 0.9), Needs.HEARD, most=1.0, unit="share of readings lost"),
    "clipping": Kind(clipping, (1.0, 4.0)),
    "oscillation": Kind(oscillation, (0.5, 2.0)),
    "time_warp": Kind(time_warp, (1.0, 2.0), Needs.RELATED, relation_only=True),
    "quantisation": Kind(quantisation, (1.0, 4.0)),
    "common_shift": Kind(offset, (0.3, 1.0), group=2, share=0.25),
    "decorrelation": Kind(decorrelation, (0.5, 1.0), Needs.RELATED, least=True, relation_only=True),
    "intermittent": Kind(intermittent, (1.0, 3.0)),
    "stealthy": Kind(stealthy, (1.0, 3.0), longer=4),
}
KINDS: tuple[str, ...] = tuple(CATALOGUE)
RELATION_ONLY: tuple[str, ...] = tuple(name for name, kind in CATALOGUE.items() if kind.relation_only)
"""Kinds that leave every reading plausible by itself: only a look at several sensors, or at the edges, finds them."""
SEVERITIES: dict[str, tuple[float, float]] = {name: kind.severity for name, kind in CATALOGUE.items()}
"""Smallest and largest severity that is drawn for each kind."""


def _sign(generator: np.random.Generator) -> float:
    return float(generator.choice((-1.0, 1.0)))


def _lag(stretch: Stretch) -> int:
    (sensor,) = stretch.sensors
    return stretch.habits.lag(sensor, float(stretch.change[0]), stretch.start)


def _late(stretch: Stretch, lag: NDArray[np.int64]) -> Values:
    rows = np.arange(stretch.start, stretch.stop) - lag
    return np.asarray(stretch.values[rows][:, list(stretch.sensors)], np.float64)


def _on(ticks: int, share: float, generator: np.random.Generator) -> Flags:
    """Runs of 3 to 8 ticks that are on, with pauses between them so that this share is; begins with on."""
    on = np.zeros(ticks, np.bool_)
    tick = 0
    while tick < ticks:
        run = int(generator.integers(3, 9))
        on[tick : tick + run] = True
        tick += run + round(run * (1.0 - share) / share)
    return on
