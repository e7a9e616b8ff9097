"""All groups of sensors at a tick: what members expect, how surprised they are, what they learn.

::

    value ─► level ─┬─► own history      ─► residual / its usual spread ─► square ┐
                    ├─► shared history   ─► residual ─┬─► square ─────────────────┤
                    │                                 └─► mean of late ─► square ─┤  persistence
                    ├─► relation         ─► residual ─► square ───────────────────┤
                    └─► nearest prototype ─────────────► squared distance ────────┘

Shared history, relation and prototypes look at a group each (:mod:`edge_agent.companions.group`); all else concerns a
sensor by itself and is computed for those of all groups at once, side by side, which is what makes a thousand cheap.

What is learned is clipped narrowly, what is scored widely. Usual spreads are learned on ticks that the weights were not
fitted to, and what is learned has been normal for a while: see :class:`edge_agent.companions.companions.Companions`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.admission import GROUP
from edge_agent.companions.columns import LIMIT, SHORT_MEMORY, SPREADS_KNOWN, SQUARES, Columns
from edge_agent.companions.experts import EXPERTS, RELATED_LAGS
from edge_agent.companions.group import CLIP, Group
from edge_agent.companions.moments import LAGS
from edge_agent.companions.prototypes import LONG, SHORT
from edge_agent.companions.under_alarm import Moment

_WILD = 1e4  # of deviations, in what says how far a sensor usually moves
_SPREAD_FLOOR = 1e-2
_PERSISTENCE = 0.3  # weight of the newest residual in the mean of late (exponentially weighted moving average)
_OPEN_MINDED = 1_000.0  # rows known at which a tick that nobody vouches for counts half
_SEARCHED_AT_ONCE = 4  # groups; of more, half look for their nearest prototype on every other tick
_MOVED = 0.25  # deviations by which a mean, or share by which a deviation, may differ from what levels are stated in

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_SHARED = SQUARES.index("shared history")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tick may teach: deviations [S], hardly limited (``raw``, NaN where there is none) and limited with what
    is missing filled in; ``residual`` [4, S], NaN where there is none; the ``states`` [3 G] of groups that have one.

    ``stated``: where each group was, and which of its sensors, centres and spreads this is stated in. ``layout``: that
    of all groups.
    """

    raw: Floats
    deviation: Floats
    residual: Floats32
    states: Mapping[Group, Floats32]
    stated: Mapping[Group, tuple[slice, int]]
    layout: int

    def holds(self, group: Group) -> bool:
        """False where it is stated in what no longer holds."""
        return group in self.stated and self.stated[group][1] == group.statement


@dataclass(frozen=True, slots=True)
class Look:
    """``squares`` [4, S]: about 1 on normal data, NaN where nothing can be said. ``distance`` [S]: to a prototype.

    ``forecasts`` [3, S]: what each expert expected, in the sensors' units.
    """

    squares: Floats
    forecasts: Floats
    distance: Floats32


