"""The user's rules, tick by tick: which of them hold, and for which sensors. Pure, with own state."""

from __future__ import annotations

import fnmatch
import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.clock import CLOCK_SET_NS
from edge_agent.graph.snapshot import Snapshot
from edge_agent.nearest import nearest
from edge_agent.rules.binding import Scope, bind
from edge_agent.rules.conditions import Band, Conditions, Watch
from edge_agent.rules.options import LimitOptions, RateOptions, RuleOptions
from edge_agent.rules.signals import Aggregate, Ask, Question, Signals
from edge_agent.rules.timers import FALSE, FRESH, HELD, TRUE, UNKNOWN, Saved, Timers
from edge_agent.rules.tree import Expression, ExpressionError, Operator
from edge_agent.rules.words import listed
from edge_agent.schedule import WindowOptions, Windows

States = Callable[[str], Mapping[str, float]]

MOST_CONDITIONS = 100_000
"""Conditions watched at most: rules times the sensors that each of them judges."""
_SILENT_AFTER_S = 300.0  # a rule none of whose sensors has appeared by then is told of
_LATE_AFTER_S = 60.0  # what held before a restart is told again by then, values or not
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Judged:
    """One thing that a rule judges. ``sensor``: the one of its ``sensors``, None for an expression over fixed ones.

    ``sensors``: all whose values take part. ``compared``: what the expression compares them with. ``aggregates``: what
    it asks of all sensors that match a pattern.
    """

    rule: str
    sensor: str | None
    sensors: tuple[str, ...]
    compared: Mapping[str, tuple[Operator, float]]
    aggregates: tuple[Aggregate, ...] = ()


@dataclass(slots=True)
class _Rule:
    name: str
    options: RuleOptions
    windows: Windows[WindowOptions]
    when: Expression | None
    until: Expression | None
    entries: dict[str | None, int] = field(default_factory=dict)

    def judges(self, new: list[str], *, first: bool) -> Iterator[str | None]:
        """What it judges of ``new`` sensors; ``first``: also those it names, heard of or not."""
        if not self.options.sensors:
            if first:
                yield None
            return
        for text in self.options.sensors:
            if is_pattern(text):
                yield from fnmatch.filter(new, text)
            elif first:
                yield text

    def matches(self, pattern: str) -> bool:
        """Whether a sensor is judged because of ``pattern``."""
        return any(sensor is not None and fnmatch.fnmatchcase(sensor, pattern) for sensor in self.entries)


@dataclass(slots=True)
class Holding:
    """A rule that holds, for ``judged``; ``since_tick``: when the first of them began to.

    ``seen``: False while it only held before a restart and nothing is known of its sensors yet.
    """

    rule: str
    options: RuleOptions
    judged: dict[int, Judged]
    since_tick: int
    seen: bool = True


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """How many rules hold, are about to, cannot be judged at all, and are watched."""

    holding: int
    pending: int
    unknown: int
    watched: int


