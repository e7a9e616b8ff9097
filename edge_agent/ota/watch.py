"""Watches a trial: when it began, how the agent did before, and what troubles have lasted."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.clock import NS_PER_S
from edge_agent.ota.gates import since, trial_failure
from edge_agent.ota.ports import Vitals
from edge_agent.ota.ring import Limits, Trial

LASTING_S = 60.0
"""A trouble that was not there before fails a trial only when it lasts: connections come and go."""
NOTHING_YET = Vitals(
    ticks=0, detector_failures=0, alarms=0, alarm_seconds=0.0, rss_mb=0.0, scores=(), tick_ms=(), troubles=()
)


@dataclass(slots=True)
class Watch:
    """``start``: vitals when what is on trial went live; ``began_ns``: monotonic, which is boot time on a gateway."""

    trial: Trial
    limits: Limits
    before: Vitals | None
    start: Vitals
    began_ns: int
    _troubled: dict[str, int] = field(default_factory=dict)

    def failure(self, vitals: Vitals, now_ns: int) -> tuple[str, str] | None:
        """Why the trial has failed (reason, sentence), None while it is well."""
        now = since(self.start, vitals)
        return trial_failure(self.trial, self.before, now, self.limits) or self._lasting(vitals, now_ns)

    def passed(self, vitals: Vitals, now_ns: int) -> bool:
        """Whether it has lasted long enough, in time and in ticks, and nothing is wrong just now."""
        lasted_s = (now_ns - self.began_ns) / NS_PER_S
        ticks = since(self.start, vitals).ticks
        return lasted_s >= self.trial.seconds and ticks >= self.trial.ticks and not self._troubled

    def _lasting(self, vitals: Vitals, now_ns: int) -> tuple[str, str] | None:
        usual = self.before.troubles if self.before is not None else ()
        self._troubled = {
            trouble: self._troubled.get(trouble, now_ns) for trouble in vitals.troubles if trouble not in usual
        }
        for trouble, first_ns in self._troubled.items():
            if now_ns - first_ns >= LASTING_S * NS_PER_S:
                return "unhealthy", f"since the change: {trouble}"
        return None
