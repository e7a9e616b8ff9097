"""What a ring's gateways say of its release, counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edge_agent.errors import OtaError
from edge_agent.ota.report import Report, parse_report
from edge_agent.ota.ring import Ring
from edge_agent.ota.state import Phase, Result

_FAILED = (Result.ROLLED_BACK, Result.QUARANTINED)


@dataclass(frozen=True, slots=True)
class Tally:
    """Gateways of one ring by what they say of its release.

    ``commits``: when it was committed, in order of time. ``failures``: how many took it back or quarantined it, with
    their reasons; ``fresh`` of them since the ring file was made, so that its maker did not know of them.
    ``trying``: it answers there, on trial. ``waiting``: it is there or on its way. ``refused``: not for
    them; counted nowhere. ``silent``: the rest.
    """

    gateways: int
    commits: tuple[datetime, ...] = ()
    failures: int = 0
    reasons: tuple[str, ...] = ()
    fresh: int = 0
    trying: int = 0
    waiting: int = 0
    refused: int = 0

    @property
    def ended(self) -> int:
        """Gateways that said how it ended."""
        return len(self.commits) + self.failures

    @property
    def reached(self) -> int:
        """Gateways in which it answers, or did until it was taken back."""
        return self.ended + self.trying

    @property
    def silent(self) -> int:
        """Gateways that said nothing of it."""
        return max(0, self.gateways - self.ended - self.trying - self.waiting - self.refused)


def newest(raw: Iterable[bytes], fleet: str) -> tuple[dict[str, Report], int]:
    """The newest report of each gateway of ``fleet``, and how many were no reports."""
    found: dict[str, Report] = {}
    bad = 0
    for one in raw:
        try:
            report = parse_report(one)
        except OtaError:
            bad += 1
            continue
        known = found.get(report.gateway)
        if report.fleet == fleet and (known is None or (known.time, known.serial) < (report.time, report.serial)):
            found[report.gateway] = report
    return found, bad


def count(ring: Ring, reports: Iterable[Report], gateways: int, now: datetime) -> Tally:
    """Count what ``reports`` say of the release of ``ring``; ``gateways``: how many it has, 0: those that report.

    Clocks of gateways may be wrong: no commit counts as older than the ring file or younger than ``now``.
    """
    commits, reasons = [], []
    fresh = trying = waiting = refused = seen = 0
    for report in reports:
        if report.ring != ring.ring:
            continue
        seen += 1
        outcome = report.outcome
        if outcome is not None and outcome.release == ring.release:
            if outcome.result is Result.COMMITTED:
                commits.append(min(max(outcome.time, ring.issued), now))
            elif outcome.result in _FAILED:
                reasons.append(outcome.reason)
                fresh += outcome.time > ring.issued
            else:
                refused += 1
        elif report.release == ring.release:
            trying += report.phase is Phase.TRIAL
            waiting += report.phase is not Phase.TRIAL
    every = max(gateways, seen)
    return Tally(every, tuple(sorted(commits)), len(reasons), tuple(sorted(reasons)), fresh, trying, waiting, refused)