class Rules:
    """Watches ``rules``. ``states_of`` gives the states of a sensor by name, empty for the usual ones.

    ``clear_after_s``: for rules that do not say. ``holding``: rules that hold now, by name.
    """

    def __init__(
        self, rules: Mapping[str, RuleOptions], period_s: float, clear_after_s: float, states_of: States
    ) -> None:
        self._period_s = period_s
        self._clear_after_s = clear_after_s
        self._states_of = states_of
        self._signals = Signals(period_s)
        self._saved: dict[tuple[str, str | None], Saved] = {}
        self._ever: set[str] = set()
        self._now_s: float | None = None
        self.holding: dict[str, Holding] = {}
        self.options: dict[str, RuleOptions] = {}
        self._start(rules)

    def _start(self, rules: Mapping[str, RuleOptions]) -> None:
        self.options = dict(rules)
        self._rules = {name: _new_rule(name, options) for name, options in rules.items() if options.enabled}
        self._conditions, self._timers = Conditions(), Timers()
        self._judged: list[Judged] = []
        self._rule_of: NDArray[np.int64] = np.zeros(0, np.int64)
        self._unknown: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._sensors: tuple[str, ...] | None = None
        self._matched: set[str] = set()
        self._silent_at_s: float | None = None
        self._late_s: float | None = None
        self._scheduled: list[_Rule] = []
        self._problems: list[str] = []

    def __len__(self) -> int:
        return len(self._rules)

    def resume(self, rule: str, sensors: Iterable[str]) -> None:
        """Before the first tick: ``rule`` held for these sensors when the agent stopped, so it does not begin to."""
        if rule in self._rules:
            for sensor in (None, *sensors):
                self._saved[rule, sensor] = HELD

    def reload(self, rules: Mapping[str, RuleOptions], states_of: States, clear_after_s: float | None = None) -> None:
        """Other rules from the next tick on. Those that are as before go on; of a changed one only that it holds.

        ``clear_after_s``: None leaves it as it is.
        """
        if clear_after_s is not None:
            self._clear_after_s = clear_after_s
        # What no sensor has come for yet stays; a rule that was gone in between begins anew.
        self._saved = {key: one for key, one in self._saved.items() if key[0] in rules and key[0] in self._rules}
        for rule in self._rules.values():
            new = rules.get(rule.name)
            for sensor, entry in rule.entries.items() if new is not None else ():
                saved = self._timers.saved(entry)
                self._saved[rule.name, sensor] = saved if new == rule.options else Saved(saved.holds)
        self._states_of = states_of
        self.holding = {}
        self._start(rules)

    def forget(self) -> None:
        """The stream starts anew: nothing holds, and times are counted from now."""
        self.holding, self._saved = {}, {}
        self._signals = Signals(self._period_s)
        self._now_s = None
        self._start(self.options)

    def update(self, snapshot: Snapshot, tick_ns: int) -> bool:
        """One tick at pipeline time ``tick_ns``; whether :attr:`holding` has changed."""
        now_s = tick_ns / 1e9
        elapsed_s = 0.0 if self._now_s is None else max(0.0, now_s - self._now_s)
        self._now_s = now_s
        gone: NDArray[np.bool_] | None = None
        resumed = False
        if snapshot.sensors is not self._sensors:
            gone, resumed = self._align(snapshot)
        truth = self._conditions.truth(self._signals.row(snapshot, now_s), self._timers.holds)
        # While the clock was never set all of them apply: a rule too many is better than one too few.
        for rule in self._scheduled if snapshot.time_ns >= CLOCK_SET_NS else ():
            if not rule.windows.open_at(snapshot.time_ns):
                truth[list(rule.entries.values())] = FALSE
        self._unknown = truth == UNKNOWN
        before = self._timers.holds
        self._timers.update(truth, elapsed_s)
        if gone is not None:
            # Nobody will ever know whether it still holds.
            self._timers.end(gone & self._unknown)
        changed = np.flatnonzero(self._timers.holds != before).tolist()
        for entry in changed:
            self._note(entry, snapshot.tick)
        self._look_again(truth, now_s)
        return resumed or bool(changed)

    def counts(self) -> RuleCounts:
        """How rules are doing, as of the last tick."""
        pending = np.count_nonzero(self._with(self._timers.pending) & ~self._with(self._timers.holds))
        unknown = len(self._rules) - np.count_nonzero(self._with(~self._unknown))
        return RuleCounts(len(self.holding), int(pending), int(unknown), len(self._rules))

    def unknown(self) -> list[str]:
        """Rules of which nothing could be said at the last tick: no condition of theirs is known."""
        known = self._with(~self._unknown)
        return [name for name, one in zip(self._rules, known, strict=True) if not one]

    def sensors(self) -> dict[str, list[str]]:
        """For each rule the sensors that it is about, as far as they are known by now."""
        found: dict[str, dict[str, None]] = {name: {} for name in self._rules}
        for judged in self._judged:
            found[judged.rule] |= dict.fromkeys(judged.sensors)
        return {name: list(sensors) for name, sensors in found.items()}

    def problems(self) -> list[str]:
        """What users should be told of their rules since the last call: once for each rule."""
        if self._silent_at_s is not None and self._now_s is not None and self._now_s >= self._silent_at_s:
            self._silent_at_s = None
            self._problems += self._silent()
        found, self._problems = self._problems, []
        return found

    def _with(self, entries: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """For each rule whether one of its ``entries`` is True."""
        return np.asarray(np.bincount(self._rule_of[entries], minlength=len(self._rules)) > 0)

    # -- inside ------------------------------------------------------------------------------------------------

    def _align(self, snapshot: Snapshot) -> tuple[NDArray[np.bool_], bool]:
        """Sensors have come or gone: conditions on the new ones, and which entries have lost a sensor for good."""
        if self._sensors is None and self._now_s is not None:
            self._silent_at_s = self._now_s + _SILENT_AFTER_S
            self._late_s = self._now_s + _LATE_AFTER_S
        present = set(snapshot.sensors)
        new = [name for name in snapshot.sensors if name not in self._matched]
        first = self._sensors is None
        self._matched |= present
        lost = self._ever - present
        self._ever = (self._ever | present) - lost
        count = len(self._judged)
        made = _Made()
        with _no_collection():
            for rule in self._rules.values():
                for sensor in rule.judges(new, first=first):
                    self._add(rule, sensor, made)
        if made.saved:
            number = {name: i for i, name in enumerate(self._rules)}
            self._rule_of = np.array([number[one.rule] for one in self._judged], np.int64)
            self._timers.extend(made.lasting_s, made.clear_after_s, made.saved)
        self._scheduled = [rule for rule in self._rules.values() if rule.options.schedule]
        self._sensors = snapshot.sensors
        held = [count + i for i, saved in enumerate(made.saved) if saved.holds]
        for entry in held:
            self._note(entry, snapshot.tick, seen=False)
        gone = [not lost.isdisjoint(one.sensors) for one in self._judged] if lost else [False] * len(self._judged)
        return np.array(gone, np.bool_), bool(held)

    def _add(self, rule: _Rule, sensor: str | None, made: _Made) -> None:
        if sensor in rule.entries:
            return
        if len(self._judged) >= MOST_CONDITIONS:
            problem = f"more than {MOST_CONDITIONS:,} conditions; the rest is not watched"
            if problem not in self._problems:
                self._problems.append(problem)
            return
        try:
            condition, judged = _compiled(rule, sensor, self._signals, self._states_of)
        except ExpressionError as error:
            self._problems.append(f"rule {rule.name} is not watched for {sensor}: {error}")
            return
        rule.entries[sensor] = len(self._judged)
        self._judged.append(judged)
        self._conditions.add(condition)
        made.add(rule, self._clear_after_s, self._saved.pop((rule.name, sensor), FRESH))

    def _look_again(self, truth: NDArray[np.int8], now_s: float) -> None:
        """Rules that held before: values are there, or have been waited for long enough."""
        for one in self.holding.values():
            if not one.seen:
                late = self._late_s is None or now_s >= self._late_s
                one.seen = late or bool((truth[list(one.judged)] == TRUE).any())

    def _note(self, entry: int, tick: int, *, seen: bool = True) -> None:
        judged = self._judged[entry]
        one = self.holding.get(judged.rule)
        if self._timers.holds[entry]:
            if one is None:
                one = self.holding[judged.rule] = Holding(judged.rule, self.options[judged.rule], {}, tick, seen)
            one.judged[entry] = judged
        elif one is not None:
            one.judged.pop(entry, None)
            if not one.judged:
                del self.holding[judged.rule]

    def _silent(self) -> Iterator[str]:
        for rule in self._rules.values():
            named = dict.fromkeys(name for entry in rule.entries.values() for name in self._judged[entry].sensors)
            never = [name for name in named if name not in self._ever]
            patterns = [text for text in rule.options.sensors if is_pattern(text) and not rule.matches(text)]
            if never:
                hint = nearest(never[0], self._ever)
                yield f"rule {rule.name} lacks sensors never heard of: {listed(never)}{hint}"
            if patterns:
                yield f"rule {rule.name}: no sensor matches {listed(patterns)}"


@dataclass(slots=True)
class _Made:
    """What the timers need for new entries, gathered."""

    lasting_s: list[float] = field(default_factory=list)
    clear_after_s: list[float] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)

    def add(self, rule: _Rule, clear_after_s: float, saved: Saved) -> None:
        options, when, until = rule.options, rule.when, rule.until
        lasting = when.lasting_s if when is not None and when.lasting_s is not None else options.lasting
        clear = until.lasting_s if until is not None and until.lasting_s is not None else options.clear_after
        self.lasting_s.append(lasting or 0.0)
        self.clear_after_s.append(clear_after_s if clear is None else clear)
        self.saved.append(saved)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Ten thousands of functions are made and none is garbage: looking for it is three quarters of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _new_rule(name: str, options: RuleOptions) -> _Rule:
    return _Rule(name, options, Windows(options.schedule), options.expression, options.ending)


