"""The life of an incident, from what generators find to what people are told. Pure.

Generators (``process``, ``quality``, the user's rules) open, update and close incidents by what they see. One stage
behind all of them decides what of it is told::

    generator                    lifecycle                                          people
    OPEN    ──► held for min_duration (gone again: never told) ──────────────────► open
            ──► same sensors as one closed within cooldown: that one again ──────► open, reopened + 1
            ──► the n-th within flap_within: flapping, told once ────────────────► open, flapping
    UPDATED ──► areas, acknowledgement, suppression put in ──────────────────────► updated
            ──► flapping: told only when its severity rises
    CLOSED  ──► flapping: not told until calm for flap_within
            ──► told, and remembered for cooldown and flap_within ───────────────► closed
    (restart)   open incidents wait to be found again: id kept ──────────────────► updated
            ──► not found again in time: over ───────────────────────────────────► closed
    (operator, maintenance)  acknowledged, suppressed, no longer suppressed ─────► updated

Time is pipeline time: a wall clock that is set back changes no order and no id. Wall times only label, and those of
one incident never go back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from edge_agent.clock import CLOCK_SET_NS, NS_PER_S
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.orders import Order, Orders
from edge_agent.decision.severity import ORDER, worse
from edge_agent.decision.silence import Silence
from edge_agent.options import format_duration
from edge_agent.verdict import Acknowledgement, Incident, IncidentKind, IncidentState

_MOST_REMEMBERED = 1_000  # closed incidents kept in mind; beyond it the oldest are forgotten
_ALIKE = 0.5  # share of the sensors of the smaller of two incidents that have to be in both


@dataclass(frozen=True, slots=True)
class Standing:
    """What a generator says of one of its incidents: all its sensors, and the last tick on which it was active."""

    sensors: tuple[str, ...]
    last_tick: int


@dataclass(frozen=True, slots=True)
class SavedIncident:
    """An incident as it outlives a restart. ``quiet_ns``: how long ago its generator closed it, None while it had not.

    ``openings_ns``: how long ago it opened, each time.
    """

    incident: Incident
    sensors: tuple[str, ...]
    quiet_ns: int | None
    openings_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SavedLifecycle:
    """Everything that outlives a restart. ``saved_ns``: wall time; orders with the ns for which they are in force."""

    saved_ns: int
    incidents: tuple[SavedIncident, ...]
    orders: tuple[tuple[Order, int], ...]


@dataclass(slots=True)
class _Life:
    """One incident as people know it.

    ``told``: as it was told last, None before. ``held``: what its generator opened and is not told yet. ``source``:
    its id at the generator, None while no generator has it open, pipeline time ``quiet_ns`` since when.
    ``openings_ns``: pipeline times. ``waits_ns``: time left to be found again after a restart.
    """

    id: str
    sensors: tuple[str, ...]
    told: Incident | None = None
    held: Incident | None = None
    source: str | None = None
    quiet_ns: int | None = None
    openings_ns: list[int] = field(default_factory=list)
    waits_ns: int | None = None
    reopened: int = 0
    flapping: bool = False
    acknowledged: Acknowledgement | None = None

    @property
    def open(self) -> bool:
        return self.told is not None and self.told.state is not IncidentState.CLOSED


class Lifecycle:
    """Follows all incidents of one plant.

    ``area_of`` says in which area a sensor is. ``missing_after_s``: time without readings after which one is missing.
    ``version`` grows with every change that is worth saving.
    """

    def __init__(
        self,
        options: DecisionOptions,
        period_s: float,
        area_of: Callable[[str], str | None],
        missing_after_s: float = 60.0,
    ) -> None:
        self._period_ns = round(period_s * NS_PER_S)
        self._area_of = area_of
        self._missing_after_s = missing_after_s
        self._lives: dict[str, _Life] = {}
        self._silence = Silence(options.maintenance, area_of)
        self.reconfigure(options)
        self.version = 0

    @property
    def orders(self) -> Orders:
        """The operators' orders in force."""
        return self._silence.orders

    # -- what is known -----------------------------------------------------------------------------------------

    def open_incidents(self) -> list[Incident]:
        """All that people know to be open, the oldest first."""
        return [life.told for life in self._lives.values() if life.told is not None and life.open]

    def open_incident(self, incident_id: str) -> Incident | None:
        """An incident that people know to be open, or None."""
        life = self._lives.get(incident_id)
        return None if life is None or not life.open else life.told

    def open_count(self, kind: IncidentKind) -> int:
        """Incidents of ``kind`` that people know to be open."""
        return sum(incident.kind is kind for incident in self.open_incidents())

    def id_of(self, source_id: str | None) -> str | None:
        """The id under which people know the generator's incident ``source_id``; None while it is not told."""
        life = None if source_id is None else self._by_source(source_id)
        return life.id if life is not None and life.open else None

    def sensors_of(self, incident_id: str) -> tuple[str, ...] | None:
        """All sensors of an incident that is open or was so lately."""
        life = self._lives.get(incident_id)
        return None if life is None else life.sensors

    def under_maintenance(self, wall_ns: int, watched: Callable[[], Iterable[str]]) -> bool:
        """True while a maintenance window is open: what is seen then is not how the plant usually is.

        A window that names what it is about counts when it covers one of the sensors that ``watched`` gives. What is
        learned is about the whole plant, so that one of them is enough.
        """
        return self._silence.under_maintenance(wall_ns, watched)

    @property
    def resuming(self) -> bool:
        """True while a process incident from before a restart has neither been found again nor given up."""
        return any(
            life.waits_ns is not None and life.told is not None and life.told.kind is IncidentKind.PROCESS
            for life in self._lives.values()
        )

    # -- the tick ----------------------------------------------------------------------------------------------

    def update(
        self,
        now_ns: int,
        wall_ns: int,
        changed: Iterable[Incident],
        standing: Callable[[str], Standing | None] = lambda _id: None,
        *,
        judging: bool = True,
    ) -> list[Incident]:
        """One tick at pipeline time ``now_ns``: what generators changed goes in, what people are told comes out.

        ``standing`` answers by the generators' ids; None means what the incident itself says. ``judging``: False while
        the decision warms up, when process incidents from before a restart cannot be found again.
        """
        silence_changed = self._look_at_silence(now_ns, wall_ns)
        told = [one for incident in changed for one in self._take(incident, standing(incident.id), now_ns)]
        for life in list(self._lives.values()):
            if life.held is not None:
                told += self._release(life, life.held, standing(life.held.id), now_ns)
            else:
                silence_changed |= self._has_grown(life, standing)
                told += self._end(life, now_ns, wall_ns, judging=judging)
        if silence_changed:
            told += self._silenced(wall_ns)
        self._forget(now_ns)
        self.version += bool(told)
        return told

    def new_run(self, closed: Iterable[Incident], now_ns: int, wall_ns: int) -> list[Incident]:
        """Another recording begins: ``closed`` is what generators closed; flapping ends, and nothing is remembered."""
        told = [one for incident in closed for one in self._take(incident, None, now_ns)]
        told += [self._close(life, wall_ns) for life in self._lives.values() if life.open]
        self._lives.clear()
        self.version += bool(told)
        return told

    def reconfigure(self, options: DecisionOptions) -> None:
        """Go on under other options, and with other maintenance windows."""
        self._options = options
        self._cooldown_ns = round(options.cooldown * NS_PER_S)
        self._flap_ns = round(options.flap_within * NS_PER_S)
        self._least_ns = round(options.min_duration * NS_PER_S)
        self._silence.plan(options.maintenance)

    # -- operators ---------------------------------------------------------------------------------------------

    def acknowledge(self, incident_id: str, said: Acknowledgement) -> Incident | None:
        """Note that an operator has seen an open incident, and give it back to be told; None: there is none such.

        Said again by the same one with the same note it changes nothing, not even the time.
        """
        life = self._lives.get(incident_id)
        if life is None or life.told is None or not life.open:
            return None
        before = life.acknowledged
        if before is None or (before.by, before.note) != (said.by, said.note):
            life.acknowledged = said
            self.version += 1
            return self._tell_again(life, said.time_ns)
        return replace(life.told, state=IncidentState.UPDATED)

    def suppress(self, order: Order, now_ns: int, wall_ns: int) -> list[Incident]:
        """Have an order in force; the open incidents that change by it."""
        self.orders.give(order, now_ns)
        self.version += 1
        return self._silenced(wall_ns)

    def lift(self, order_id: str, wall_ns: int) -> list[Incident] | None:
        """End an order; the open incidents that change by it. None: there is no such order."""
        if self.orders.lift(order_id) is None:
            return None
        self.version += 1
        return self._silenced(wall_ns)

    # -- over a restart ----------------------------------------------------------------------------------------

    def export(self, now_ns: int, wall_ns: int) -> SavedLifecycle:
        """What has to outlive a restart: what was told, and the orders."""
        incidents = tuple(
            SavedIncident(
                life.told,
                life.sensors,
                None if life.quiet_ns is None else now_ns - life.quiet_ns,
                tuple(now_ns - opening for opening in life.openings_ns),
            )
            for life in self._lives.values()
            if life.told is not None
        )
        return SavedLifecycle(wall_ns, incidents, self.orders.left(now_ns))

    def restore(self, saved: SavedLifecycle, now_ns: int, wall_ns: int) -> None:
        """Take over what :meth:`export` gave before the restart. What was open waits to be found again."""
        # A clock that was not set yet, before or now, says nothing of how long: then it counts as no time at all.
        away_ns = max(0, wall_ns - saved.saved_ns) if min(wall_ns, saved.saved_ns) >= CLOCK_SET_NS else 0
        for one in saved.incidents:
            told = one.incident
            life = _Life(
                told.id,
                one.sensors,
                told,
                reopened=told.reopened,
                flapping=told.flapping,
                acknowledged=told.acknowledged,
            )
            life.openings_ns = [now_ns - away_ns - ago_ns for ago_ns in one.openings_ns]
            if one.quiet_ns is not None:
                life.quiet_ns = now_ns - away_ns - one.quiet_ns
            elif life.open:
                life.waits_ns = self._patience_ns(told.kind)
            self._lives[told.id] = life
        self.orders.restore([(order, left_ns - away_ns) for order, left_ns in saved.orders], now_ns)
        self._look_at_silence(now_ns, wall_ns)

    # -- from the generators -----------------------------------------------------------------------------------

    def _take(self, incident: Incident, standing: Standing | None, now_ns: int) -> list[Incident]:
        sensors = tuple(part.sensor for part in incident.contributions) if standing is None else standing.sensors
        life = self._by_source(incident.id)
        if incident.state is IncidentState.CLOSED:
            return [] if life is None else self._closed(life, incident, now_ns)
        if life is None:
            return self._opened(incident, sensors, now_ns)
        life.sensors = sensors
        if life.held is not None:
            life.held = incident
            return []
        return self._tell_unless_flapping(life, incident)

    def _opened(self, incident: Incident, sensors: tuple[str, ...], now_ns: int) -> list[Incident]:
        before = self._seen_before(incident, sensors)
        if before is not None and before.open and before.told is not None:
            return self._found_again(before, before.told, incident, sensors, now_ns)
        if before is not None and before.quiet_ns is not None and now_ns - before.quiet_ns < self._cooldown_ns:
            life = before
        else:
            life = self._lives[incident.id] = _Life(incident.id, sensors)
            life.openings_ns = [] if before is None else list(before.openings_ns)
        life.source, life.sensors, life.held = incident.id, sensors, incident
        return []  # whether it is told now is asked right after (:meth:`_release`)

    def _found_again(
        self, life: _Life, told: Incident, incident: Incident, sensors: tuple[str, ...], now_ns: int
    ) -> list[Incident]:
        """An open incident that no generator had: it is from before a restart, or flapping."""
        incident = replace(incident, severity=worse(told.severity, incident.severity))
        life.source, life.sensors, life.quiet_ns = incident.id, sensors, None
        if life.waits_ns is not None:
            life.waits_ns = None
            return [self._tell(life, incident, IncidentState.UPDATED)]
        life.reopened += 1
        life.openings_ns = [*self._recent(life, now_ns), now_ns]
        return self._tell_unless_flapping(life, incident)

    def _release(self, life: _Life, held: Incident, standing: Standing | None, now_ns: int) -> list[Incident]:
        """Tell what was held, once it has lasted long enough."""
        last_tick = held.last_tick if standing is None else standing.last_tick
        if (last_tick - held.first_tick) * self._period_ns < self._least_ns:
            return []
        life.openings_ns = [*self._recent(life, now_ns), now_ns]
        life.flapping = 0 < self._options.flap_after < len(life.openings_ns)
        life.reopened += life.told is not None
        life.held, life.quiet_ns = None, None
        return [self._tell(life, held, IncidentState.OPEN)]

    def _closed(self, life: _Life, incident: Incident, now_ns: int) -> list[Incident]:
        held, life.source, life.held = life.held, None, None
        if held is not None:
            if life.told is None:
                del self._lives[life.id]
            return []
        life.quiet_ns = now_ns
        if life.flapping:
            life.told = self._as_known(life, incident, IncidentState.UPDATED)
            return []
        return [self._tell(life, incident, IncidentState.CLOSED)]

    def _end(self, life: _Life, now_ns: int, wall_ns: int, *, judging: bool) -> list[Incident]:
        """Close what was not found again after a restart, and what flaps no more."""
        if life.waits_ns is not None:
            of_process = life.told is not None and life.told.kind is IncidentKind.PROCESS
            life.waits_ns -= self._period_ns if judging or not of_process else 0
            over = life.waits_ns <= 0
        else:
            calm = life.source is None and life.quiet_ns is not None and now_ns - life.quiet_ns >= self._flap_ns
            over = life.flapping and life.open and calm
        if not over:
            return []
        life.quiet_ns = now_ns if life.quiet_ns is None else life.quiet_ns
        return [self._close(life, wall_ns)]

    def _has_grown(self, life: _Life, standing: Callable[[str], Standing | None]) -> bool:
        """More sensors take part than when it was told last; suppression may not cover all of them."""
        now = None if life.source is None else standing(life.source)
        if now is None or len(now.sensors) == len(life.sensors):
            return False
        life.sensors = now.sensors
        return True

    # -- telling -----------------------------------------------------------------------------------------------

    def _tell_unless_flapping(self, life: _Life, incident: Incident) -> list[Incident]:
        before = life.told
        told = self._tell(life, incident, IncidentState.UPDATED)
        worse_now = before is None or ORDER.index(told.severity) > ORDER.index(before.severity)
        return [told] if worse_now or not life.flapping else []

    def _tell(self, life: _Life, incident: Incident, state: IncidentState) -> Incident:
        life.told = self._as_known(life, incident, state)
        return life.told

    def _tell_again(self, life: _Life, wall_ns: int) -> Incident:
        assert life.told is not None
        return self._tell(life, replace(life.told, updated_ns=wall_ns), IncidentState.UPDATED)

    def _close(self, life: _Life, wall_ns: int) -> Incident:
        assert life.told is not None
        life.waits_ns = None
        return self._tell(life, replace(life.told, updated_ns=wall_ns), IncidentState.CLOSED)

    def _as_known(self, life: _Life, incident: Incident, state: IncidentState) -> Incident:
        """``incident`` under the id and with all that people know of it. Its wall times never go back."""
        before = life.told
        opened_ns = incident.opened_ns if before is None else before.opened_ns
        updated_ns = max(incident.updated_ns, opened_ns if before is None else before.updated_ns)
        areas = [self._area_of(name) for name in life.sensors]
        summary = incident.summary
        if life.flapping and not (before is not None and before.flapping and summary == before.summary):
            period = format_duration(self._options.flap_within)
            summary += f"; flapping: opened {len(life.openings_ns)} times within {period}"
        return replace(
            incident,
            id=life.id,
            state=state,
            summary=summary,
            opened_ns=opened_ns,
            updated_ns=updated_ns,
            closed_ns=updated_ns if state is IncidentState.CLOSED else None,
            areas=tuple(dict.fromkeys((*incident.areas, *(area for area in areas if area is not None)))),
            acknowledged=life.acknowledged,
            suppressed=self._silence.reason(life.sensors),
            flapping=life.flapping,
            reopened=life.reopened,
        )

    # -- silence -----------------------------------------------------------------------------------------------

    def _look_at_silence(self, now_ns: int, wall_ns: int) -> bool:
        """Whether windows or orders have begun or ended since the last look."""
        over = self.orders.expire(now_ns)
        self.version += bool(over)
        return self._silence.follow(wall_ns) or bool(over)

    def _silenced(self, wall_ns: int) -> list[Incident]:
        """Open incidents that are suppressed now and were not, or the other way round."""
        return [
            self._tell_again(life, wall_ns)
            for life in self._lives.values()
            if life.open and life.told is not None and life.told.suppressed != self._silence.reason(life.sensors)
        ]

    # -- inside ------------------------------------------------------------------------------------------------

    def _by_source(self, source_id: str) -> _Life | None:
        return next((life for life in self._lives.values() if life.source == source_id), None)

    def _seen_before(self, incident: Incident, sensors: tuple[str, ...]) -> _Life | None:
        """The incident that this one is likely to be again: an open one that no generator has, else the latest."""
        alike = [
            life
            for life in self._lives.values()
            if life.source is None
            and life.told is not None
            and _same_trouble(incident, sensors, life.told, life.sensors)
        ]
        return max(alike, key=lambda life: (life.open, life.quiet_ns or 0), default=None)

    def _recent(self, life: _Life, now_ns: int) -> list[int]:
        return [opening for opening in life.openings_ns if now_ns - opening < self._flap_ns]

    def _patience_ns(self, kind: IncidentKind) -> int:
        """Time of watching after which an incident that is not found again is over."""
        options = self._options
        missing_s = self._missing_after_s + options.quality_after
        to_find_s = missing_s if kind is IncidentKind.DATA_QUALITY else options.detect_within
        return round((to_find_s + options.close_after) * NS_PER_S)

    def _forget(self, now_ns: int) -> None:
        memory_ns = max(self._cooldown_ns, self._flap_ns)
        closed = [
            life for life in self._lives.values() if life.told is not None and life.source is None and not life.open
        ]
        closed.sort(key=lambda life: life.quiet_ns or 0)
        for place, life in enumerate(closed):
            old = life.quiet_ns is None or now_ns - life.quiet_ns >= memory_ns
            if old or len(closed) - place > _MOST_REMEMBERED:
                del self._lives[life.id]


def _same_trouble(one: Incident, sensors: tuple[str, ...], other: Incident, other_sensors: tuple[str, ...]) -> bool:
    """Of the same kind, about the same, and on the same sensors."""
    if one.kind is not other.kind or _what(one) != _what(other):
        return False
    common = len(set(sensors) & set(other_sensors))
    return common > 0 and common >= _ALIKE * min(len(set(sensors)), len(set(other_sensors)))


def _what(incident: Incident) -> tuple[str, ...]:
    """What is wrong: kind of data-quality finding, names of the rules; of the process there is only one kind."""
    if incident.kind is IncidentKind.DATA_QUALITY:
        return tuple(dict.fromkeys(part.reason for part in incident.contributions))
    return incident.rules if incident.kind is IncidentKind.RULE else ()
