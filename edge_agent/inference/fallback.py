"""The detector that needs no model: robust exponential smoothing of each sensor by itself.

After S. Gelper, R. Fried, C. Croux, "Robust forecasting with exponential and Holt-Winters smoothing", Journal of
Forecasting 29 (2010): the residual is limited by Huber's function before it moves the mean, and the scale is updated
through the bounded biweight function, so that a spike moves neither. Applied to the value and to its change from one
reading to the next; the score is the larger of both deviations. One addition for valves and pumps, which stand still
and then switch: a quarter of the largest change of late counts as usual, so that switching is news only at first.
It finds spikes and jumps but knows nothing of other sensors, which is why its findings are flagged as degraded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from edge_agent.graph.snapshot import Snapshot
from edge_agent.inference.alignment import State, carry_rows, fit_neighbours, pack_state, source_rows, unpack_state
from edge_agent.verdict import Scores

_HUBER = 2.0
_BIWEIGHT = 2.52  # Makes the scale of Gaussian residuals come out right for a limit of 2 (section 3 of the paper).
_MEAN_FORGETTING = 0.01
_SCALE_FORGETTING = 0.03  # Faster than the mean: a sensor that begins to move must not cry out for an hour.
_LEARNING_TICKS = 30
_RELATIVE_FLOOR = 1e-4
_ABSOLUTE_FLOOR = 1e-9
_PEAK_KEPT = 0.9995
_PEAK_SHARE = 0.25
_MAX_VALUE = 1e15
_MAX_SCORE = 1e3

F64 = NDArray[np.float64]


@dataclass(slots=True)
class _Smoother:
    """Robust mean and scale of one quantity per sensor, in place."""

    mean: F64
    variance: F64

    def deviation(self, value: F64, floor: F64) -> tuple[F64, F64]:
        """Residual in units of the scale, and that scale."""
        scale = np.maximum(np.sqrt(self.variance), floor)
        return (value - self.mean) / scale, scale

    def learn(self, value: F64, count: NDArray[np.int64], which: NDArray[np.bool_], floor: F64) -> None:
        """Move on by one reading of the sensors in ``which``; ``count`` is how many there were before."""
        start = 1.0 / (count + 1.0)
        mean_gain, scale_gain = np.maximum(_MEAN_FORGETTING, start), np.maximum(_SCALE_FORGETTING, start)
        ratio, scale = self.deviation(value, floor)
        learning = count < _LEARNING_TICKS
        limited = np.where(learning, value - self.mean, np.clip(ratio, -_HUBER, _HUBER) * scale)
        square = np.where(learning, (1.0 - start) * (value - self.mean) ** 2, _biweight(ratio) * scale**2)
        self.mean = np.where(which, self.mean + mean_gain * limited, self.mean)
        self.variance = np.where(which, self.variance + scale_gain * (square - self.variance), self.variance)


def _biweight(ratio: F64) -> F64:
    inside = np.minimum((ratio / _HUBER) ** 2, 1.0)
    return _BIWEIGHT * (1.0 - (1.0 - inside) ** 3)


@dataclass(slots=True)
class _Columns:
    """What is carried per sensor: six numbers and a count."""

    level: F64
    level_variance: F64
    change: F64
    change_variance: F64
    peak_change: F64
    last: F64
    count: NDArray[np.int64]

    @classmethod
    def empty(cls, sensors: int) -> _Columns:
        level, level_variance, change, change_variance, peak_change, last = np.zeros((6, sensors))
        count = np.zeros(sensors, np.int64)
        return cls(level, level_variance, change, change_variance, peak_change, last, count)

    def carried(self, rows: NDArray[np.int64]) -> _Columns:
        return _Columns(**{name: carry_rows(array, rows, 0) for name, array in self.named().items()})

    def named(self) -> State:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class StatisticalDetector:
    """Fallback when no model can run; see :class:`~edge_agent.inference.detector.Detector`.

    Carries 56 bytes a sensor. ``expected`` is the sensor's own smoothed level; attention is 0.
    """

    name = "statistical"
    version = "1"
    degraded = True

    def __init__(self, neighbours: int = 10, warmup_ticks: int = 60) -> None:
        self.neighbours = neighbours
        self.warmup_ticks = warmup_ticks
        self._sensors: tuple[str, ...] = ()
        self._topology: int | None = None
        self._state = _Columns.empty(0)

    def score(self, snapshot: Snapshot) -> Scores:
        """Score the tick and learn from it. Only fresh readings count towards the warm-up."""
        if snapshot.topology != self._topology or snapshot.sensors is not self._sensors:
            self._follow(snapshot)
        usable = snapshot.usable & np.isfinite(snapshot.value)
        fresh = usable & (snapshot.age == 0)
        value = np.clip(np.where(usable, snapshot.value, self._state.last), -_MAX_VALUE, _MAX_VALUE)
        score, scale = self._judge(value, fresh)
        expected = self._state.level.astype(np.float32)
        self._learn(value, fresh)
        valid = usable & (self._state.count > self.warmup_ticks)
        return Scores(
            score=np.where(valid, score, 0.0).astype(np.float32),
            expected=expected,
            scale=scale.astype(np.float32),
            valid=valid,
            neighbour=self._neighbour,
            attention=np.zeros(self._neighbour.shape, np.float32),
        )

    def reset(self) -> None:
        """Forget all sensors' histories; every sensor warms up again."""
        self._state = _Columns.empty(len(self._sensors))

    def export_state(self) -> State:
        """The carried state as copies."""
        return pack_state(self._identity, self._sensors, self._state.named())

    def import_state(self, state: State) -> bool:
        """Take over an exported state; False, and nothing changed, unless this version of it exported it."""
        sensors = unpack_state(state, self._identity, _Columns.empty(0).named())
        if sensors is None:
            return False
        self._state = _Columns(**{name: state[name].copy() for name in self._state.named()})
        self._sensors, self._topology = sensors, None
        return True

    @property
    def _identity(self) -> str:
        return f"{self.name} {self.version}"

    def _follow(self, snapshot: Snapshot) -> None:
        self._state = self._state.carried(source_rows(self._sensors, snapshot.sensors))
        self._neighbour = fit_neighbours(snapshot.neighbour, self.neighbours)
        self._neighbour.flags.writeable = False
        self._sensors = snapshot.sensors
        self._topology = snapshot.topology

    def _floor(self) -> F64:
        """Smallest scale: a sensor that never moved must not cry out at its last digit."""
        return np.maximum(np.abs(self._state.level) * _RELATIVE_FLOOR, _ABSOLUTE_FLOOR)

    def _judge(self, value: F64, fresh: NDArray[np.bool_]) -> tuple[F64, F64]:
        state, floor = self._state, self._floor()
        level, scale = _Smoother(state.level, state.level_variance).deviation(value, floor)
        usual = np.maximum(floor, _PEAK_SHARE * state.peak_change)
        change, _ = _Smoother(state.change, state.change_variance).deviation(value - state.last, usual)
        score = np.maximum(np.abs(level), np.where(fresh, np.abs(change), 0.0))
        return np.minimum(score, _MAX_SCORE), scale

    def _learn(self, value: F64, fresh: NDArray[np.bool_]) -> None:
        state, floor, step = self._state, self._floor(), value - self._state.last
        changed = fresh & (state.count > 0)  # The first reading has nothing to have changed from.
        level = _Smoother(state.level, state.level_variance)
        change = _Smoother(state.change, state.change_variance)
        level.learn(value, state.count, fresh, floor)
        change.learn(step, np.maximum(state.count - 1, 0), changed, floor)
        # One spike must not make the sensor blind: the peak at most doubles, unless the level moves as far by habit.
        limit = np.maximum(2.0 * state.peak_change, 4.0 * np.maximum(np.sqrt(state.level_variance), floor))
        peak = np.maximum(_PEAK_KEPT * state.peak_change, np.minimum(np.abs(step), limit))
        self._state = _Columns(
            level=level.mean,
            level_variance=level.variance,
            change=change.mean,
            change_variance=change.variance,
            peak_change=np.where(changed, peak, state.peak_change),
            last=np.where(fresh, value, state.last),
            count=state.count + fresh,
        )
