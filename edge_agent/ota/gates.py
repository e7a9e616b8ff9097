"""Whether a candidate does well: in shadow beside the model in use, and on trial in its place. Pure.

Reasons are fixed words: ``errors``, ``memory``, ``latency``, ``score_shift``, ``alarms``, ``unhealthy``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.ota.ports import Comparison, Vitals
from edge_agent.ota.ring import Limits, Trial

LEAST_SCORES = 200
"""Below it a Kolmogorov-Smirnov distance of 0.2 is no evidence (at 200 against 200, 0.163 is exceeded by 1 in 100)."""
LEAST_TICKS = 100
"""Below it nothing is said about the 99th percentile of the tick time."""
_P99_FACTOR = 2.0
_USUAL_FACTOR = 1.5
"""How much farther than its own stretches lie from each other the scores of a trial may lie from what was before."""


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Kolmogorov-Smirnov distance of two samples: the largest gap between their distribution functions, 0 to 1.

    What is not finite is left out; 0 when nothing is left of one of them.
    """
    a, b = (np.sort(np.asarray(sample, float)[np.isfinite(sample)]) for sample in (one, other))
    if not len(a) or not len(b):
        return 0.0
    both = np.concatenate((a, b))
    gaps = np.searchsorted(a, both, "right") / len(a) - np.searchsorted(b, both, "right") / len(b)
    return float(np.abs(gaps).max())


def standardised(scores: Iterable[float]) -> NDArray[np.float64]:
    """Scores as distances from their median, in units of the median distance: what is alike then has the same form.

    Every model has a level of its own, which calibration takes out before anything is decided.
    """
    found = np.fromiter(scores, np.float64)
    if not len(found):
        return found
    found -= np.median(found)
    spread = float(np.median(np.abs(found)))
    return found / spread if spread > 0 else found


def p99(values: Sequence[float]) -> float | None:
    """99th percentile, None when there are too few of them."""
    return float(np.percentile(values, 99)) if len(values) >= LEAST_TICKS else None


def since(start: Vitals, now: Vitals) -> Vitals:
    """``now`` without what had been counted at ``start``; the samples are those that came after it.

    When a counter went back, counting had begun anew: then ``now`` is all of it.
    """
    if now.ticks < start.ticks:
        return now
    ticks = now.ticks - start.ticks
    newest = slice(-ticks, None) if ticks else slice(0, 0)
    return Vitals(
        ticks=ticks,
        detector_failures=max(0, now.detector_failures - start.detector_failures),
        alarms=max(0, now.alarms - start.alarms),
        alarm_seconds=max(0.0, now.alarm_seconds - start.alarm_seconds),
        rss_mb=now.rss_mb,
        scores=list(now.scores)[newest],
        tick_ms=list(now.tick_ms)[newest],
        troubles=tuple(trouble for trouble in now.troubles if trouble not in start.troubles),
    )


def trial_failure(trial: Trial, before: Vitals | None, now: Vitals, limits: Limits) -> tuple[str, str] | None:
    """Why a trial has failed (reason, sentence), None while it is well.

    ``before``: the agent with what was in use before, None when that is not known any more; ``now``: since the trial
    began. ``troubles`` are for the caller to judge, since they may pass.
    """
    if now.detector_failures:
        return "errors", f"the model failed at {now.detector_failures} of {now.ticks} ticks, expected none"
    return (
        _memory(before, now, limits)
        or _latency(None if before is None else p99(before.tick_ms), p99(now.tick_ms), limits.p99_ms)
        or _shift(trial, before, now)
        or _alarms(trial, before, now)
    )


def shadow_failure(trial: Trial, seen: Comparison, limits: Limits) -> tuple[str, str] | None:
    """Why a candidate in shadow must not go on trial (reason, sentence), None while it is well."""
    if seen.failures:
        return "errors", f"the candidate failed at {seen.failures} of {seen.ticks} ticks, expected none"
    if seen.ticks < LEAST_SCORES:
        return None
    if seen.distance > trial.score_shift:
        return _too_far(seen.distance, trial.score_shift)
    most = trial.alarm_factor * seen.alarms_in_use + trial.alarm_extra
    if seen.alarms > most:
        return "alarms", f"got {seen.alarms:g} alarms, expected at most {most:.1f} (in use: {seen.alarms_in_use:g})"
    return _latency(seen.p99_ms_in_use, seen.p99_ms, limits.p99_ms)


def _memory(before: Vitals | None, now: Vitals, limits: Limits) -> tuple[str, str] | None:
    """The limit is what a model may cost; what else the agent does is in its memory before the trial."""
    if limits.rss_mb is None or before is None:
        return None
    grown_mb = now.rss_mb - before.rss_mb
    if grown_mb > limits.rss_mb:
        return "memory", f"resident memory grew by {grown_mb:.0f} MB, expected at most {limits.rss_mb:.0f} MB"
    return None


def _latency(before: float | None, now: float | None, limit: float | None) -> tuple[str, str] | None:
    allowed = [value for value in (before and _P99_FACTOR * before, limit) if value]
    if now is None or not allowed or now <= max(allowed):
        return None
    return "latency", f"got a 99th percentile of {now:.2f} ms a tick, expected at most {max(allowed):.2f} ms"


def _shift(trial: Trial, before: Vitals | None, now: Vitals) -> tuple[str, str] | None:
    if before is None or min(len(before.scores), len(now.scores)) < LEAST_SCORES:
        return None
    found = distance(before.scores, now.scores)
    most = trial.score_shift
    if found > most:
        most = max(most, _USUAL_FACTOR * usual_shift(before.scores, len(now.scores)))
    return _too_far(found, most) if found > most else None


def usual_shift(scores: Sequence[float], length: int) -> float:
    """Largest distance (0 to 1) of a stretch of ``length`` ticks of ``scores``, standardised, from all of them.

    Of fewer than two such stretches, of half of them. A plant with a daily round moves so with no change of its model.
    """
    length = min(length, max(LEAST_SCORES, len(scores) // 2))
    starts = range(0, len(scores) - length + 1, max(1, length // 2))
    whole = standardised(scores).tolist()
    return max(distance(standardised(scores[at : at + length]).tolist(), whole) for at in starts)


def _too_far(found: float, most: float) -> tuple[str, str]:
    return "score_shift", f"scores moved by {found:.3f} (Kolmogorov-Smirnov), expected at most {most:g}"


def _alarms(trial: Trial, before: Vitals | None, now: Vitals) -> tuple[str, str] | None:
    if before is None or not before.ticks:
        return None
    usual = before.alarms * now.ticks / before.ticks
    most = trial.alarm_factor * usual + trial.alarm_extra
    if now.alarms > most:
        return "alarms", f"got {now.alarms} alarms in {now.ticks} ticks, expected at most {most:.1f}"
    return None
