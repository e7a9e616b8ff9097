"""How the agent does: what a trial of a new model or configuration is judged by."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_agent.metrics import Metrics
from edge_agent.ota.gates import standardised
from edge_agent.ota.ports import Vitals
from edge_agent.pipeline.engine import TickReport
from edge_agent.verdict import IncidentKind, Scores

RECENT = 2_000
"""Ticks of which scores and times are kept."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")  # proc(5)


class VitalSigns:
    """Watches the ticks. :meth:`ticked` is called after each of them and costs some microseconds."""

    def __init__(self, metrics: Metrics, period_s: float, troubles: Callable[[], Sequence[str]]) -> None:
        self._metrics = metrics
        self._period_s = period_s
        self._troubles = troubles
        self._ticks = 0
        self._judged_ticks = 0
        self._scores: deque[float] = deque(maxlen=RECENT)
        self._tick_ms: deque[float] = deque(maxlen=RECENT)

    def ticked(self, report: TickReport) -> None:
        """Note one tick."""
        self._ticks += 1
        self._judged_ticks += not report.decision.warming_up
        self._tick_ms.append(report.detector_ns / 1e6)
        score = model_score(report.model_scores)
        if score is not None:
            self._scores.append(score)

    def exchanged(self) -> None:
        """Another model answers from now on: scores and times of the one before are not its own."""
        self._scores.clear()
        self._tick_ms.clear()

    def now(self) -> Vitals:
        """As it is."""
        opened = sum(
            child.value for labels, child in self._metrics.incidents.series() if labels[0] == IncidentKind.PROCESS.value
        )
        return Vitals(
            ticks=self._ticks,
            detector_failures=round(self._metrics.detector_failures.labels().value),
            alarms=round(opened),
            alarm_seconds=self._judged_ticks * self._period_s,
            rss_mb=resident_bytes() / 1e6,
            scores=tuple(standardised(self._scores).tolist()),
            tick_ms=tuple(self._tick_ms),
            troubles=tuple(self._troubles()),
        )


def model_score(scores: Scores) -> float | None:
    """One number for what a model says of the plant at a tick: the mean log of its scores; None when it says nothing.

    Of the model alone, before companions and calibration, which begin anew when a model is exchanged.
    """
    valid = scores.valid
    if not valid.any():
        return None
    return float(np.log1p(scores.score[valid]).mean())


def resident_bytes() -> int:
    """Memory of this process that is in RAM; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