def is_pattern(text: str) -> bool:
    """Whether ``text`` stands for several sensors."""
    return not _WILD.isdisjoint(text)


def _compiled(rule: _Rule, sensor: str | None, signals: Signals, states_of: States) -> tuple[Band | Watch, Judged]:
    """What a rule asks about one of its sensors. :raises ExpressionError: a name in it has no meaning."""
    name, options = rule.name, rule.options
    if rule.when is not None:
        scope = Scope(signals, states_of, sensor, options.flagged)
        when = bind(rule.when, scope)
        until = None if rule.until is None else bind(rule.until, scope)
        more, also = ((), ()) if until is None else (until.sensors, until.aggregates)
        named = tuple(dict.fromkeys((*((sensor,) if sensor is not None else ()), *when.sensors, *more)))
        watch = Watch(when.condition, None if until is None else until.condition)
        return watch, Judged(name, sensor, named, when.limits, (*when.aggregates, *also))
    assert sensor is not None  # the options have seen to it
    judged = Judged(name, sensor, (sensor,), {})
    value = Ask(Question.VALUE, sensor, flagged=options.flagged)
    if options.limit is not None:
        return _band(signals.place(value), options.limit), judged
    if options.rate is not None:
        change = Ask(Question.CHANGE, sensor, options.rate.per, options.flagged)
        return _band(signals.place(change), options.rate), judged
    assert options.deviation is not None
    by, target = options.deviation.by, options.deviation.target
    if isinstance(target, str):
        place = signals.place(Ask(Question.VALUE, target, flagged=options.flagged))
        moving = Band(signals.place(value), -by, by, options.deviation.deadband, place)
        return moving, Judged(name, sensor, (sensor, target), {})
    return Band(signals.place(value), target - by, target + by, options.deviation.deadband), judged


def _band(place: int, band: LimitOptions | RateOptions) -> Band:
    low = -np.inf if band.below is None else band.below
    high = np.inf if band.above is None else band.above
    return Band(place, low, high, band.deadband)
