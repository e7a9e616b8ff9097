"""Open incidents beside known attacks and faults: what they look like goes into what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edge_agent.decision.explain import Evidence
from edge_agent.decision.lifecycle import Standing
from edge_agent.graph.snapshot import Snapshot
from edge_agent.patterns.library import Campaigns, Library
from edge_agent.patterns.matching import Matcher, ranked
from edge_agent.patterns.options import About
from edge_agent.patterns.sight import Scene
from edge_agent.pipeline.copies import Copies
from edge_agent.pipeline.sights import WORST, Areas, Look, Surroundings, scene_of, scene_of_flag
from edge_agent.verdict import Incident, IncidentKind, IncidentState, PatternMatch, Scores

_LOOK_EVERY, _LATER_EVERY, _FIRST_LOOKS = 5, 15, 12  # ticks between two looks at one incident, at first and later
_THOROUGH_EVERY = 4  # looks, of which one looks for delays, too
_TELL_AFTER = 10  # ticks after which an incident may be told again because it looks like something else now
_CLEAR = 0.5  # confidence from which on what it looks like is worth telling at once
_ABOUT = {IncidentKind.PROCESS: About.PROCESS, IncidentKind.DATA_QUALITY: About.DATA_QUALITY}


@dataclass(slots=True)
class _Watched:
    """An open incident. ``told``: as it was told last, at tick ``told_tick``."""

    matcher: Matcher
    told: Incident
    told_tick: int
    due_tick: int
    looks: int = 0
    matches: tuple[PatternMatch, ...] = ()


class PatternWatch:
    """Follows what incidents look like. Costs nothing but the memory of recent readings while none is open.

    ``evidence`` gives the worst sensors of an open process incident, by its id.
    """

    def __init__(self, library: Library, period_s: float, evidence: Callable[[str, int], list[Evidence]]) -> None:
        self._evidence = evidence
        self._period_s = period_s
        self._copies = Copies()
        self._watched: dict[str, _Watched] = {}
        self._areas: Areas | None = None
        self.reload(library)

    def reload(self, library: Library) -> None:
        """Other patterns from now on; open incidents are compared with them anew."""
        self.library = library
        self._campaigns = Campaigns(library.about(About.INCIDENTS), self._period_s)
        for one in self._watched.values():
            one.matcher = Matcher(library.about(_ABOUT[one.told.kind]), self._period_s)

    def remember(self, snapshot: Snapshot) -> None:
        """Take in what sensors read, alarm or not: what repeats itself has to have been seen."""
        if self.library.patterns:
            self._copies.append(snapshot.sensors, snapshot.value, snapshot.usable)

    def update(
        self,
        snapshot: Snapshot,
        scores: Scores,
        around: Surroundings,
        found: Iterable[Incident],
        standing: Callable[[str], Standing | None],
    ) -> list[Incident]:
        """One tick: ``found`` with what they look like, and those told again because that has changed."""
        found = list(found)
        if not self.library.patterns:
            return found
        for incident in found:
            if incident.state is not IncidentState.CLOSED and incident.kind in _ABOUT:
                self._follow(incident, snapshot)
        if not self._watched:
            return found
        due = min(self._watched, key=lambda key: self._watched[key].due_tick)
        opened = [incident.id for incident in found if incident.id in self._watched]
        due = opened[0] if opened else due
        if opened or snapshot.tick >= self._watched[due].due_tick:
            thorough = self._watched[due].looks % _THOROUGH_EVERY == 0
            self._look(due, Look(snapshot, scores, around, self._copies, self._period_s, thorough), standing)
        told = [self._with_patterns(incident, snapshot) for incident in found]
        return [*told, *self._news({incident.id for incident in found}, snapshot)]

    def new_run(self, closed: Iterable[Incident]) -> list[Incident]:
        """Another recording begins: ``closed`` with what they looked like, and nothing is remembered."""
        watched = self._watched
        told = [replace(one, patterns=watched[one.id].matches) if one.id in watched else one for one in closed]
        watched.clear()
        self._copies.forget()
        self._campaigns.forget()
        return told

    def _follow(self, incident: Incident, snapshot: Snapshot) -> None:
        one = self._watched.get(incident.id)
        if one is None:
            self._areas = None  # the user may have changed them since the last incident
            matcher = Matcher(self.library.about(_ABOUT[incident.kind]), self._period_s)
            self._watched[incident.id] = _Watched(matcher, incident, snapshot.tick, snapshot.tick)
        else:
            one.told, one.told_tick = incident, snapshot.tick

    def _look(self, key: str, look: Look, standing: Callable[[str], Standing | None]) -> None:
        one = self._watched[key]
        one.looks += 1
        one.due_tick = look.snapshot.tick + (_LOOK_EVERY if one.looks < _FIRST_LOOKS else _LATER_EVERY)
        if self._areas is None or self._areas.sensors is not look.snapshot.sensors:
            self._areas = Areas.of(look.snapshot, look.around)
        scene = self._scene(one, look, self._areas, standing(key))
        if scene is None:
            return
        one.matcher.update(scene)
        candidates = [*one.matcher.candidates(), *self._campaigns.candidates(key)]
        one.matches = ranked(candidates, self.library)
        if one.matches:
            areas = {sight.area for sight in scene.sights if sight.out and sight.area is not None}
            self._campaigns.note(look.snapshot.tick, key, one.matches[0].pattern, areas)

    def _scene(self, one: _Watched, look: Look, areas: Areas, now: Standing | None) -> Scene | None:
        if one.told.kind is IncidentKind.PROCESS:
            return scene_of(look, areas, self._evidence(one.told.id, WORST))
        parts: Sequence[str] = [part.sensor for part in one.told.contributions] if now is None else now.sensors
        flag = next((part.finding for part in one.told.contributions if part.finding), None)
        return None if flag is None else scene_of_flag(look, areas, parts, flag, one.told.first_tick)

    def _with_patterns(self, incident: Incident, snapshot: Snapshot) -> Incident:
        one = self._watched.get(incident.id)
        if one is None:
            return incident
        if incident.state is IncidentState.CLOSED:
            del self._watched[incident.id]
        incident = replace(incident, patterns=one.matches)
        one.told, one.told_tick = incident, snapshot.tick
        return incident

    def _news(self, told: set[str], snapshot: Snapshot) -> list[Incident]:
        """Incidents that clearly look like something else than was told last."""
        changed = []
        for key, one in self._watched.items():
            if key in told or snapshot.tick - one.told_tick < _TELL_AFTER or not one.matches:
                continue
            before, now = one.told.patterns, one.matches[0]
            if now.confidence >= _CLEAR and (not before or before[0].pattern != now.pattern):
                one.told = replace(
                    one.told, state=IncidentState.UPDATED, updated_ns=snapshot.time_ns, patterns=one.matches
                )
                one.told_tick = snapshot.tick
                changed.append(one.told)
        return changed
