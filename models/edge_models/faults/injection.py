"""Put faults of one kind into normal readings, at random places, and say where."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from edge_models.faults.habits import Flags, Habits, Values, carried_forward
from edge_models.faults.kinds import CATALOGUE, KINDS, Kind, Needs, Stretch

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: rows ``start`` to ``stop`` (exclusive), the first and last of which differ from the clean readings.

    ``sensors``: ascending columns. ``severity``: as drawn or given, in the unit of the kind (spreads, mostly).
    """

    kind: str
    start: int
    stop: int
    sensors: tuple[int, ...]
    severity: float


@dataclass(frozen=True, slots=True)
class Injected:
    """``values`` [T, N] with the faults in them, ``label`` [T] of 0 and 1 (1 from start to stop of each), ``faults``.

    In between, a fault may leave a reading as it was: an intermittent one does by nature.
    """

    values: Values
    label: NDArray[np.int8]
    faults: tuple[Fault, ...]


def inject(
    values: Values,
    kind: str,
    generator: np.random.Generator,
    *,
    normal: Values | None = None,
    episodes: int | None = None,
    length: tuple[int, int] = (24, 60),
    gap: tuple[int, int] = (150, 300),
    severity: float | None = None,
) -> Injected:
    """Faults of one kind, one after another, in a copy of ``values`` [T, N]; NaN is missing and stays missing.

    ``normal`` [M, N]: readings that spreads, ranges and relations are measured on, and that replays are taken from;
    ``values`` themselves where it is None. ``episodes``: at most so many, as many as fit where None. ``length`` and
    ``gap``: ticks of a fault and of calm before it, drawn evenly from the first to before the second; a spike lasts
    1 to 3 ticks, a stealthy attack four times ``length``. ``severity``: drawn with a uniform logarithm from
    ``SEVERITIES[kind]`` where None.

    The same generator state gives the same faults. There may be fewer faults than fit, or none: sensors on which the
    kind would be invisible are not chosen, and a place where nothing changes is passed over. Raises
    :class:`ValueError` for an unknown kind, readings of the wrong shape, without values or too few, and for settings
    that mean nothing.
    """
    spec = _kind(kind)
    _check_settings(kind, spec, length, gap, severity)
    ticks = _ticks(spec, length)
    values = np.asarray(values, np.float64)
    reference = values if normal is None else np.asarray(normal, np.float64)
    _check_readings("values", values, gap[1] + ticks[1], "one gap and one fault")
    _check_readings("normal", reference, ticks[1], "one fault")
    if reference.shape[1] != values.shape[1]:
        raise ValueError(f"normal: got {reference.shape[1]} sensors, expected {values.shape[1]} as in values")
    injector = _Injector(kind, spec, values, Habits.of(reference), normal is not None, severity, generator)
    return injector.run(episodes, ticks, gap)


