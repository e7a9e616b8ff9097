"""Plant changed, or plant attacked? The rule, free of state.

A plant that is run otherwise arrives at a new stable point at which its sensors still agree with each other. An attack
breaks relations, or is still going on, or has an incident open. So a change is judged only when

1. no process incident has been open for some blocks,
2. the moved sensors have settled and no more follow them,
3. the detector's residuals are as they were: relations hold,
4. it did not begin under an incident, or a person has judged that incident a false alarm, or work was announced.

Then it is the plant's (``PLANT``) when it is a new operating point: a level is elsewhere, nothing that moved before
stands still, and it is borne out by more than one sensor: related ones have moved in proportion, or many have. Else it
is a matter of single sensors (``SENSOR``): that residuals of others rose for a while bears out nothing, because those
of a spoofed sensor's neighbours do too.
The fourth is needed because models adapt: an attack that goes on for long looks settled and consistent in the end.
A drive forced to one value, a stuck sensor, a hung controller: what stands still is the mark of most that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge_agent.drift.options import DriftOptions

_SETTLED_SHARE = 0.8
_STRAINED_SHARE = 0.1
_TOGETHER = 2  # sensors that have moved


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
    """Numbers of sensors, and of blocks.

    ``moved``: level or spread are elsewhere. Of those, ``levels``: the level is; ``stilled``: hardly move any more;
    ``group``: the most that hang together by edges and have moved in proportion; ``settled``. ``watched``: there are.
    ``strained``: the residual is larger than it was, of all; ``strained_moved``: of the moved. ``quiet_blocks``: since
    the last incident was open; ``steady_blocks``: since more sensors moved. ``suspected``: it began under an incident.
    """

    moved: int
    levels: int
    stilled: int
    group: int
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
    return Verdict.PLANT if _new_operating_point(change, options) else Verdict.SENSOR


def _new_operating_point(change: Change, options: DriftOptions) -> bool:
    if not change.levels or change.stilled:
        return False
    return change.group >= _TOGETHER or change.moved >= max(_TOGETHER, options.plant_share * change.watched)


def _broken(change: Change) -> bool:
    """Whether residuals say that sensors no longer agree with each other."""
    many = change.strained > _STRAINED_SHARE * change.watched
    return many or change.strained_moved > _STRAINED_SHARE * change.moved
