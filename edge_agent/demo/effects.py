"""What an attack or a fault can do, in three places of a step.

``process``      changes what happens (an actuator driven elsewhere, a leak): the physics follow.
``instruments``  changes what an instrument shows, to the controller as well as to the gateway.
``report``       changes only what is sent to the gateway; the controller still knows the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.demo.process import Faults
from edge_agent.demo.tags import BY_NAME, INDEX

Vector = NDArray[np.float64]


class Past:
    """The instruments' own readings of the last ``length`` steps, untouched by any attack."""

    def __init__(self, length: int, width: int) -> None:
        self._rows = np.full((length, width), np.nan)
        self._count = 0

    def append(self, row: Vector) -> None:
        """Keep ``row`` (copied) as the latest."""
        self._rows[self._count % len(self._rows)] = row
        self._count += 1

    def ago(self, steps: int) -> Vector:
        """The row ``steps`` before the latest one, or the oldest there is."""
        back = min(steps, self._count - 1, len(self._rows) - 1)
        row: Vector = self._rows[(self._count - 1 - back) % len(self._rows)]
        return row


@dataclass(frozen=True, slots=True)
class Moment:
    """Where an attack stands: seconds since it began, step length, the plant's past, randomness of its own."""

    elapsed_s: float
    dt: float
    past: Past
    rng: np.random.Generator


class Effect(Protocol):
    """One running attack; made new for every run, so it may remember. Calls come in the order written here."""

    def process(self, moment: Moment, faults: Faults) -> None:
        """Break something before the physics move on."""
        ...

    def instruments(self, moment: Moment, measured: Vector) -> None:
        """Change in place what the instruments show."""
        ...

    def report(self, moment: Moment, reported: Vector) -> None:
        """Change in place what is sent to the gateway; NaN means: nothing is sent."""
        ...


class Passive:
    """An effect that does nothing; the base of those that act in one place only."""

    def process(self, moment: Moment, faults: Faults) -> None:
        """Nothing."""

    def instruments(self, moment: Moment, measured: Vector) -> None:
        """Nothing."""

    def report(self, moment: Moment, reported: Vector) -> None:
        """Nothing."""


class Break(Passive):
    """Does to the faults whatever ``act`` does, given the seconds since the start."""

    def __init__(self, act: Callable[[Faults, float], None]) -> None:
        self._act = act

    def process(self, moment: Moment, faults: Faults) -> None:
        self._act(faults, moment.elapsed_s)


class Offset(Passive):
    """Instruments ``tags`` show more by ``amount``, reached over ``ramp_s`` seconds; within their range."""

    def __init__(self, tags: tuple[str, ...], amount: float, ramp_s: float = 0.0) -> None:
        self._tags = tags
        self._amount = amount
        self._ramp_s = ramp_s

    def instruments(self, moment: Moment, measured: Vector) -> None:
        part = 1.0 if self._ramp_s <= 0.0 else min(1.0, moment.elapsed_s / self._ramp_s)
        for name in self._tags:
            tag, index = BY_NAME[name], INDEX[name]
            measured[index] = min(tag.high, max(tag.low, measured[index] + part * self._amount))


class Dead(Passive):
    """Instruments ``tags`` show the lowest value they can, as with a broken wire."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._tags = tags

    def instruments(self, moment: Moment, measured: Vector) -> None:
        for name in self._tags:
            measured[INDEX[name]] = BY_NAME[name].low


class Stuck(Passive):
    """Instruments ``tags`` keep showing what they showed when it began."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._indices = [INDEX[name] for name in tags]
        self._kept: Vector | None = None

    def instruments(self, moment: Moment, measured: Vector) -> None:
        if self._kept is None:
            self._kept = measured[self._indices].copy()
        measured[self._indices] = self._kept


class Swap(Passive):
    """Two instruments are connected to each other's cables."""

    def __init__(self, first: str, second: str) -> None:
        self._pair = [INDEX[first], INDEX[second]]

    def instruments(self, moment: Moment, measured: Vector) -> None:
        measured[self._pair] = measured[self._pair[::-1]]


class Noise(Passive):
    """Noise of ``deviation`` is added to the reports of ``tags``."""

    def __init__(self, tags: tuple[str, ...], deviation: float) -> None:
        self._tags = tags
        self._deviation = deviation

    def report(self, moment: Moment, reported: Vector) -> None:
        for name in self._tags:
            tag, index = BY_NAME[name], INDEX[name]
            noisy = reported[index] + self._deviation * moment.rng.standard_normal()
            reported[index] = min(tag.high, max(tag.low, noisy))


class Frozen(Passive):
    """The reports of ``tags`` stop changing, as when a PLC hangs and its last image is read again and again."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._indices = [INDEX[name] for name in tags]
        self._kept: Vector | None = None

    def report(self, moment: Moment, reported: Vector) -> None:
        if self._kept is None:
            self._kept = reported[self._indices].copy()
        reported[self._indices] = self._kept


class Delayed(Passive):
    """The reports of ``tags`` are those of ``delay_s`` ago: a slow link, or a replay of the plant's own past."""

    def __init__(self, tags: tuple[str, ...], delay_s: float) -> None:
        self._indices = [INDEX[name] for name in tags]
        self._delay_s = delay_s

    def report(self, moment: Moment, reported: Vector) -> None:
        row = moment.past.ago(round(self._delay_s / moment.dt))
        reported[self._indices] = row[self._indices]


class Silent(Passive):
    """Nothing is sent for ``tags``."""

    def __init__(self, tags: tuple[str, ...]) -> None:
        self._indices = [INDEX[name] for name in tags]

    def report(self, moment: Moment, reported: Vector) -> None:
        reported[self._indices] = np.nan


class Sequence(Passive):
    """Several effects in one attack; each begins ``after_s`` seconds into it."""

    def __init__(self, *parts: tuple[float, Effect]) -> None:
        self._parts = parts

    def process(self, moment: Moment, faults: Faults) -> None:
        for effect, at in self._begun(moment):
            effect.process(at, faults)

    def instruments(self, moment: Moment, measured: Vector) -> None:
        for effect, at in self._begun(moment):
            effect.instruments(at, measured)

    def report(self, moment: Moment, reported: Vector) -> None:
        for effect, at in self._begun(moment):
            effect.report(at, reported)

    def _begun(self, moment: Moment) -> list[tuple[Effect, Moment]]:
        return [
            (effect, Moment(moment.elapsed_s - after_s, moment.dt, moment.past, moment.rng))
            for after_s, effect in self._parts
            if moment.elapsed_s >= after_s
        ]
