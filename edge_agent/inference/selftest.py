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
        deviation = _golden(step, bundle.golden)
        _other_sizes(step, bundle.golden)
        _hard_inputs(step, bundle)
        p50_ms, p99_ms = _timing(step, bundle)
    except DetectorError as error:
        raise BundleError(f"self-test of {bundle.manifest.name} {bundle.manifest.version}: {error}") from error
    return SelfTestReport(bundle.golden.ticks, bundle.golden.sensors, deviation, p50_ms, p99_ms)


def _golden(step: ModelStep, golden: Golden) -> float:
    step.resize(golden.sensors, None)
    worst = 0.0
    for tick in range(golden.ticks):
        _feed(step, golden, tick)
        step.run()
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


def _other_sizes(step: ModelStep, golden: Golden) -> None:
    """A model that was exported with its number of sensors baked in, or that mixes rows up, fails here."""
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
    """Median and 99th percentile; the best of a few rounds, since other programs may be running."""
    golden, limit = bundle.golden, bundle.manifest.limits.p99_ms
    best = (np.inf, np.inf)
    for _ in range(_TIMING_ROUNDS):
        step.resize(golden.sensors, None)
        times = []
        for tick in range(golden.ticks):
            _feed(step, golden, tick)
            started = time.perf_counter()
            step.run()
            times.append(1e3 * (time.perf_counter() - started))
        best = min(best, (float(np.percentile(times, 50)), float(np.percentile(times, 99))), key=lambda pair: pair[1])
        if best[1] <= limit:
            return best
    raise DetectorError(f"p99 of a tick with {golden.sensors} sensors is {best[1]:.3g} ms, expected at most {limit:g}")
