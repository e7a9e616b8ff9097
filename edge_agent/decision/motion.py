"""What a sensor's readings do since it stands out, beside what they usually do. Pure.

Each kind of motion is told only when the readings themselves show it: a slope is compared with all slopes over as many
ticks before, a jump with all steps before, and so on. Where nothing of that kind is unusual, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision import phrases
from edge_agent.verdict import Finding

_LEAST_BEFORE = 20  # readings before, without which nothing is known to be usual
_LONGEST = 60  # ticks over which a slope is taken
_LEAST_SLOPE = 4
_LEAST_STILL = 10
_STILL_TIMES = 3.0  # times the longest that it has usually kept one value
_LEAST_REPEATED, _LEAST_DISTINCT = 12, 6
_USUAL = 0.99  # quantile of the steps before
_JUMP_TIMES, _JUMP_REST = 3.0, 0.5  # times the usual steps; share of the jump that others near it may have
_JUMP_WITHIN, _JUMP_SETTLES = 7, 10  # ticks
_SLOPE_TIMES = 1.5  # times the usual slopes
_LINEAR, _ONE_WAY = 0.7, 0.6  # share of the variance that a line explains; of the way that leads to the end
_TINY = 1e-300
_LEAST_RESTLESS = 10
_RESTLESS_TIMES, _CALM_TIMES = 3.0, 0.2
_STATES = 4  # distinct whole numbers, of which a sensor with no more is one that is switched

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Motion:
    """A finding in words, such as ``rises 4.1 mm/s (usually at most 0.3 mm/s), from 650 mm to 812 mm``."""

    finding: Finding
    text: str


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings [T] of one sensor, oldest first, NaN where missing; from index ``since`` on it stands out."""

    values: Floats
    since: int
    unit: str | None
    period_s: float


def motion(readings: Readings) -> Motion | None:
    """What it does; None where the readings show no unusual motion."""
    known = np.isfinite(readings.values)
    since = int(np.count_nonzero(known[: readings.since]))
    gapless = Readings(readings.values[known], since, readings.unit, readings.period_s)
    if since < _LEAST_BEFORE or since >= len(gapless.values):
        return None
    for look in (_still, _repeats, _jump, _slope, _restless):
        found = look(gapless)
        if found is not None:
            return found
    return None


def _still(r: Readings) -> Motion | None:
    run = _last_run(r.values)
    if run < _LEAST_STILL or len(r.values) - run < _LEAST_BEFORE:
        return None
    if run <= _STILL_TIMES * _longest_run(r.values[: len(r.values) - run]):
        return None
    value = phrases.with_unit(float(r.values[-1]), r.unit)
    return Motion(Finding.STANDS_STILL, f"has stood still at {value} for {phrases.span((run - 1) * r.period_s)}")


def _repeats(r: Readings) -> Motion | None:
    """The same values, to the bit, as some time ago, of a sensor that has not repeated itself before."""
    length = min(len(r.values) - r.since, _LONGEST)
    late, before = r.values[-length:], r.values[: r.since]
    if length < _LEAST_REPEATED or len(np.unique(late)) < _LEAST_DISTINCT or len(before) <= 2 * length:
        return None
    place = _occurrence(late, r.values[:-1])
    if place is None or _occurrence(before[-length:], before[:-1]) is not None:
        return None
    ago = phrases.span((len(r.values) - length - place) * r.period_s)
    return Motion(Finding.REPEATS, f"repeats, value for value, what it read {ago} earlier")


def _jump(r: Readings) -> Motion | None:
    """One step that is far larger than all others, before and after."""
    begin = max(r.since - 2, 0)
    steps = np.diff(r.values[begin:])
    place = int(np.abs(steps[:_JUMP_WITHIN]).argmax())
    step, usual = abs(float(steps[place])), float(np.quantile(np.abs(np.diff(r.values[: begin + 1])), _USUAL))
    around = np.abs(np.delete(steps[: place + 1 + _JUMP_SETTLES], place))
    if step <= _JUMP_TIMES * usual or around.max(initial=0.0) > _JUMP_REST * step:
        return None
    start, end = float(r.values[begin + place]), float(r.values[begin + place + 1])
    finding = Finding.JUMPS_UP if end > start else Finding.JUMPS_DOWN
    if _switched(r.values):
        return Motion(finding, f"switched from {phrases.number(start)} to {phrases.number(end)}")
    return Motion(finding, f"jumped from {phrases.with_unit(start, r.unit)} to {phrases.with_unit(end, r.unit)}")


def _slope(r: Readings) -> Motion | None:
    late = r.values[r.since - 1 :][-_LONGEST:]
    length = len(late)
    if length < _LEAST_SLOPE or r.since < 2 * length:
        return None
    times = np.arange(length) - (length - 1) / 2.0
    weights = times / (times @ times)
    slope = float(weights @ late)
    spread = float(((late - late.mean()) ** 2).sum())
    way = abs(float(late[-1] - late[0])) / max(float(np.abs(np.diff(late)).sum()), _TINY)
    if way < _ONE_WAY and slope**2 * float(times @ times) <= _LINEAR * spread:
        return None
    usual = np.abs(np.convolve(r.values[: r.since], weights[::-1], mode="valid"))
    most = float(usual.max())
    if abs(slope) <= _SLOPE_TIMES * most:
        return None
    like = slope / r.period_s
    word = "rises" if slope > 0 else "falls"
    usually = f" (usually at most {phrases.rate(most / r.period_s, r.unit, r.period_s, like)})" if most > 0 else ""
    ends = f"from {phrases.with_unit(float(late[0]), r.unit)} to {phrases.with_unit(float(late[-1]), r.unit)}"
    text = f"{word} {phrases.rate(like, r.unit, r.period_s)}{usually}, {ends}"
    return Motion(Finding.RISES if slope > 0 else Finding.FALLS, text)


def _restless(r: Readings) -> Motion | None:
    late = np.diff(r.values[r.since :])
    if len(late) < _LEAST_RESTLESS:
        return None
    before = np.diff(r.values[: r.since])
    usual, now = float(before.std()), float(late.std())
    if np.count_nonzero(before) < len(before) / 2 or _CALM_TIMES * usual <= now <= _RESTLESS_TIMES * usual:
        return None
    if now > usual:
        text = f"fluctuates {phrases.number(round(now / usual, 1))} times as much as usual from reading to reading"
        return Motion(Finding.RESTLESS, text)
    return Motion(Finding.CALM, "fluctuates less than a fifth as much as usual from reading to reading")


def _last_run(values: Floats) -> int:
    """How many of the last readings are the same."""
    changes = np.flatnonzero(np.diff(values))
    return len(values) - (int(changes[-1]) + 1 if len(changes) else 0)


def _longest_run(values: Floats) -> int:
    borders = np.concatenate(([-1], np.flatnonzero(np.diff(values)), [len(values) - 1]))
    return int(np.diff(borders).max())


def _occurrence(part: Floats, values: Floats) -> int | None:
    """Where ``part`` occurs last in ``values``, exactly."""
    windows = np.lib.stride_tricks.sliding_window_view(values, len(part))
    found = np.flatnonzero((windows == part).all(1))
    return int(found[-1]) if len(found) else None


def _switched(values: Floats) -> bool:
    distinct = np.unique(values)
    return len(distinct) <= _STATES and bool((distinct == np.round(distinct)).all())
