"""All patterns that are in use, and several incidents against those of them that are about several. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from edge_agent.patterns.options import About, Pattern, PatternFile, PatternOptions
from edge_agent.patterns.words import Where

_MOST_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pattern that an incident may be, with its log odds."""

    pattern: Pattern
    odds: float
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """Patterns in use; ``techniques``: names by id. Without patterns nothing is matched."""

    patterns: tuple[Pattern, ...] = ()
    techniques: dict[str, str] = field(default_factory=dict)
    sharpness: float = 1.0
    least_confidence: float = 0.2
    most: int = 3

    def about(self, what: About) -> tuple[Pattern, ...]:
        """Those that are matched against ``what``."""
        also = About.INCIDENTS if what is About.INCIDENTS else About.ANY
        return tuple(pattern for pattern in self.patterns if pattern.about in (what, also))


def library_of(own: PatternFile, options: PatternOptions, users: PatternFile | None = None) -> Library:
    """``own`` and the ``users`` patterns together; of the same id the user's one."""
    if not options.enabled:
        return Library()
    chosen = {pattern.id: pattern for pattern in own.patterns if pattern.id not in options.disabled}
    techniques = dict(own.techniques)
    if users is not None:
        chosen |= {pattern.id: pattern for pattern in users.patterns}
        techniques |= users.techniques
    return Library(tuple(chosen.values()), techniques, own.sharpness, options.least_confidence, options.most)


@dataclass(frozen=True, slots=True)
class _Seen:
    tick: int
    incident: str
    pattern: str
    areas: frozenset[str]


class Campaigns:
    """Which incidents were likely what, and whether they follow each other as a pattern about several of them says."""

    def __init__(self, patterns: Sequence[Pattern], period_s: float) -> None:
        self._patterns = tuple(patterns)
        self._period_s = period_s
        self._seen: deque[_Seen] = deque(maxlen=_MOST_REMEMBERED)

    def note(self, tick: int, incident: str, pattern: str, areas: Iterable[str]) -> None:
        """``incident`` is most likely ``pattern``. Of one incident only what it was last thought to be counts."""
        if not self._patterns:
            return
        before = next((one for one in self._seen if one.incident == incident), None)
        now = _Seen(tick if before is None else before.tick, incident, pattern, frozenset(areas))
        if before is None:
            self._seen.append(now)
        else:
            self._seen[self._seen.index(before)] = now

    def candidates(self, incident: str) -> list[Candidate]:
        """Patterns of which ``incident`` is the last stage seen, after others were seen in time."""
        found = []
        for pattern in self._patterns:
            reached = self._reached(pattern, incident)
            if reached == len(pattern.stages):
                names = tuple(stage.name for stage in pattern.stages)
                found.append(Candidate(pattern, pattern.weight, names))
        return found

    def forget(self) -> None:
        """Another recording begins."""
        self._seen.clear()

    def _reached(self, pattern: Pattern, incident: str) -> int:
        """Stages that were seen, the last of them in ``incident``: backwards from it, each with the latest before."""
        last = next((one for one in self._seen if one.incident == incident), None)
        if last is None or last.pattern not in pattern.stages[-1].matches:
            return 0
        later, reached = last, 1
        for stage, following in zip(pattern.stages[-2::-1], pattern.stages[:0:-1], strict=True):
            earlier = [
                one
                for one in self._seen
                if one.incident != later.incident
                and one.tick <= later.tick
                and one.pattern in stage.matches
                and _there(following.where, later.areas, one.areas)
                and (following.within is None or (later.tick - one.tick) * self._period_s <= following.within)
            ]
            if not earlier:
                break
            later, reached = max(earlier, key=lambda one: one.tick), reached + 1
        return reached


def _there(where: Where, areas: Collection[str], before: Collection[str]) -> bool:
    common = set(areas) & set(before)
    if where is Where.AREA:
        return bool(common)
    if where is Where.OTHER_AREA:
        return bool(areas) and bool(before) and not common
    return True
