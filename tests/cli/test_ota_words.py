"""Where updates stand, in sentences."""

from __future__ import annotations

import copy
from typing import Any

from edge_agent.cli.ota_words import sentences

IDLE: dict[str, Any] = {
    "phase": "idle",
    "ring": "stable",
    "release": None,
    "model": {"name": "universal", "version": "", "sha256": None},
    "previous": None,
    "in_force": {"model": None, "config": None},
    "before": None,
    "comparison": None,
    "trial": None,
    "outcome": None,
    "denied": [],
    "metadata_expired": False,
    "time_unconfirmed": False,
    "problem": None,
}
RELEASE = {"release": "pump-3", "counter": 12, "starts": 0}


def text(**changes: Any) -> str:
    return "\n".join(sentences({**copy.deepcopy(IDLE), **changes}))


def test_nothing_to_do_is_said_in_two_lines() -> None:
    assert text() == "Updates of ring stable: nothing is being worked on.\nIn use: universal."


def test_a_shadow_is_compared_in_words() -> None:
    seen = {
        "ticks": 412,
        "failures": 1,
        "distance": 0.143,
        "alarms": 2.0,
        "alarms_in_use": 0.0,
        "p99_ms": 1.25,
        "p99_ms_in_use": 1.125,
        "details": {"agreement": 0.97, "skipped": 3, "trouble": "not finite"},
    }
    assert text(phase="shadow", release=RELEASE, comparison=seen).splitlines()[:8] == [
        "Release pump-3 (counter 12) of ring stable: shadow.",
        "  It scores beside the model in use; what it says does not count yet.",
        "In shadow, 412 ticks beside the model that was in use:",
        "  It failed at 1 tick: not finite.",
        "  Its scores are spread a little differently (Kolmogorov-Smirnov distance 0.143 of 0 to 1), "
        "and both find the same ticks unusual (rank correlation 0.97).",
        "  2 alarms against 0, while both could alarm.",
        "  1.25 ms a tick against 1.12 ms (99th percentile).",
        "  3 ticks were left out because the machine was busy.",
    ]


def test_a_trial_is_compared_with_what_was_before() -> None:
    seen = {
        "ticks": 40,
        "failures": 0,
        "distance": None,
        "alarms": 0,
        "alarms_before": 3,
        "watched_s": 10.0,
        "watched_before_s": 3600.0,
        "p99_ms": None,
        "p99_ms_before": 1.0,
        "rss_mb": 81.0,
        "rss_mb_before": 80.2,
        "troubles": ["source plant: disconnected"],
    }
    before = {"model": "ab" * 32, "config": None}
    previous = {"name": "tiny", "version": "1.0.0", "sha256": "ab" * 32}
    said = text(phase="trial", release={**RELEASE, "starts": 2}, trial=seen, before=before, previous=previous)
    assert said.splitlines()[2:] == [
        "  The process was started 2 times since.",
        "On trial for 40 ticks, beside what was before:",
        "  Not enough ticks yet to compare scores.",
        "  0 alarms in 10 s, against 3 in 3600 s.",
        "  81 MB of memory against 80 MB.",
        "  New since: source plant: disconnected.",
        "In use: universal.",
        "Before it: tiny 1.0.0 (abababababab); `edge-agent ota rollback` brings it back.",
    ]


def test_ends_denials_and_problems_are_said() -> None:
    outcome = {
        "release": "pump-2",
        "result": "rolled_back",
        "reason": "errors",
        "message": "it failed",
        "time": "2026-11-20T10:00:00Z",
    }
    said = text(
        outcome=outcome,
        denied=[{"sha256": "cd" * 32, "reason": "errors"}],
        metadata_expired=True,
        time_unconfirmed=True,
        problem="the repository cannot be reached",
        in_force={"model": None, "config": "ef" * 32},
    )
    assert said.splitlines()[1:] == [
        "In use: universal, with configuration efefefefefef over its own.",
        "Last release: pump-2, rolled back at 2026-11-20T10:00:00Z (errors: it failed).",
        "Not tried again: cdcdcdcdcdcd (errors).",
        "The repository's metadata have expired: nothing is installed until they are new. Scoring goes on.",
        "The clock is behind what is known to have passed; set it, or have it set (NTP).",
        "Problem: the repository cannot be reached",
    ]
