"""The companions of one plant: groups of sensors, their members' scores, and what may be learned when."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.companions.admission import Waiting, grouped
from edge_agent.companions.columns import SQUARES
from edge_agent.companions.combination import Combination
from edge_agent.companions.experts import EXPERTS
from edge_agent.companions.groups import Groups, Look, Seen
from edge_agent.companions.options import CompanionOptions
from edge_agent.companions.saved import numbers_in
from edge_agent.companions.under_alarm import Moment, UnderAlarm
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import MODEL, Scores

PROTOTYPE = "prototype"
MEMBERS = (*SQUARES, PROTOTYPE, MODEL)
_DISTANCE_FLOOR = 1e-4  # squared deviations; nearer than this is the same state
_ACCEPT_AFTER = 5_000  # ticks of one alarm after which what is seen is learned as the new normal
_ACCEPTED_WEIGHT = 2_000.0  # rows that the old normal then counts as at most
_SUSPICION_TICKS, _TOO_MUCH = 30.0, 0.3  # ticks, and share of them that may be suspicious
_MOST_WAITING = 200_000  # levels kept waiting, so that thousands of sensors do not need tens of megabytes

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What one tick may teach once it is known to have been normal."""

    seen: Seen
    levels: Floats
    suspicious: bool = False
    trusted: bool = False


