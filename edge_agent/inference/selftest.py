"""The trial of a bundle before it goes live: does its model compute here what it computed where it was made?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle.verify import INPUTS, OUTPUTS, Bundle, Golden
from edge_agent.errors import BundleError
from edge_agent.inference.detector import DetectorError
from edge_agent.inference.step import MAX_AGE, MAX_VALUE, ModelStep

ABSOLUTE_TOLERANCE = 1e-3
RELATIVE_TOLERANCE = 1e-3
_TIMING_ROUNDS = 3
_EDGE_TICKS = 8
_ORDER_TICKS = 64
_SILENT = 3
_FAR_TOO_SLOW = 4.0
_TICKS_TO_JUDGE = 16


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """A passed self-test. ``deviation``: largest error as a part of what is allowed (below 1). Times in ms."""

    ticks: int
    sensors: int
    deviation: float
    p50_ms: float
    p99_ms: float


def self_test(bundle: Bundle) -> SelfTestReport:
    """Run all golden ticks and some hard ones; takes up to seconds, so call it in a thread.

    :class:`~edge_agent.errors.BundleError` when the model cannot be loaded, fails, gives numbers that are not finite or
    differ from the golden ones, or is slower than the manifest's ``limits.p99_ms``. Nothing that is live is touched.
    """
    step = ModelStep(bundle.model, bundle.manifest)
    try:
        deviation = _golden(step, bundle.golden, _Pace(bundle.manifest.limits.p99_ms))
        _other_order(step, bundle.golden)
        _other_sizes(step, bundle.golden)
        _more_sensors(step, bundle)
        _hard_inputs(step, bundle)
        p50_ms, p99_ms = _timing(step, bundle)
    except DetectorError as error:
        raise BundleError(f"self-test of {bundle.manifest.name} {bundle.manifest.version}: {error}") from error
    return SelfTestReport(bundle.golden.ticks, bundle.golden.sensors, deviation, p50_ms, p99_ms)


class _Pace:
    """Gives up a model that is far too slow before it has used the whole budget of its trial."""

    def __init__(self, limit_ms: float) -> None:
        self._limit_ms = limit_ms
        self._times: list[float] = []

    def run(self, step: ModelStep) -> None:
        self._times.append(_timed(step))
        fastest = min(self._times)
        if len(self._times) == _TICKS_TO_JUDGE and fastest > _FAR_TOO_SLOW * self._limit_ms:
            raise DetectorError(
                f"p99 of a tick with {len(step.value)} sensors is above {fastest:.3g} ms,"
                f" expected at most {self._limit_ms:g}"
            )


def _timed(step: ModelStep) -> float:
    """Milliseconds of processor time of one tick: that other programs are running is not the model's fault."""
    started = time.thread_time()
    step.run()
    return 1e3 * (time.thread_time() - started)


def _golden(step: ModelStep, golden: Golden, pace: _Pace) -> float:
    step.resize(golden.sensors, None)
    worst = 0.0
    for tick in range(golden.ticks):
        _feed(step, golden, tick)
        pace.run(step)
        for name in OUTPUTS:
            worst = max(worst, _deviation(f"tick {tick}, {name}", getattr(step, name), golden.outputs[name][tick]))
    return worst


def _feed(step: ModelStep, golden: Golden, tick: int) -> None:
    for name in INPUTS:
        getattr(step, name)[:] = golden.inputs[name][tick]


def _deviation(where: str, found: NDArray[Any], expected: NDArray[Any]) -> float:
    allowed = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected)
    ratio = np.abs(found - expected) / allowed
    worst = np.unravel_index(int(ratio.argmax()), ratio.shape)
    if ratio[worst] > 1.0:
        raise DetectorError(f"golden {where}: got {found[worst]:g}, expected {expected[worst]:g} ± {allowed[worst]:g}")
    return float(ratio[worst])


def _other_order(step: ModelStep, golden: Golden) -> None:
    """Sensors in reverse must give the same numbers in reverse; a model that mixes rows up fails here."""
    step.resize(golden.sensors, None)
    for tick in range(min(golden.ticks, _ORDER_TICKS)):
        for name in INPUTS:
            getattr(step, name)[:] = golden.inputs[name][tick][::-1]
        np.copyto(step.neighbour, golden.sensors - 1 - step.neighbour, where=step.neighbour >= 0)
        step.run()
        for name in OUTPUTS:
            expected = golden.outputs[name][tick][::-1]
            _deviation(f"tick {tick}, {name} of sensors in reverse order", getattr(step, name), expected)


def _more_sensors(step: ModelStep, bundle: Bundle) -> None:
    """Sensors that are not known and give nothing must not change what is said of the others."""
    golden, known = bundle.golden, bundle.golden.sensors
    step.resize(known + _SILENT, None)
    step.context[known:] = bundle.manifest.default_context
    step.quality[known:] = 1
    step.age[known:] = MAX_AGE
    for tick in range(min(golden.ticks, _ORDER_TICKS)):
        for name in INPUTS:
            getattr(step, name)[:known] = golden.inputs[name][tick]
        step.run()
        for name in OUTPUTS:
            expected = golden.outputs[name][tick]
            _deviation(f"tick {tick}, {name} with silent sensors beside", getattr(step, name)[:known], expected)


def _other_sizes(step: ModelStep, golden: Golden) -> None:
    """A model that was exported with its number of sensors baked in fails here."""
    for sensors, shift in ((1, 0), (3 * golden.sensors, 1)):
        step.resize(sensors, None)
        rows = np.arange(sensors) % golden.sensors
        for tick in range(_EDGE_TICKS):
            for name in ("value", "age", "quality", "context"):
                getattr(step, name)[:] = golden.inputs[name][tick][rows]
            neighbour = golden.inputs["neighbour"][tick][rows]
            step.neighbour[:] = np.where((neighbour >= 0) & (sensors > 1), (neighbour + shift) % sensors, -1)
            step.run()


def _hard_inputs(step: ModelStep, bundle: Bundle) -> None:
    """What a plant may send and no recording holds: nothing at all, nothing that moves, the largest of numbers."""
    golden = bundle.golden
    step.resize(golden.sensors, None)
    step.context[:] = bundle.manifest.default_context
    step.neighbour[:] = golden.inputs["neighbour"][0]
    sign = np.where(np.arange(golden.sensors) % 2, 1.0, -1.0)
    for quality, age, value in (
        (1, MAX_AGE, 0.0 * sign),
        (0, 0.0, 0.0 * sign),
        (0, 0.0, MAX_VALUE * sign),
        (0, 0.0, -MAX_VALUE * sign),
        (0, 0.0, 1e-40 * sign),
    ):
        step.quality.fill(quality)
        step.age.fill(age)
        step.value[:] = value
        for _ in range(_EDGE_TICKS):
            step.run()


def _timing(step: ModelStep, bundle: Bundle) -> tuple[float, float]:
    """Median and 99th percentile; the best of a few rounds, since other programs share the caches."""
    golden, limit = bundle.golden, bundle.manifest.limits.p99_ms
    best = (np.inf, np.inf)
    for _ in range(_TIMING_ROUNDS):
        step.resize(golden.sensors, None)
        times = []
        for tick in range(golden.ticks):
            _feed(step, golden, tick)
            times.append(_timed(step))
        best = min(best, (float(np.percentile(times, 50)), float(np.percentile(times, 99))), key=lambda pair: pair[1])
        if best[1] <= limit:
            return best
    raise DetectorError(f"p99 of a tick with {golden.sensors} sensors is {best[1]:.3g} ms, expected at most {limit:g}")
