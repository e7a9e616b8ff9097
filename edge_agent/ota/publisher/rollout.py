"""Whether a release goes on to the next ring, waits, or is stopped: a pure judgement of what gateways report.

Failures are seen in samples, so the numbers are those of binomial samples. To see at least one failure with 95 %
confidence where a share p of the gateways fails takes n gateways with (1 - p)^n <= 5 %: 29 at 10 %, 59 at 5 %, 299 at
1 % (the "rule of three": Hanley and Lippman-Hand, JAMA 249, 1983). With c failures in it, a sample says as much when
P(X <= c) <= 5 %: 46 gateways with one failure, 61 with two.

- **promote**: enough gateways ended it (for a share of 10 %), of these enough succeeded, and no larger share failed
  than is allowed; few are silent; and it has run long enough since then.
- **halt**: two failures or more, and so many would be seen in less than 5 % of the releases that fail in the allowed
  share. Failures are not held against a release that a larger sample excuses: a good one is not stopped by chance.
- **pause**: in a first ring there is a failure that the sample does not excuse yet. Nobody new begins; a person looks
  at it, and lets it go on (``activate``, ``promote``) or not (``halt``).
- **widen**: in a first ring that is too large to be risked at once, as many more may begin at a time as did well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from edge_agent.ota.publisher.settings import RingOptions
from edge_agent.ota.publisher.tally import Tally
from edge_agent.ota.ring import Activation, Ring

SEEN_SHARE = 0.1
"""Share of failing gateways that must have been seen before a release goes on."""
CHANCE = 0.05
AT_ONCE = 40
"""Largest first ring that gets a release all at once."""
FIRST_WAVE = 8
"""Gateways that may begin during one trial while nothing is known: 29 clean ones take this many more into the risk."""
LONGEST_SPREAD_S = 86_400.0
REPORTING_S = 60.0
"""How long after its trial a gateway's report is expected."""


