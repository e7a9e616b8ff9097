"""Plant changed, or plant attacked? The rule, free of state.

A plant that is run otherwise arrives at a new stable point at which its sensors still agree with each other. An attack
breaks relations, or is still going on, or has an incident open. So a change is taken for the plant's own only when

1. no process incident has been open for some blocks,
2. the moved sensors have settled and no more follow them,
3. the detector's residuals are as they were: relations hold,
4. it did not begin under an incident, or a person has judged that incident a false alarm.

Then it is the plant's (``PLANT``) when many sensors moved together, else a matter of single sensors (``SENSOR``).
The fourth is needed because models adapt: an attack that goes on for long looks settled and consistent in the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.drift.options import DriftOptions

_SETTLED_SHARE = 0.8
_STRAINED_SHARE = 0.1


class Verdict(StrEnum):
    """What is thought of the change under way.

    ``HELD``: an incident is open, or relations are broken; ``PENDING``: it goes on moving; ``SUSPECTED``: it has
    settled, but began under an incident that nobody has judged false.
    """

    NONE = "none"
    PENDING = "pending"
    HELD = "held"
    SUSPECTED = "suspected"
    SENSOR = "sensor"
    PLANT = "plant"


@dataclass(frozen=True, slots=True)
class Change:
    """How many sensors have moved, how many are watched, how many of the moved ones have settled, and whose residuals
    are larger than they were (``strained``: of all, ``strained_moved``: of the moved). ``suspected``: it began under an
    incident. ``quiet_blocks``: since the last incident was open; ``steady_blocks``: since more sensors moved."""

    moved: int
    watched: int
    settled: int
    strained: int
    strained_moved: int
    quiet_blocks: int
    steady_blocks: int
    suspected: bool = False


def judge(change: Change, options: DriftOptions) -> Verdict:
    """The verdict on ``change``."""
    if not change.moved:
        return Verdict.NONE
    if change.quiet_blocks < options.settled_blocks or _broken(change):
        return Verdict.HELD
    if change.settled < _SETTLED_SHARE * change.moved or change.steady_blocks < options.settled_blocks:
        return Verdict.PENDING
    if change.suspected:
        return Verdict.SUSPECTED
    return Verdict.PLANT if change.moved >= max(2.0, options.plant_share * change.watched) else Verdict.SENSOR


def _broken(change: Change) -> bool:
    """Whether residuals say that sensors no longer agree with each other."""
    many = change.strained > _STRAINED_SHARE * change.watched
    return many or change.strained_moved > _STRAINED_SHARE * change.moved