class Groups:
    """The groups, and their sensors (S) side by side."""

    def __init__(self) -> None:
        self._groups: list[Group] = []
        self._columns = Columns.fresh(np.zeros(0), np.zeros(0))
        self._own: Floats = np.zeros((LAGS + 1, 0))  # the groups' weights of the own history
        self._layout = 0
        self._ticks = 0

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def names(self) -> tuple[str, ...]:
        """All sensors, in the order of every array here."""
        return tuple(name for group in self._groups for name in group.names)

    @property
    def rows(self) -> float:
        """Normal ticks that are remembered, by the group that knows least."""
        return min((group.rows for group in self._groups), default=0.0)

    # -- scoring -----------------------------------------------------------------------------------------------

    def score(self, value: Floats, usable: Bools, fresh: Bools) -> tuple[Look, Seen]:
        """Look at one tick: ``value``, ``usable`` and ``fresh`` [S]; what is fresh is usable."""
        columns = self._columns
        ready = columns.heard >= LAGS
        columns.changes += fresh & np.isfinite(columns.last) & (value != columns.last)
        columns.last = np.where(fresh, value, columns.last)
        raw = np.where(usable, np.clip((value - columns.centre) / columns.spread, -_WILD, _WILD), np.nan)
        deviation = np.where(usable | ready, np.clip(raw, -LIMIT, LIMIT), 0.0)
        expected, deviation = self._expect(deviation, ready)
        residual = self._compare(deviation - expected, usable & ready, fresh & ready)
        deviation = np.clip(deviation, -LIMIT, LIMIT)
        columns.lags = np.concatenate((deviation[None], columns.lags[:-1]))
        columns.heard = np.minimum(columns.heard + 1, LONG)
        distance, states = self._distance(np.clip(deviation, -CLIP, CLIP).astype(np.float32))
        squares = np.where(columns.learned >= SPREADS_KNOWN, columns.squares, np.nan)
        look = Look(squares, columns.centre + columns.spread * expected, np.where(usable, distance, np.float32(np.nan)))
        stated = {group: (group.place, group.statement) for group in self._groups}
        return look, Seen(raw, deviation, residual, states, stated, self._layout)

    def relation(self, sensor: int) -> tuple[NDArray[np.int64], Floats, Floats]:
        """Sensors (positions [G]) of the group of ``sensor``, how much each weighs in its relation [G], and how far it
        moves what is expected of it [G], in its unit, as at the tick scored last."""
        group = next(group for group in self._groups if sensor < group.place.stop)
        near = RELATED_LAGS + 1
        weights = group.weights.relation[:-1, sensor - group.place.start].reshape(near, len(group.names))
        pull = (weights * np.clip(self._columns.lags[:near, group.place], -CLIP, CLIP)).sum(0)
        sensors = np.arange(group.place.start, group.place.stop)
        return sensors, np.abs(weights).sum(0), pull * self._columns.spread[sensor]

    def _expect(self, deviation: Floats, ready: Bools) -> tuple[Floats, Floats]:
        """Deviations [3, S] that are expected, NaN where that is not ``ready``, and ``deviation`` with what is missing
        (NaN) filled in with what the experts expect of it."""
        lags = self._columns.lags
        own = np.einsum("ls,ls->s", self._own[:LAGS], lags) + self._own[LAGS]
        expected = np.full((EXPERTS, len(deviation)), np.nan)
        expected[0, ready] = own[ready]
        near = np.concatenate((deviation[None], lags[:RELATED_LAGS]))
        limited = np.clip(near, -CLIP, CLIP)
        missing = np.isnan(deviation)
        gaps = bool(missing.any())
        for group in self._groups:
            place, weights = group.place, group.weights
            if not ready[place.start]:
                continue
            shared = expected[1, place] = weights.history(lags[:, place])
            if gaps and missing[place].any():
                hidden = missing[place]
                limited[0, place][hidden] = np.clip(shared[hidden], -CLIP, CLIP)
                deviation[place][hidden] = weights.related(limited[:, place])[hidden]
                limited[0, place] = np.clip(deviation[place], -CLIP, CLIP)
            expected[2, place] = weights.related(limited[:, place])
        return expected, deviation

    def _compare(self, residual: Floats, usable: Bools, fresh: Bools) -> Floats32:
        """Follow the squares, from what the experts' ``residual`` [3, S] is; residuals [4, S] to learn from."""
        columns = self._columns
        usual = np.sqrt(columns.variance) + _SPREAD_FLOOR
        newest = np.clip(residual[_SHARED] / usual[_SHARED], -LIMIT, LIMIT)
        columns.late = np.where(fresh, columns.late + _PERSISTENCE * (newest - columns.late), columns.late)
        residual = np.concatenate((residual, columns.late[None]))
        square = np.minimum((residual / usual) ** 2, columns.believable())
        columns.squares = np.where(usable, np.where(fresh, square, columns.squares), np.nan)
        return np.where(fresh, residual, np.nan).astype(np.float32)

    def _distance(self, level: Floats32) -> tuple[Floats32, dict[Group, Floats32]]:
        """Squared distance [S] to the nearest prototype of the group, NaN where there are too few, and the states."""
        ring, heard = self._columns.levels, self._columns.heard
        ring[self._ticks % LONG] = level
        self._ticks += 1
        short = ring[np.arange(self._ticks - SHORT, self._ticks) % LONG]
        state = np.stack((level, short.mean(0), ring.mean(0)))
        nearest = np.full(state.shape, np.nan, np.float32)
        states = {}
        many = len(self._groups) > _SEARCHED_AT_ONCE
        for number, group in enumerate(self._groups, self._ticks):
            if heard[group.place.start] >= LONG:
                states[group] = state[:, group.place].ravel()
                prototype = group.prototypes.nearest(states[group], search=not many or number % 2 == 0)
                if prototype is not None:
                    nearest[:, group.place] = prototype.reshape(3, -1)
        return np.asarray(((nearest - state) ** 2).mean(0), np.float32), states

    # -- learning ----------------------------------------------------------------------------------------------

    def learn(self, seen: Seen, remember: float, *, trusted: bool) -> None:
        """Take in a tick that turned out to be normal, but for groups that are no longer as they were.

        ``trusted``: known to be normal; any other counts the less, the more is known.
        """
        seen = self._as_now(seen)
        level = np.clip(seen.deviation, -CLIP, CLIP)
        weights = np.zeros(len(level))
        for group in self._groups:
            if not seen.holds(group):
                group.interrupted()
                continue
            weight = 1.0 if trusted else _OPEN_MINDED / (_OPEN_MINDED + group.rows)
            weights[group.place] = weight
            if group in seen.states:
                group.prototypes.learn(seen.states[group], remember, weight)
            group.append(level[group.place], weight, remember)
        self._columns.learn_spreads(seen.residual, weights)
        self._columns.learn_usual(slice(None), seen.raw[None], weights, remember)

    def pass_over(self, seen: Seen, remember: float) -> None:
        """A tick that is not sure to be normal: it only leads over to the next ones."""
        seen = self._as_now(seen)
        level = np.clip(seen.deviation, -CLIP, CLIP)
        for group in self._groups:
            if seen.holds(group):
                group.append(level[group.place], 0.0, remember)
            else:
                group.interrupted()

    def live_again(self, moments: Iterable[Moment], remember: float) -> None:
        """Learn ticks of the past that are known to be normal now. The stream goes on as if nothing had been."""
        names, now, ticks = self.names, self._columns, self._ticks
        self._columns = now.chosen(np.arange(len(names)))
        self._learn_runs(remember)
        last: int | None = None
        for moment in moments:
            if last is None or moment.tick != last + 1:
                self._columns.forget_recent(slice(None))
                self.interrupted()
            last = moment.tick
            _, seen = self.score(*moment.of(names))
            self.learn(seen, remember, trusted=True)
        self._learn_runs(remember)
        self.interrupted()
        self._columns, self._ticks = self._columns.with_recent_of(now), ticks
        for group in self._groups:
            group.hurry()

    def fit_some(self) -> None:
        """Fit one expert of one group, if any has learned enough; the others have their turn on the next ticks."""
        group = next((group for group in self._groups if group.fitting), None)
        if group is None:
            waiting = [group for group in self._groups if group.wants_fit]
            if not waiting:
                return
            group = max(waiting, key=lambda group: group.unfitted)
            self._begin_fit(group)
        self._fit_next(group)

    def consolidate(self, remember: float) -> None:
        """Take in all that was learned, and fit."""
        self._learn_runs(remember)
        for group in self._groups:
            self._fit(group)

    def fade(self, rows: float) -> None:
        """What comes is to be learned quickly: the past counts as ``rows`` rows at most."""
        for group in self._groups:
            group.fade(rows)
        self._columns.ticks = np.minimum(self._columns.ticks, rows)
        self._columns.learned = np.minimum(self._columns.learned, SHORT_MEMORY)

    def interrupted(self) -> None:
        """What comes next does not follow on what was learned last."""
        for group in self._groups:
            group.interrupted()

    def forget_recent(self) -> None:
        """The stream was interrupted: lags and means begin anew, what was learned stays."""
        self._columns.forget_recent(slice(None))
        for group in self._groups:
            group.interrupted()
            group.prototypes.interrupted()

    def _learn_runs(self, remember: float) -> None:
        for group in self._groups:
            group.learn_run(remember)

    def _as_now(self, seen: Seen) -> Seen:
        """``seen`` with the sensors where they are now; anything where its group was not there."""
        if seen.layout == self._layout:
            return seen
        places = np.full(len(self._columns.centre), -1, np.int64)  # -1: what is appended
        for group in self._groups:
            if seen.holds(group):
                place = seen.stated[group][0]
                places[group.place] = np.arange(place.start, place.stop)
        raw, deviation = np.append(seen.raw, np.nan)[places], np.append(seen.deviation, 0.0)[places]
        residual = np.pad(seen.residual, ((0, 0), (0, 1)), constant_values=np.nan)[:, places]
        return replace(seen, raw=raw, deviation=deviation, residual=residual)

    # -- fitting -----------------------------------------------------------------------------------------------

    def _fit(self, group: Group) -> None:
        self._begin_fit(group)
        while group.fitting:
            self._fit_next(group)

    def _begin_fit(self, group: Group) -> None:
        """Where levels are no longer what is usual, state everything anew first."""
        shift, factor = self._columns.usual(group.place)
        if (np.abs(shift) > _MOVED).any() or (np.abs(np.log(factor)) > _MOVED).any():
            self._restate(group, shift, factor)
        group.begin_fit()

    def _fit_next(self, group: Group) -> None:
        group.fit_next()
        self._own[:, group.place] = group.weights.own
        if not group.fitting:
            learned = self._columns.learned[:, group.place]
            np.minimum(learned, SHORT_MEMORY + 0.25 * group.rows, out=learned)

    def _restate(self, group: Group, shift: Floats, factor: Floats) -> None:
        group.restate(shift, factor)
        self._columns.restate(group.place, shift, factor)
        self._own[:, group.place] = group.weights.own

    # -- sensors -----------------------------------------------------------------------------------------------

    def add(self, names: tuple[str, ...], centre: Floats, spread: Floats, history: Floats, remember: float) -> None:
        """A new group, with the last normal readings of its sensors [T, G], NaN where there were none."""
        group = Group(names, len(self._groups))
        self._groups.append(group)
        self._columns = self._columns.joined(Columns.fresh(centre, spread))
        self._lay_out()
        raw = np.clip((history - centre) / spread, -_WILD, _WILD)
        self._columns.learn_usual(group.place, raw, np.ones(len(names)), remember)
        group.learn_history(np.clip(np.nan_to_num(raw), -CLIP, CLIP), np.ones(len(raw) - LAGS), remember)

    def admit(self, names: tuple[str, ...], centre: Floats, spread: Floats) -> bool:
        """Take sensors of which nothing else is known into the smallest group; False where there is no room."""
        group = min(self._groups, key=lambda group: len(group.names), default=None)
        if group is None or len(group.names) + len(names) > GROUP:
            return False
        fresh = Columns.fresh(centre, spread)
        fresh.ticks[:] = self._columns.ticks[group.place.start]
        end, count = group.place.stop, len(self._columns.centre)
        joined = self._columns.joined(fresh)
        self._columns = joined.chosen(
            np.concatenate((np.arange(end), np.arange(count, count + len(names)), np.arange(end, count)))
        )
        group.extend(names)
        self._lay_out()
        self._begin_anew(group)
        return True

    def keep(self, present: Container[str]) -> None:
        """Forget all sensors that are not ``present``."""
        left = {group: [i for i, name in enumerate(group.names) if name in present] for group in self._groups}
        changed = [group for group, which in left.items() if 0 < len(which) < len(group.names)]
        if not changed and all(left.values()):
            return
        places = [group.place.start + i for group, which in left.items() for i in which]
        self._columns = self._columns.chosen(np.array(places, np.int64))
        self._groups = [group for group, which in left.items() if which]
        for group in changed:
            group.keep(np.array(left[group], np.int64))
        self._lay_out()
        for group in changed:
            self._begin_anew(group)

    def _begin_anew(self, group: Group) -> None:
        """Other sensors are in the group than before."""
        self._columns.forget_recent(group.place)
        if group.rows:
            self._fit(group)

    def _lay_out(self) -> None:
        """Groups lie side by side, in their order."""
        self._layout += 1
        start = 0
        for group in self._groups:
            group.place = slice(start, start + len(group.names))
            start = group.place.stop
        self._own = np.concatenate([np.zeros((LAGS + 1, 0)), *(group.weights.own for group in self._groups)], axis=1)

    # -- saving ------------------------------------------------------------------------------------------------

    def export(self) -> list[dict[str, NDArray[Any]]]:
        """Everything learned of each group, for saving."""
        return [group.export() | self._columns.export(group.place) for group in self._groups]

    @classmethod
    def restored(cls, states: Iterable[Mapping[str, NDArray[Any]]]) -> Groups:
        """From what :meth:`export` gave. :raises KeyError, ValueError: it has another form."""
        groups = cls()
        for state in states:
            groups._restore(state)
        if len(set(groups.names)) != len(groups.names):
            raise ValueError("saved companions: a sensor is in two groups")
        return groups

    def _restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        group = Group.restored(state, len(self._groups))
        its = Columns.restored(state, len(group.names))
        its.ticks[:] = group.rows
        learned = its.learned.copy()
        self._groups.append(group)
        self._columns = self._columns.joined(its)
        self._lay_out()
        self._fit(group)
        self._columns.learned[:, group.place] = learned
