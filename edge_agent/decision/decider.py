"""The decision of one tick: what is usual for each sensor, statistics, p-value, incidents. Pure, with own state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.decision.bereft import Bereft
from edge_agent.decision.budget import Budget
from edge_agent.decision.calibration import Calibration
from edge_agent.decision.facts import SensorFacts
from edge_agent.decision.lifecycle import Standing
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.persistence import Persistence
from edge_agent.decision.process import ProcessIncidents
from edge_agent.decision.quality import QualityIncidents
from edge_agent.decision.returning import Returning
from edge_agent.decision.sensor_tails import SensorTails
from edge_agent.decision.statistics import LASTING, PLANT, WIDTH, PlantStatistics
from edge_agent.decision.stretch import Stretch
from edge_agent.decision.suspects import Suspects
from edge_agent.graph.snapshot import Snapshot
from edge_agent.verdict import Incident, IncidentState, Scores

_UNSUSPICIOUS = 0.003  # ticks less likely than this do not change what is usual for a sensor
_TAILS_TICKS = 100  # for the sensors' tails, when nothing else has to settle
_LEARN_AFTER = 5  # times `detect_within`: how long a tick waits before it counts as normal
_REST = 20  # ticks after a start until all members of the ensemble have their means of the last ticks again
_OFTENEST = 0.01  # events a tick; a budget of hours or days must not make every tick an alarm where ticks are long
_MOST_WAITING = 1_000_000  # scores kept waiting, so that thousands of sensors do not need tens of megabytes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one tick may teach once it is known not to have led to an alarm."""

    sensors: tuple[str, ...]
    raw: NDArray[np.float32]
    mean: NDArray[np.float32]
    valid: NDArray[np.bool_]
    row: NDArray[np.float64]
    p_value: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided at one tick.

    ``plant_score``: smoothed log score of the plant, None while no sensor could be scored; about 0 is normal.
    ``p_value``: None then too, and while warming up. ``alarm``: an incident of the process is open or opening.
    ``calibrated_p``: the p-value before it was made honest. ``incident``: id of the process incident active last.
    ``changed``: incidents to tell people about.
    ``maintenance``: a maintenance window is open, so nothing was learned.
    """

    plant_score: float | None
    p_value: float | None
    alarm: bool
    incident: str | None
    changed: tuple[Incident, ...]
    warming_up: bool
    maintenance: bool = False
    calibrated_p: float | None = None


class Decider:
    """Turns scores into decisions under the budget in ``options``."""

    calibration: Calibration
    tails: SensorTails
    lasting_tails: SensorTails
    _persistence: Persistence
    _statistics: PlantStatistics
    _suspects: Suspects
    _returning: Returning
    _bereft: Bereft
    _stretch: Stretch

    def __init__(self, options: DecisionOptions, period_s: float, new_id: Callable[[int], str]) -> None:
        self._needed = options.calibration_ticks
        self._period_s = period_s
        self._delay = max(60, round(_LEARN_AFTER * options.detect_within / period_s))
        self._waiting: deque[_Seen] = deque()
        self._settling = 0
        self._persistence_ticks = round(min(max(options.detect_within / period_s / 3, 5), 120))
        self._rest = 0
        self.budget = Budget(self._rate(options), period_s)
        self.process = ProcessIncidents(options, period_s, new_id, self.budget)
        self.quality = QualityIncidents(options, period_s, new_id)
        self.recalibrate()

    @property
    def progress(self) -> float:
        """Share of the normal ticks seen that are needed before anything is decided, 0 to 1."""
        return (min(self._settling, self._needed // 2) / (self._needed // 2) + 2 * self.calibration.progress) / 3

    @property
    def delay(self) -> int:
        """Ticks that a tick waits before it counts as normal; 0 while nothing can be decided yet."""
        return self._delay if self.calibration.ready else 0

    def decide(
        self,
        snapshot: Snapshot,
        scores: Scores,
        facts: SensorFacts,
        *,
        degraded: bool = False,
        alarmed: bool = False,
        trusted: bool = False,
    ) -> Decision:
        """Decide on one tick. Normal ticks are learned from, those under alarm (``alarmed``: another's) never.

        ``trusted``: the tick is known to be normal, whatever it looks like.
        """
        changed = self.quality.update(snapshot, facts)
        self.tails.align(snapshot.sensors)
        self.lasting_tails.align(snapshot.sensors)
        raw = scores.score
        settled = self._returning.settled(snapshot)
        score = self.tails.usual(raw) * self._bereft.allowance(snapshot, scores)
        scores = replace(scores, score=score, valid=scores.valid & settled)
        mean = self._persistence.update(snapshot.sensors, scores.score, scores.valid)
        lasting = self.lasting_tails.usual(mean)
        row = self._statistics.update(scores.score, lasting, scores.valid & facts.monitored, scores.plant)
        if row is None:
            alarm, incident = self.process.open_count > 0, self.process.latest_id()
            return Decision(None, None, alarm, incident, tuple(changed), not self.calibration.ready)
        self._suspects.update(snapshot, scores, mean, lasting, facts.monitored)
        promised = self.calibration.judge(row)
        p_value, event_rate = (None, None) if promised is None else self._stretch.honest(promised)
        plant_score = float(row[PLANT])
        self._rest = max(0, self._rest - 1)
        if self._rest or trusted:
            event_rate = None
        if event_rate is not None:
            self.budget.watched()
        alarm, incidents = self.process.update(
            snapshot, scores, self._suspects, p_value, event_rate, plant_score, facts, degraded, self._fresh_p(row)
        )
        if promised is not None and (event_rate is not None or trusted) and not (alarm or alarmed):
            self._stretch.learn(promised.p_value)
        self._settle(incidents)
        doubt = 1.0 if promised is None or trusted else promised.p_value
        seen = _Seen(snapshot.sensors, raw, mean, scores.valid, row, doubt)
        self._learn(seen, alarm=(alarm or alarmed) and not trusted)
        changed += incidents
        incident = self.process.latest_id()
        calibrated_p = None if promised is None else promised.p_value
        warming_up = not self.calibration.ready
        return Decision(plant_score, p_value, alarm, incident, tuple(changed), warming_up, calibrated_p=calibrated_p)

    def calibrate(self, sensors: tuple[str, ...], scores: NDArray[np.float32]) -> None:
        """Learn from per-sensor scores [T, S] of held-out normal data that came with a bundle."""
        for _ in self.calibrating(sensors, scores):
            pass

    def calibrating(self, sensors: tuple[str, ...], scores: NDArray[np.float32]) -> Iterator[None]:
        """:meth:`calibrate` in short steps; nothing is decided in between."""
        self.tails.load(sensors, scores)
        yield
        valid = np.isfinite(scores) & (scores > 0)
        persistence = Persistence(self._persistence_ticks)
        usual, means = [], []
        for row, there in zip(scores, valid, strict=True):
            usual.append(self.tails.usual(np.where(there, row, 0.0)))
            means.append(persistence.update(sensors, usual[-1], there))
            yield
        self.lasting_tails.load(sensors, np.array(means))
        yield
        statistics = PlantStatistics()
        rows = []
        for row, mean, there in zip(usual, means, valid, strict=True):
            found = statistics.update(row, self.lasting_tails.usual(mean), there, None)
            if found is not None:
                rows.append(found)
            yield
        if rows:
            self._settling = self._needed
            self.calibration.load(np.array(rows))

    def export(self) -> dict[str, NDArray[Any]]:
        """What was learned about normal scores, for saving."""
        tails = {f"tails.{name}": array for name, array in self.tails.export().items()}
        lasting = {f"lasting.{name}": array for name, array in self.lasting_tails.export().items()}
        account, sensors = self.budget.export()
        return {
            "rows": self.calibration.rows(),
            "stretch": np.array(self._stretch.export()),
            "budget": np.array(account),
            "budget.names": np.array(list(sensors), dtype=np.str_),
            "budget.margins": np.array(list(sensors.values()), dtype=np.float64),
            **tails,
            **lasting,
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over what :meth:`export` gave. :raises KeyError, ValueError: it is of another form."""
        rows = np.asarray(state["rows"], dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != WIDTH:
            raise ValueError(f"saved calibration: got shape {rows.shape}, expected [T, {WIDTH}]")
        for tails, prefix in ((self.tails, "tails."), (self.lasting_tails, "lasting.")):
            tails.restore({name: state[prefix + name] for name in ("names", "counts", "total")})
        if "budget" in state:
            names = [str(name) for name in state["budget.names"].ravel()]
            margins = dict(zip(names, state["budget.margins"].ravel().tolist(), strict=True))
            self.budget.restore(state["budget"].ravel().tolist(), margins)
            self._stretch.restore(state["stretch"].ravel().tolist())
        self.calibration.load(rows)
        self._settling, self._rest = self._needed, _REST

    def reconfigure(self, options: DecisionOptions) -> None:
        """Go on under other options from the next tick on. Those that what was learned depends on (`detect_within`,
        `calibration_ticks`) stay as they are."""
        self.budget.allow(self._rate(options))
        self.process.reconfigure(options)
        self.quality.reconfigure(options)

    def judge_as(self, other: Decider) -> None:
        """Take over what ``other`` has learned of scores, and its recent ones. Incidents stay as they are."""
        self.calibration, self.tails, self.lasting_tails = other.calibration, other.tails, other.lasting_tails
        self._persistence, self._statistics, self._suspects = other._persistence, other._statistics, other._suspects
        self._bereft, self._stretch = other._bereft, other._stretch
        self._returning, self._settling, self._waiting = other._returning, other._settling, other._waiting

    def recalibrate(self, *, already_settled: bool = False) -> None:
        """Forget the calibration: scores of another detector mean something else. Open incidents stay open.

        ``already_settled``: the detector is the one that has settled so far, only what is made of its scores is new.
        """
        self.calibration = Calibration(WIDTH, self._needed)
        self.tails = SensorTails()
        self.lasting_tails = SensorTails(least=0.1)
        self._persistence = Persistence(self._persistence_ticks)
        longest = self._needed // 2 - _TAILS_TICKS
        self._settling = max(0, min(self._settling, longest)) if already_settled else 0
        self._waiting.clear()
        self._statistics = PlantStatistics()
        self._suspects = Suspects()
        self._returning = Returning()
        self._bereft = Bereft()
        self._stretch = Stretch()

    def new_run(self, snapshot: Snapshot, facts: SensorFacts) -> tuple[Incident, ...]:
        """The stream starts anew: what carries over ticks is forgotten, the calibration stays."""
        self._statistics.reset()
        self._suspects.reset()
        self._persistence.reset()
        self._returning.reset()
        self._rest = _REST
        return (*self.process.close_all(snapshot, facts), *self.quality.close_all(snapshot))

    @property
    def stretch(self) -> float:
        """What surprise is divided by at present, so that p-values are honest; 1 is nothing."""
        return self._stretch.factor

    def standing(self, incident_id: str) -> Standing | None:
        """What there is to say of an incident that is open or has just closed, beyond what is told."""
        return self.process.standing(incident_id) or self.quality.standing(incident_id)

    def _rate(self, options: DecisionOptions) -> float:
        return min(options.false_alarms * self._period_s, _OFTENEST)

    def _fresh_p(self, row: NDArray[np.float64]) -> float | None:
        """P-value of the last five ticks alone, while something is open."""
        if not self.process.open_count:
            return None
        fresh = row.copy()
        fresh[LASTING] = -np.inf
        found = self.calibration.judge(fresh)
        return None if found is None else self._stretch.honest(found).p_value

    def _settle(self, changed: list[Incident]) -> None:
        """Sensors of an incident that has closed are normal again; else what lasted would open it anew."""
        for incident in changed:
            standing = self.process.standing(incident.id)
            if incident.state is IncidentState.CLOSED and standing is not None:
                self._persistence.settle(set(standing.sensors) - self.process.involved())

    def _learn(self, seen: _Seen, *, alarm: bool) -> None:
        """Normal ticks teach what is normal. What builds up to an alarm must not be among them, so they wait first."""
        if alarm:
            self._waiting.clear()
            return
        if not self.calibration.ready:
            self._learn_now(seen)
            return
        self._waiting.append(seen)
        while len(self._waiting) > max(1, min(self._delay, _MOST_WAITING // max(1, len(seen.raw)))):
            self._learn_now(self._waiting.popleft())

    def _learn_now(self, seen: _Seen) -> None:
        if seen.sensors is self.tails.sensors and seen.p_value >= _UNSUSPICIOUS:
            self.tails.learn(seen.raw, seen.valid)
            self.lasting_tails.learn(seen.mean, seen.valid)
        self._settling += 1
        # Rows made while the sensors' tails were still unknown would look worse than the plant ever is.
        if self._settling > self._needed // 2:
            self.calibration.learn(seen.row)