class Decision(StrEnum):
    """What is to be done with the release of a ring."""

    WAIT = "wait"
    WIDEN = "widen"
    PAUSE = "pause"
    PROMOTE = "promote"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision, why, and on what. ``spread_s``: over how long those that are left begin, with ``widen``."""

    decision: Decision
    why: str
    tally: Tally
    spread_s: float = 0.0


@cache
def needed(failures: int, share: float = SEEN_SHARE) -> int:
    """Smallest sample in which ``failures`` or fewer would be seen in at most 5 % if ``share`` failed."""
    sample = max(failures + 1, int(failures / share))  # with fewer the mean is below `failures`
    while _at_most(failures, sample, share) > CHANCE:
        sample += 1
    return sample


def paced_spread_s(left: int, at_once: int, trial_s: float) -> float:
    """Spread over which ``left`` gateways begin so that about ``at_once`` do during one trial and its report."""
    return min(LONGEST_SPREAD_S, math.ceil(left * (trial_s + REPORTING_S) / max(at_once, 1)))


def first_spread_s(gateways: int, trial_s: float) -> float:
    """Least spread for the first ring of a release: 0 if the ring is small enough."""
    return paced_spread_s(gateways, FIRST_WAVE, trial_s) if gateways > AT_ONCE else 0.0


def judge(ring: Ring, options: RingOptions, tally: Tally, now: datetime, *, first: bool) -> Verdict:
    """What to do with the release of ``ring``; ``first``: no ring had it before.

    The order: stop what fails, hold what may fail, pass on what is proven, else let more begin or wait.
    """
    if ring.halt:
        return Verdict(Decision.WAIT, "was halted; publish another release or roll back", tally)
    failed = _failed(options, tally)
    if failed is not None:
        return Verdict(Decision.HALT, failed, tally)
    doubt = _doubt(options, tally)
    if doubt is not None:
        left = ring.activate.mode is not Activation.STAGE and tally.reached < tally.gateways - tally.refused
        return Verdict(Decision.PAUSE if first and left and tally.fresh else Decision.WAIT, doubt, tally)
    paced = _pace(ring, options, tally) if first else None
    if paced is not None:
        return paced
    missing = _missing(ring, options, tally, now)
    if missing is not None:
        return Verdict(Decision.WAIT, missing, tally)
    return Verdict(Decision.PROMOTE, f"{len(tally.commits)} of {tally.ended} committed it", tally)


def _failed(options: RingOptions, tally: Tally) -> str | None:
    """Those on trial count as if they did well: a failure is known sooner than a success."""
    failures, begun = tally.failures, tally.reached
    if failures < 2 or 1 - _at_most(failures - 1, begun, options.failure_share) >= CHANCE:
        return None
    return f"{failures} of {begun} failed ({_reasons(tally)}), more than {options.failure_share:.0%} can explain"


def _doubt(options: RingOptions, tally: Tally) -> str | None:
    """A failure that the sample is too small to excuse."""
    failures, ended = tally.failures, tally.ended
    if failures == 0 or (ended >= needed(failures, _seen(options)) and failures / ended <= options.failure_share):
        return None
    return (
        f"{failures} of {ended} failed ({_reasons(tally)}); look at it, then promote it by hand or halt it: so few"
        " gateways do not tell chance from a fault"
    )


def _missing(ring: Ring, options: RingOptions, tally: Tally, now: datetime) -> str | None:
    """What the release still lacks before it goes on; None: nothing."""
    eligible = tally.gateways - tally.refused
    enough = needed(tally.failures, _seen(options))
    if eligible < enough:  # a small ring says what it can, if nearly all of it does
        enough = math.ceil(eligible * (1 - options.silence))
    if eligible == 0 or tally.ended < max(enough, 1):
        return f"{tally.ended} have ended it, {max(enough, 1)} are needed" + _silence(ring, options, tally, now)
    if len(tally.commits) / tally.ended < options.success:
        return f"{len(tally.commits)} of {tally.ended} committed it, {options.success:.0%} are needed"
    if tally.silent > options.silence * tally.gateways:
        return f"{tally.silent} of {tally.gateways} are silent, {options.silence:.0%} may be" + _silence(
            ring, options, tally, now
        )
    proven = tally.commits[min(enough, len(tally.commits)) - 1]
    left_s = options.soak - (now - proven).total_seconds()
    return f"{left_s:.0f} s are left of the time that it has to run" if left_s > 0 else None


def _silence(ring: Ring, options: RingOptions, tally: Tally, now: datetime) -> str:
    late = tally.silent and now - ring.issued > timedelta(seconds=options.wait)
    return f"; {tally.silent} gateways are silent for long: are they on?" if late else ""


def _pace(ring: Ring, options: RingOptions, tally: Tally) -> Verdict | None:
    """Let as many begin at a time as have done well, once it is known that not a tenth of them fails."""
    proven, left = len(tally.commits), tally.gateways - tally.reached - tally.refused
    mode, enough = ring.activate.mode, needed(tally.failures, _seen(options))
    if mode is Activation.STAGE and tally.reached and left:
        return Verdict(Decision.WAIT, f"{left} were told to wait: let them begin by hand (activate) or halt it", tally)
    if mode is not Activation.NOW or tally.gateways <= AT_ONCE or proven < enough or left < 1:
        return None
    spread_s = paced_spread_s(left, proven, ring.trial.seconds)
    if spread_s > 0.5 * ring.activate.spread_s:
        return None
    why = f"{proven} have committed it, so {left} more begin within {spread_s:g} s"
    return Verdict(Decision.WIDEN, why, tally, spread_s)


def _seen(options: RingOptions) -> float:
    """Share of failing gateways that must have been seen: well above what is allowed."""
    return min(max(SEEN_SHARE, 2 * options.failure_share), 0.9)


def _at_most(failures: int, sample: int, share: float) -> float:
    """P(X <= failures), X the number of failures in a sample where ``share`` fail."""
    whole = math.lgamma(sample + 1)
    logs = (
        whole
        - math.lgamma(k + 1)
        - math.lgamma(sample - k + 1)
        + k * math.log(share)
        + (sample - k) * math.log1p(-share)
        for k in range(min(failures, sample) + 1)
    )
    return math.fsum(map(math.exp, logs))


def _reasons(tally: Tally) -> str:
    told = sorted(set(tally.reasons) - {""})
    return ", ".join(told[:3]) or "no reason given"