class Companions:
    """Scores ticks beside the model, and learns from those that turn out to be normal.

    Call :meth:`score` and then :meth:`settle` once a tick.
    """

    def __init__(self, options: CompanionOptions) -> None:
        self._options = options
        self._groups = Groups()
        self._names: tuple[str, ...] = ()  # of the groups' sensors, and where they are in the snapshot
        self._rows = np.zeros(0, np.int64)
        self._sensors: tuple[str, ...] = ()
        self._candidates = Waiting()
        self._candidate_rows = np.zeros(0, np.int64)
        self._waiting: deque[_Lesson] = deque()
        self._lesson: _Lesson | None = None
        self._moment: Moment | None = None
        self._under_alarm = UnderAlarm()
        self._alarm_ticks = 0
        self._suspicion = 0.0
        self._heard = False
        self.combination = Combination(MEMBERS)

    def reconfigure(self, options: CompanionOptions) -> None:
        """Go on under other options. What was learned stays; `max_sensors` counts when sensors come or go."""
        self._options = options

    @property
    def sensors(self) -> int:
        """How many sensors have been taken in."""
        return len(self._rows) or len(self._groups.names)

    @property
    def heard(self) -> bool:
        """True once a companion has had a vote: from then on scores mean something else than the model's alone."""
        return self._heard

    def status(self) -> dict[str, Any]:
        """What people are told: how many sensors take part, what was learned, and who has a vote."""
        return {
            "sensors": self.sensors,
            "groups": len(self._groups),
            "rows": round(self._groups.rows),
            "weights": self.weights(),
        }

    def weights(self) -> dict[str, float]:
        """The vote of each member by name; 0 for one that has none."""
        weights = self.combination.weights
        return {name: round(float(weight), 3) for name, weight in zip(MEMBERS, weights, strict=True)}

    def score(self, snapshot: Snapshot, scores: Scores, counts: Bools) -> Scores:
        """``scores`` of the model with the members' opinions: per sensor the mean of all squares, and of the plant.

        ``counts`` [N]: sensors that take part in what is said of the plant.
        """
        if snapshot.sensors is not self._sensors:
            self._follow(snapshot.sensors)
        usable = snapshot.usable & np.isfinite(snapshot.value)
        fresh = usable & (snapshot.age == 0)
        if self._candidates.sensors and self._alarm_ticks == 0:
            self._candidates.note(snapshot.value[self._candidate_rows], usable[self._candidate_rows])
        rows = self._rows
        readings = snapshot.value[rows], usable[rows], fresh[rows]
        look, seen = self._groups.score(*readings)
        squares, distance, forecasts = self._spread_out(look, len(snapshot))
        levels = self._levels(squares, distance, scores, counts)
        self._lesson = _Lesson(seen, levels)
        self._moment = Moment(snapshot.tick, self._names, *readings, levels)
        if not self.heard:
            return scores
        return replace(
            scores,
            score=_joined(scores, squares),
            plant=self.combination.combined(levels),
            members=self.combination.surprise(levels),
            member_levels=self.combination.relative(levels),
            member_scores=np.concatenate((squares, np.where(scores.valid, scores.score, np.nan)[None])),
            forecasts=forecasts,
        )

    def relations(self, sensor: int, most: int) -> list[tuple[int, float, float]]:
        """The ``most`` sensors (indices) that the relation leans on most for ``sensor``, as at the tick just scored.

        With each its share of all weights, and by how much its reading moves what is expected, in the sensor's unit.
        """
        place = np.flatnonzero(self._rows == sensor)
        if not len(place):
            return []
        others, weight, pull = self._groups.relation(int(place[0]))
        heaviest = [k for k in np.argsort(-weight, kind="stable")[:most].tolist() if weight[k] > 0]
        return [(int(self._rows[others[k]]), float(weight[k] / weight.sum()), float(pull[k])) for k in heaviest]

    def settle(
        self,
        snapshot: Snapshot,
        *,
        alarm: bool,
        suspicious: bool,
        delay: int,
        trusted: bool = False,
        incident: str | None = None,
    ) -> None:
        """What was decided on the tick just scored. Ticks teach ``delay`` ticks later, unless an alarm comes first.

        ``suspicious`` ticks teach nothing, nor do those around them while there are many. ``trusted``: the tick is
        known to be normal; any other counts the less, the more is known: a fault that nobody notices must not become
        normal as fast as a history has. ``incident``: id of the one that the alarm is about, for :meth:`judged`.
        """
        if self._moment is not None and not trusted:
            self._under_alarm.note(self._moment, incident if alarm else None)
        self._alarm_ticks = self._alarm_ticks + 1 if alarm else 0
        accepted = self._alarm_ticks >= _ACCEPT_AFTER
        if self._alarm_ticks == _ACCEPT_AFTER:
            self.plant_changed()
        suspicious = suspicious and not accepted
        self._suspicion += (suspicious - self._suspicion) / _SUSPICION_TICKS
        if alarm and not accepted:
            self._drop_waiting()
        elif self._lesson is not None:
            doubtful = suspicious or (self._suspicion > _TOO_MUCH and not accepted)
            self._wait(replace(self._lesson, suspicious=doubtful, trusted=trusted), 0 if accepted else delay)
        self._lesson = None
        self._admit(snapshot)
        self._groups.fit_some()

    def judged(self, incident: str, members: Mapping[str, float], *, false_alarm: bool) -> None:
        """An operator said what an incident was, at which members were so surprised.

        What was seen under a false alarm is learned, as far as it is kept; under a true one it is given up.
        """
        self.combination.feedback(members, false_alarm=false_alarm)
        moments = self._under_alarm.taken(incident)
        if false_alarm and moments:
            self._groups.live_again(moments, self._options.remember)
            for moment in moments:
                self.combination.learn(moment.levels)

    def consolidate(self) -> None:
        """A history known to be normal has ended: take in all of it now."""
        while self._waiting:
            self._learn(self._waiting.popleft())
        self._groups.consolidate(self._options.remember)

    def plant_changed(self) -> None:
        """The plant runs differently from now on: learn it, but do not forget at once how it ran before."""
        self._groups.fade(_ACCEPTED_WEIGHT)
        self.combination.settle()

    def forget_recent(self) -> None:
        """The stream was interrupted: what carries over ticks begins anew, what was learned stays."""
        self._groups.forget_recent()
        self._waiting.clear()
        self._lesson = None
        self._under_alarm.interrupted()
        self._alarm_ticks, self._suspicion = 0, 0.0

    def forget_model(self) -> None:
        """Another model scores from now on: what was usual of the last one means nothing."""
        self.combination.forget(MODEL)
        self._under_alarm = UnderAlarm()  # levels of the last model
        self._drop_waiting()
        self._lesson = None

    def export(self) -> dict[str, NDArray[Any]]:
        """Everything learned, for saving."""
        state = {f"combination.{name}": array for name, array in self.combination.export().items()}
        state["groups"] = np.array(len(self._groups))
        for place, group in enumerate(self._groups.export()):
            state |= {f"group{place}.{name}": array for name, array in group.items()}
        return state

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it has another form; nothing changed."""
        combination = Combination(MEMBERS)
        combination.restore(_part(state, "combination."))
        count = int(numbers_in(state, "groups", (), least=0.0))
        groups = Groups.restored(_part(state, f"group{place}.") for place in range(count))
        self._groups, self.combination = groups, combination
        self._heard = self._companion_votes()
        self._sensors, self._rows = (), np.zeros(0, np.int64)
        self._candidates = Waiting()
        self._waiting.clear()
        self._lesson = None
        self._under_alarm = UnderAlarm()

    # -- scoring -----------------------------------------------------------------------------------------------

    def _spread_out(self, look: Look, count: int) -> tuple[Floats, Floats, Floats]:
        """Squares [4, N], distances [N] and forecasts [3, N] of all sensors; NaN where nothing is said."""
        squares, distance = np.full((len(SQUARES), count), np.nan), np.full(count, np.nan)
        forecasts = np.full((EXPERTS, count), np.nan)
        squares[:, self._rows], distance[self._rows] = look.squares, look.distance
        forecasts[:, self._rows] = look.forecasts
        return squares, distance, forecasts

    def _levels(self, squares: Floats, distance: Floats, scores: Scores, counts: Bools) -> Floats:
        model = np.where(scores.valid, scores.score, np.nan)
        surprise = np.concatenate((squares, distance[None] + _DISTANCE_FLOOR, model[None]))
        there = counts & np.isfinite(surprise)
        count = there.sum(1)
        total = np.where(there, surprise, 0.0).sum(1)
        return self.combination.levels(np.where(count > 0, total / np.maximum(count, 1), np.nan))

    # -- learning ----------------------------------------------------------------------------------------------

    def _wait(self, lesson: _Lesson, delay: int) -> None:
        self._waiting.append(lesson)
        while len(self._waiting) > min(delay, _MOST_WAITING // max(1, self.sensors)):
            self._learn(self._waiting.popleft())

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._groups.interrupted()

    def _learn(self, lesson: _Lesson) -> None:
        if lesson.suspicious:
            self._groups.pass_over(lesson.seen, self._options.remember)
            return
        self._groups.learn(lesson.seen, self._options.remember, trusted=lesson.trusted)
        self.combination.learn(lesson.levels)
        self._heard = self._heard or self._companion_votes()

    def _companion_votes(self) -> bool:
        return bool((self.combination.weights[: MEMBERS.index(MODEL)] > 0).any())

    # -- sensors -----------------------------------------------------------------------------------------------

    def _follow(self, sensors: tuple[str, ...]) -> None:
        """Sensors came, left or changed place."""
        self._sensors = sensors
        self._groups.keep(set(sensors) if len(sensors) <= self._options.max_sensors else ())
        self._regroup()

    def _regroup(self) -> None:
        """Groups hold other sensors than before: find everybody again."""
        place = {name: i for i, name in enumerate(self._sensors)}
        self._names = self._groups.names
        self._rows = np.array([place[name] for name in self._names], np.int64)
        few = len(self._sensors) <= self._options.max_sensors
        grouped_already = set(self._names)
        free = tuple(name for name in self._sensors if few and name not in grouped_already)
        self._candidates.follow(free)
        self._candidate_rows = np.array([place[name] for name in free], np.int64)
        self._lesson = None

    def _admit(self, snapshot: Snapshot) -> None:
        """Take in candidates of which enough is known: into groups with room, or as new groups."""
        if not self._candidates.due:
            return
        ready, centre, spread = self._candidates.ready()
        if not len(ready):
            return
        names, history = self._candidates.sensors, self._candidates.history()
        if not self._groups.admit(tuple(names[i] for i in ready), centre, spread):
            for members in grouped(history[:, ready], _among(snapshot.neighbour, self._candidate_rows[ready])):
                chosen = ready[members]
                named = tuple(names[i] for i in chosen)
                self._groups.add(named, centre[members], spread[members], history[:, chosen], self._options.remember)
        self._regroup()


def _joined(scores: Scores, squares: Floats) -> NDArray[np.float32]:
    """Per sensor the mean over all that have something to say; 0 where the model's score is not valid."""
    there = np.isfinite(squares)
    total = np.where(there, squares, 0.0).sum(0) + scores.score
    return np.where(scores.valid, total / (there.sum(0) + 1.0), 0.0).astype(np.float32)


def _among(neighbour: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Neighbours [W, K] of the sensors at ``rows`` as positions in ``rows``; -1 for those that are elsewhere."""
    place = np.full(len(neighbour) + 1, -1, np.int64)  # the last one is for index -1
    place[rows] = np.arange(len(rows))
    return place[neighbour[rows]]


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