class _Injector:
    """One call of :func:`inject`: clean readings on one side, faulty ones on the other."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        values: Values,
        habits: Habits,
        separate: bool,
        severity: float | None,
        generator: np.random.Generator,
    ) -> None:
        self._name, self._kind, self._habits, self._generator = name, kind, habits, generator
        self._values = values
        self._clean = carried_forward(values, habits.mean)
        self._separate, self._severity = separate, severity
        self._eligible = np.flatnonzero(_eligible(kind.needs, habits))

    def run(self, episodes: int | None, ticks: tuple[int, int], gap: tuple[int, int]) -> Injected:
        faulty, label = self._values.copy(), np.zeros(len(self._values), np.int8)
        faults: list[Fault] = []
        start = int(self._generator.integers(*gap))
        while start + ticks[1] <= len(label) and len(self._eligible) >= self._kind.group:
            if len(faults) == episodes:
                break
            stop = start + int(self._generator.integers(*ticks))
            fault = self._put(start, stop, faulty)
            if fault is not None:
                label[fault.start : fault.stop] = 1
                faults.append(fault)
            start = stop + int(self._generator.integers(*gap))
        return Injected(faulty, label, tuple(faults))

    def _put(self, start: int, stop: int, faulty: Values) -> Fault | None:
        """Write a fault into ``faulty``, on sensors and at a severity that show; None where none was found."""
        for _ in range(_TRIES):
            severity, sensors = self._draw_severity(), self._draw_sensors()
            earlier = self._habits.readings if self._separate else self._clean[:start]
            if len(earlier) < stop - start:
                return None
            stretch = Stretch(self._clean, earlier, self._habits, start, stop, sensors, severity)
            before = self._values[start:stop, list(sensors)]
            after = np.where(np.isfinite(before), self._kind.apply(stretch, self._generator), before)
            changed = (after != before) & np.isfinite(before)
            if changed.any(0).all() and self._shows(after - before, stretch):
                faulty[start:stop, list(sensors)] = after
                (rows,) = np.nonzero(changed.any(1))
                return Fault(self._name, start + int(rows[0]), start + int(rows[-1]) + 1, sensors, severity)
        return None

    def _shows(self, change: Values, stretch: Stretch) -> bool:
        if not self._kind.least:
            return True
        square = np.where(np.isfinite(change), (change / stretch.spread) ** 2, 0.0)
        return bool((np.sqrt(square.mean(0)) >= stretch.severity).all())

    def _draw_severity(self) -> float:
        if self._severity is not None:
            return self._severity
        return float(np.exp(self._generator.uniform(*np.log(self._kind.severity))))

    def _draw_sensors(self) -> tuple[int, ...]:
        """One sensor, or one with those that move most like it, or (a pair) with any other one."""
        size = max(self._kind.group, round(self._kind.share * len(self._eligible)))
        if not self._kind.share:
            return tuple(sorted(self._generator.choice(self._eligible, size, replace=False).tolist()))
        first = int(self._generator.choice(self._eligible))
        alike = np.abs(self._habits.correlation(first))[self._eligible]
        alike[self._eligible == first] = np.inf
        return tuple(sorted(self._eligible[np.argsort(-alike, kind="stable")[:size]].tolist()))


def _eligible(needs: Needs, habits: Habits) -> Flags:
    if needs is Needs.HEARD:
        return habits.heard
    return habits.moving if needs is Needs.MOVING else habits.moving & habits.related()


def _ticks(kind: Kind, length: tuple[int, int]) -> tuple[int, int]:
    return kind.ticks or (kind.longer * length[0], kind.longer * length[1])


def _kind(name: str) -> Kind:
    if name not in CATALOGUE:
        near = get_close_matches(name, KINDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(KINDS)}"
        raise ValueError(f"kind: got {name!r}, which is no kind of fault; {hint}")
    return CATALOGUE[name]


def _check_settings(
    name: str, kind: Kind, length: tuple[int, int], gap: tuple[int, int], severity: float | None
) -> None:
    for setting, (low, high) in (("length", length), ("gap", gap)):
        if not 1 <= low < high:
            raise ValueError(f"{setting}: got {(low, high)}, expected (fewest, beyond the most) ticks from 1 on")
    if severity is not None and not (np.isfinite(severity) and 0.0 < severity <= kind.most):
        limit = f" and at most {kind.most:g} ({kind.unit})" if np.isfinite(kind.most) else f" ({kind.unit})"
        raise ValueError(f"severity of {name}: got {severity}, expected a number above 0{limit}")


def _check_readings(name: str, values: Values, least: int, what: str) -> None:
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"{name}: got shape {values.shape}, expected [ticks, sensors]")
    if len(values) < least:
        raise ValueError(
            f"{name}: got {len(values)} ticks, expected at least {least} for {what};"
            " give more readings, or a shorter length and gap"
        )
    if not np.isfinite(values).any():
        raise ValueError(f"{name}: every reading is missing, expected readings of normal operation")
