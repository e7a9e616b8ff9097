"""Readings of ticks under alarm, kept until somebody says what the alarm was. In memory, and bounded.

What led to a false alarm is normal and was never learned: the next time it would be an alarm again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.prototypes import LONG

_INCIDENTS = 4  # the latest ones
_TICKS = 300  # of an incident; what began it is what will begin the next one, so the first are kept
_READINGS = 100_000  # of an incident; thousands of sensors must not need tens of megabytes

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick as the companions saw it: readings [S] of the sensors ``names``, and the members' ``levels``."""

    tick: int
    names: tuple[str, ...]
    value: Floats
    usable: Bools
    fresh: Bools
    levels: Floats

    def of(self, names: tuple[str, ...]) -> tuple[Floats, Bools, Bools]:
        """``value``, ``usable`` and ``fresh`` of the sensors ``names``; those that were not there are not usable."""
        if names == self.names:
            return self.value, self.usable, self.fresh
        place = {name: i for i, name in enumerate(self.names)}
        rows = np.array([place.get(name, -1) for name in names], np.int64)  # -1: what is appended
        return np.append(self.value, 0.0)[rows], np.append(self.usable, False)[rows], np.append(self.fresh, False)[rows]


class UnderAlarm:
    """Moments of the latest incidents, with the ticks before each."""

    def __init__(self) -> None:
        self._before: deque[Moment] = deque(maxlen=LONG)  # without them nothing is known of the first ticks
        self._held: dict[str, list[Moment]] = {}

    def note(self, moment: Moment, incident: str | None) -> None:
        """Take one tick in; ``incident``: the id of the one that is open, None while there is none."""
        if incident is not None:
            held = self._held.setdefault(incident, list(self._before))
            if len(held) < min(_TICKS, _READINGS // max(1, len(moment.names))):
                held.append(moment)
            while len(self._held) > _INCIDENTS:
                del self._held[next(iter(self._held))]
        self._before.append(moment)

    def taken(self, incident: str) -> list[Moment]:
        """What is kept of ``incident``, in the order of time; it is forgotten here."""
        return self._held.pop(incident, [])

    def interrupted(self) -> None:
        """What comes next does not follow on what came last."""
        self._before.clear()
