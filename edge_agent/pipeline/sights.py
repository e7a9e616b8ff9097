"""What patterns are matched against: the sensors of an incident and those near them, in the words of patterns.

::

    evidence (worst sensors, since when) ─► motion of each ─┐
    neighbours, commands ─► moved or not ───────────────────┼─► Scene
    copies (all sensors): still, repeated, late ────────────┘

At most ``_WORST`` sensors are looked into closely, so that a look costs the same however large the incident is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision.explain import OUTSTANDING, Evidence
from edge_agent.decision.motion import Readings, motion
from edge_agent.graph.snapshot import Snapshot
from edge_agent.patterns.sight import Scene, Sight
from edge_agent.patterns.words import Sign, quantity_of
from edge_agent.pipeline.copies import Copies
from edge_agent.verdict import SENSOR_MEMBERS, Finding, Scores

WORST = 8
_NEAR = 24  # further sensors that are seen because they are near
_TICKS = 240
_AS_USUAL = 4.0
_STATES = 4  # distinct whole numbers of a command that is switched
_BEFORE = 4  # ticks before the first mover stood out: what moved then belongs to it
_TOGGLES, _TOGGLE_TICKS, _TOGGLE_TIMES = 6, 60, 3.0
_SAME_TIME = 3  # ticks
_SELDOM, _LATELY = 0.02, 60  # share of the ticks before at which it was at that limit, and how many are looked at
_USUAL, _JUMP_TIMES = 0.99, 3.0  # quantile of a command's steps, and how many times that a jump is
_ONE_STEP, _WAY_TICKS, _LEAST_WAY = 0.7, 20, 6.0  # share of the way; usual steps that the way has to be
_SETTLED_TICKS, _SETTLED, _SOON = (
    8,
    0.15,
    60,
)  # speed as a share of that on the way; a tank may be empty later
_RESTLESS_TIMES, _LEAST_RESTLESS, _RESTLESS_TICKS, _TURNS = 3.0, 12, 30, 0.4
_SWAP = 0.2  # share of the step by which two swapped sensors may miss each other's place
_OWN, _RELATION = SENSOR_MEMBERS.index("own history"), SENSOR_MEMBERS.index("relation")


class Surroundings(Protocol):
    """What has to be known about sensors, by index in the current snapshot."""

    @property
    def monitored(self) -> NDArray[np.bool_]:
        """N flags: False for commands and other sensors that raise no incident themselves."""
        ...

    def unit(self, sensor: int) -> str | None:
        """Unit of its values."""
        ...

    def readings(self, sensors: NDArray[np.int64], ticks: int) -> NDArray[np.float64]:
        """The last values [T, M], oldest first; NaN where missing."""
        ...

    def area_of(self, sensor: int) -> str | None:
        """Its part of the plant, or the source it comes from where the user said nothing of parts."""
        ...

    def limits(self, sensor: int) -> tuple[float | None, float | None]:
        """Lowest and highest value that is possible."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """One tick, as far as patterns need it. ``thorough``: delays are looked for, too, which takes time."""

    snapshot: Snapshot
    scores: Scores
    around: Surroundings
    copies: Copies
    period_s: float
    thorough: bool = True


@dataclass(frozen=True, slots=True)
class Areas:
    """Which sensors (indices) are in the same part of the plant. ``of_sensor``: the area of each."""

    sensors: tuple[str, ...]
    of_sensor: tuple[str | None, ...]
    members: dict[str | None, tuple[int, ...]]

    @classmethod
    def of(cls, snapshot: Snapshot, around: Surroundings) -> Self:
        """As the user said it; where nothing was said, what comes from one source is one area."""
        areas = tuple(around.area_of(i) for i in range(len(snapshot)))
        members: dict[str | None, list[int]] = {}
        for i, area in enumerate(areas):
            members.setdefault(area, []).append(i)
        return cls(snapshot.sensors, areas, {area: tuple(found) for area, found in members.items()})

    def counts(self, which: Iterable[int]) -> dict[str | None, int]:
        """For each area, how many of ``which`` are in it."""
        found: dict[str | None, int] = {}
        for i in which:
            area = self.of_sensor[i]
            found[area] = found.get(area, 0) + 1
        return found


def scene_of(look: Look, areas: Areas, evidence: Sequence[Evidence]) -> Scene | None:
    """What is seen of a process incident with this ``evidence``, worst first; None where its sensors are gone."""
    index = {name: i for i, name in enumerate(look.snapshot.sensors)}
    evidence = [item for item in evidence if item.sensor in index]
    return _Watcher(look, areas, index).scene(evidence) if evidence else None


def scene_of_flag(look: Look, areas: Areas, sensors: Sequence[str], flag: str, since_tick: int) -> Scene | None:
    """What is seen of a data-quality incident: ``flag`` at all its sensors. None: patterns do not know the flag."""
    index = {name: i for i, name in enumerate(look.snapshot.sensors)}
    there = [name for name in sensors if name in index]
    if flag not in set(Sign) or not there:
        return None
    watcher, tick = _Watcher(look, areas, index), look.snapshot.tick
    run, lively = look.copies.still_since()
    beside = watcher.beside([index[name] for name in there], look.copies.still(run, lively))
    sights = (
        *(watcher.sight(index[name], {Sign(flag)}, since_tick) for name in there),
        *(watcher.sight(i, {Sign.STANDS_STILL}, tick - int(run[i]) + 1, out=False) for i in beside),
    )
    return Scene(tick, there[0], sights, areas.counts(np.flatnonzero(look.around.monitored).tolist()))


class _Watcher:
    def __init__(self, look: Look, areas: Areas, index: dict[str, int]) -> None:
        self._look = look
        self._areas = areas
        self._index = index

    def scene(self, evidence: Sequence[Evidence]) -> Scene:
        look = self._look
        first = min(evidence, key=lambda item: (item.first_tick, -item.score))
        run, lively = look.copies.still_since()
        signs: dict[int, set[Sign]] = {}
        since: dict[int, int] = {}
        for item in evidence[:WORST]:
            i = self._index[item.sensor]
            signs[i], since[i] = self._of(item, i), item.first_tick
        out = set(signs)
        self._note_swapped(evidence[:WORST], signs)
        near = self._near([self._index[item.sensor] for item in (first, *evidence[:4])])
        commands = [i for i in near if not look.around.monitored[i]]
        for i in commands:
            signs[i], since[i] = self._of_command(i, first.first_tick)
        self._note_copies(sorted({*out, *near}), run, lively, signs, since)
        sights = tuple(
            self.sight(i, found, since[i], out=i in out, command=not bool(look.around.monitored[i]))
            for i, found in signs.items()
        )
        return Scene(look.snapshot.tick, first.sensor, sights, self._areas.counts(np.flatnonzero(lively).tolist()))

    def beside(self, sensors: Sequence[int], which: NDArray[np.bool_]) -> list[int]:
        """Further sensors of the areas of ``sensors``, of those ``which``."""
        areas = dict.fromkeys(self._areas.of_sensor[i] for i in sensors)
        which = which & self._look.around.monitored  # commands may rest for long
        members = [i for area in areas for i in self._areas.members[area][:_NEAR] if which[i]]
        return [i for i in members if i not in sensors]

    def sight(self, i: int, signs: set[Sign], since: int, *, out: bool = True, command: bool = False) -> Sight:
        snapshot, around = self._look.snapshot, self._look.around
        near = frozenset(snapshot.sensors[j] for j in snapshot.neighbour[i].tolist() if j >= 0)
        name, quantity = snapshot.sensors[i], quantity_of(around.unit(i))
        return Sight(name, frozenset(signs), since, out, command, quantity, self._areas.of_sensor[i], near)

    def _of(self, item: Evidence, i: int) -> set[Sign]:
        values, since = self._readings(i, item.first_tick)
        signs = {Sign.ABOVE if item.seen > item.expected else Sign.BELOW}
        moved = motion(Readings(values, since, None, self._look.period_s))
        if moved is not None and moved.finding is not Finding.RESTLESS:  # looked for below, in what is left of it
            signs.add(Sign(moved.finding.value))
        members = self._look.scores.member_scores
        if members is not None and members[_OWN, i] <= _AS_USUAL:
            others = np.nan_to_num(members[[_RELATION, -1], i]).max()
            signs |= {Sign.OUTLIER} if others > OUTSTANDING else set()
        signs |= _way(values, since)
        if _restless(values, since):
            signs.add(Sign.RESTLESS)
        if self._at_limit(i, values, since):
            signs.add(Sign.AT_LIMIT)
        return signs

    def _readings(self, i: int, first_tick: int) -> tuple[NDArray[np.float64], int]:
        """The last readings of a sensor, and the index of ``first_tick`` in them."""
        values = self._look.around.readings(np.array([i], np.int64), _TICKS)[:, 0]
        return values, max(0, len(values) - 1 - (self._look.snapshot.tick - first_tick))

    def _at_limit(self, i: int, values: NDArray[np.float64], since: int) -> bool:
        low, high = self._look.around.limits(i)
        low = 0.0 if low is None else low
        value, before = float(self._look.snapshot.value[i]), values[max(0, since - _LATELY) : since]
        if not len(before):
            return False
        if value <= low:
            return bool(np.mean(before <= low) < _SELDOM)
        return high is not None and value >= high and bool(np.mean(before >= high) < _SELDOM)

    def _near(self, sensors: Sequence[int]) -> list[int]:
        """Neighbours of ``sensors`` and others of their areas, the nearest first."""
        snapshot, areas = self._look.snapshot, self._areas
        found = dict.fromkeys(int(j) for i in sensors for j in snapshot.neighbour[i] if j >= 0)
        rest: dict[int, None] = {}
        for area in dict.fromkeys(areas.of_sensor[i] for i in (*sensors, *found)):
            rest |= dict.fromkeys(areas.members[area][:_NEAR])
        return list(found | rest)[: _NEAR + len(found)]

    def _of_command(self, i: int, first_tick: int) -> tuple[set[Sign], int]:
        """What a command does, and since when."""
        values, at = self._readings(i, first_tick)
        tick, since = self._look.snapshot.tick, max(1, at - _BEFORE)
        steps = np.abs(np.diff(values[since - 1 :]))
        if not len(steps) or not np.isfinite(steps).any():
            return set(), first_tick
        moved_tick = tick - len(steps) + 1 + int(np.nanargmax(steps))
        known = values[np.isfinite(values)]
        distinct = np.unique(known)
        if len(distinct) <= _STATES and (distinct == np.round(distinct)).all():
            signs = _of_switch(known, since)
            return signs, first_tick if Sign.UNMOVED in signs else tick - len(steps) + 1 + int((steps > 0).argmax())
        usual = np.abs(np.diff(values[:since]))
        most = float(np.nanquantile(usual, _USUAL)) if np.isfinite(usual).any() else 0.0
        if float(np.nanmax(steps)) <= _JUMP_TIMES * most:
            return {Sign.UNMOVED}, first_tick
        place = since + int(np.nanargmax(steps))
        signs = {Sign.COMMANDED, Sign.JUMPS_UP if values[place] > values[place - 1] else Sign.JUMPS_DOWN}
        return signs | ({Sign.AT_LIMIT} if self._at_limit(i, values, since) else set()), moved_tick

    def _note_swapped(self, evidence: Sequence[Evidence], signs: dict[int, set[Sign]]) -> None:
        jumped = [item for item in evidence if {Sign.JUMPS_UP, Sign.JUMPS_DOWN} & signs[self._index[item.sensor]]]
        tick = self._look.snapshot.tick
        for one in jumped:
            for other in jumped:
                if one is other or abs(one.first_tick - other.first_tick) > _SAME_TIME:
                    continue
                pair = np.array([self._index[one.sensor], self._index[other.sensor]], np.int64)
                back = tick - min(one.first_tick, other.first_tick)
                values = self._look.around.readings(pair, back + _SAME_TIME + 1)
                if len(values) > back and _exchanged(values[0], values[-back - 1 :][: _SAME_TIME + 1]):
                    signs[int(pair[0])].add(Sign.SWAPPED)
                    signs[int(pair[1])].add(Sign.SWAPPED)

    def _note_copies(
        self,
        sensors: Sequence[int],
        run: NDArray[np.int64],
        lively: NDArray[np.bool_],
        signs: dict[int, set[Sign]],
        since: dict[int, int],
    ) -> None:
        copies, tick = self._look.copies, self._look.snapshot.tick
        still = copies.still(run, lively)
        for i in sensors:
            if still[i]:
                signs.setdefault(i, set()).add(Sign.STANDS_STILL)
                since[i] = tick - int(run[i]) + 1
        moving = [i for i in sensors if lively[i] and not still[i]]
        lags = copies.lags(np.array(moving, np.int64)).tolist() if self._look.thorough else [0] * len(moving)
        for i, lag in zip(moving, lags, strict=True):
            if lag:
                signs.setdefault(i, set()).add(Sign.LAGS)
                since.setdefault(i, tick)
        for i in moving:
            if Sign.LAGS not in signs.get(i, ()) and copies.repeats(i) is not None:
                signs.setdefault(i, set()).add(Sign.REPEATS)
                since.setdefault(i, tick)


def _way(values: NDArray[np.float64], since: int) -> set[Sign]:
    """Whether it went to where it is at once or in several steps, as its first ticks out of the usual show."""
    begin = max(0, since - 2)
    way = values[begin : since + _WAY_TICKS]
    before = np.abs(np.diff(values[:since]))
    if len(way) < 4 or not np.isfinite(way).all() or not len(before):
        return set()
    farthest = float(np.abs(way - way[0]).max())
    if farthest <= _LEAST_WAY * float(np.nanmedian(before)):
        return set()
    signs = {Sign.ABRUPT if np.abs(np.diff(way)).max() >= _ONE_STEP * farthest else Sign.GRADUAL}
    late, there = values[-_SETTLED_TICKS:], max(1, int(np.abs(way - way[0]).argmax()))
    if 2 * _SETTLED_TICKS <= len(values) - since <= _SOON and np.isfinite(late).all():
        speed = abs(float(late[-1] - late[0])) / (len(late) - 1)
        signs |= {Sign.SETTLED} if speed < _SETTLED * farthest / there else set()
    return signs


def _restless(values: NDArray[np.float64], since: int) -> bool:
    """To and fro, by the middle step: what is switched on and off has large steps, but few, and goes one way."""
    late, before = np.diff(values[since:])[-_RESTLESS_TICKS:], np.abs(np.diff(values[:since]))
    late, before = late[np.isfinite(late)], before[before > 0]
    if len(late) < _LEAST_RESTLESS or not len(before):
        return False
    turns = np.count_nonzero(late[1:] * late[:-1] < 0.0)
    return bool(turns >= _TURNS * len(late) and np.median(np.abs(late)) > _RESTLESS_TIMES * np.median(before))


def _of_switch(values: NDArray[np.float64], since: int) -> set[Sign]:
    changes = np.diff(values) != 0.0
    if not changes[max(0, since - 1) :].any():
        return {Sign.UNMOVED}
    signs = {Sign.SWITCHED}
    lately, before = changes[-_TOGGLE_TICKS:], changes[:-_TOGGLE_TICKS]
    usual = before.mean() if len(before) else 0.0
    if lately.sum() >= _TOGGLES and lately.mean() > _TOGGLE_TIMES * usual:
        signs.add(Sign.TOGGLES)
    return signs


def _exchanged(before: NDArray[np.float64], after: NDArray[np.float64]) -> bool:
    """Whether two sensors are where the other one was, in one of the rows ``after`` it."""
    step = abs(before[1] - before[0])
    missed = np.abs(after - before[::-1]).max(axis=1)
    return bool(step > 0.0 and missed.min() <= _SWAP * step)
