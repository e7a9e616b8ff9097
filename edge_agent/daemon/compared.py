"""A new model beside the one before it, in numbers for machines and in words for people. Pure."""

from __future__ import annotations

from typing import Any

from edge_agent.ota.gates import LEAST_SCORES, distance, p99, since
from edge_agent.ota.ports import Comparison, Vitals


def compared(before: Vitals, start: Vitals, now: Vitals) -> dict[str, Any]:
    """The model on trial beside how the agent did just ``before``; counted from ``start``, when it went live."""
    here = since(start, now)
    enough = min(len(before.scores), len(here.scores)) >= LEAST_SCORES
    return {
        "ticks": here.ticks,
        "failures": here.detector_failures,
        "distance": round(distance(before.scores, here.scores), 4) if enough else None,
        "alarms": here.alarms,
        "alarms_before": before.alarms,
        "watched_s": here.alarm_seconds,
        "watched_before_s": before.alarm_seconds,
        "p99_ms": p99(here.tick_ms),
        "p99_ms_before": p99(before.tick_ms),
        "rss_mb": round(here.rss_mb, 1),
        "rss_mb_before": round(before.rss_mb, 1),
        "troubles": list(here.troubles),
    }


def in_words(seen: Comparison) -> str:
    """A shadow in one sentence."""
    details = seen.details
    parts = [f"{seen.ticks} ticks beside the model in use"]
    if seen.failures:
        parts.append(f"failed at {seen.failures} of them ({details.get('trouble')})")
    if details.get("skipped"):
        parts.append(f"{details['skipped']} skipped because the machine was busy")
    if seen.ticks >= LEAST_SCORES:
        parts.append(f"scores differ by {seen.distance:.3f} (Kolmogorov-Smirnov, 0 to 1)")
    else:
        parts.append("too few to compare scores")
    parts.append(f"{seen.alarms:g} alarms against {seen.alarms_in_use:g}")
    parts.append(f"{seen.p99_ms:.2f} ms against {seen.p99_ms_in_use:.2f} ms a tick (99th percentile)")
    return ", ".join(parts)
