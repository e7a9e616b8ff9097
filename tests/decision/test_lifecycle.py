"""What is told of incidents: holding, cooldown, flapping, maintenance, orders, acknowledgement, restart."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.decision.lifecycle import Lifecycle, Standing
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.orders import Order
from edge_agent.pipeline.ulid import UlidMaker
from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Incident,
    IncidentKind,
    IncidentState,
    Severity,
)

S = 10**9
SUNDAY = 1_795_327_200 * S  # 2026-11-22 06:00 UTC
OPEN, UPDATED, CLOSED = IncidentState
AREAS = {"P1": "pumps", "P2": "pumps", "F1": "filters"}


def options(**given: Any) -> DecisionOptions:
    quick = {"cooldown": "60s", "flap_after": 3, "flap_within": "10m", "close_after": "10s", "detect_within": "20s"}
    return DecisionOptions.model_validate({**quick, **given})


@dataclass
class Trouble:
    """One incident of a generator; ``end`` closes it."""

    source: str
    sensors: tuple[str, ...]
    opened_tick: int


class Watch:
    """A lifecycle on a clock that the test moves, fed as generators feed it."""

    def __init__(self, wall_ns: int = SUNDAY - 3600 * S, **given: Any) -> None:
        self.options = options(**given)
        self.lifecycle = Lifecycle(self.options, 1.0, AREAS.get)
        self.new_id = UlidMaker(random.Random(1))
        self.tick = 0
        self.wall_ns = wall_ns
        self.told: list[Incident] = []
        self.pending: list[Incident] = []
        self.active: dict[str, Trouble] = {}
        self.judging = True

    def incident(self, one: Trouble, state: IncidentState, **given: Any) -> Incident:
        parts = tuple(Contribution(name, 0.5, 9.0, 1.0, 0.0, None, "reads 1, expected 0") for name in one.sensors)
        plain = Incident(
            one.source, IncidentKind.PROCESS, state, Severity.LOW, self.wall_ns, self.wall_ns,
            self.wall_ns if state is CLOSED else None, one.opened_tick, self.tick, 1e-9, 3.0, "odd", parts,
        )  # fmt: skip
        return replace(plain, **given)

    def begin(self, *sensors: str, **given: Any) -> Trouble:
        one = Trouble(self.new_id(self.wall_ns), sensors, self.tick)
        self.active[one.source] = one
        self.pending.append(self.incident(one, IncidentState.OPEN, **given))
        return one

    def change(self, one: Trouble, **given: Any) -> None:
        self.pending.append(self.incident(one, IncidentState.UPDATED, **given))

    def end(self, one: Trouble) -> None:
        del self.active[one.source]
        self.pending.append(self.incident(one, IncidentState.CLOSED))

    def go(self, seconds: int = 1) -> list[Incident]:
        before = len(self.told)
        for _ in range(seconds):
            self.tick += 1
            self.wall_ns += S
            told = self.lifecycle.update(self.tick * S, self.wall_ns, self.pending, self.standing, judging=self.judging)
            self.pending = []
            self.told += told
        return self.told[before:]

    def standing(self, source: str) -> Standing | None:
        one = self.active.get(source)
        return None if one is None else Standing(one.sensors, self.tick)

    def blink(self, *sensors: str, lasts: int = 5, rests: int = 20) -> list[Incident]:
        one = self.begin(*sensors)
        told = self.go(lasts)
        self.end(one)
        return [*told, *self.go(rests)]

    def restarted(self, away_s: int = 30, **given: Any) -> Watch:
        saved = self.lifecycle.export(self.tick * S, self.wall_ns)
        after = Watch(self.wall_ns + away_s * S, **given)
        after.tick, after.new_id = 500, UlidMaker(random.Random(2))
        after.lifecycle.restore(saved, after.tick * S, after.wall_ns)
        return after


def states(told: list[Incident]) -> list[IncidentState]:
    return [incident.state for incident in told]


def test_an_incident_opens_changes_and_closes_under_one_id() -> None:
    watch = Watch()
    one = watch.begin("P1", "F1")
    watch.go(3)
    watch.change(one, severity=Severity.HIGH)
    watch.go(3)
    watch.end(one)
    watch.go(3)
    assert states(watch.told) == [OPEN, UPDATED, CLOSED]
    assert {incident.id for incident in watch.told} == {one.source}
    assert watch.told[0].areas == ("pumps", "filters")
    assert watch.told[2].closed_ns == watch.told[2].updated_ns


# -- minimum duration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lasts", "told"), [(1, []), (9, []), (10, [OPEN, CLOSED]), (15, [OPEN, CLOSED])])
def test_what_is_over_before_the_minimum_duration_is_never_told(lasts: int, told: list[IncidentState]) -> None:
    watch = Watch(min_duration="10s")
    assert states(watch.blink("P1", lasts=lasts)) == told


def test_what_is_held_has_no_id_yet() -> None:
    watch = Watch(min_duration="5s")
    one = watch.begin("P1")
    watch.go(4)
    assert watch.lifecycle.id_of(one.source) is None
    watch.go(1)
    assert watch.lifecycle.id_of(one.source) == one.source


def test_what_was_held_and_dropped_does_not_count_as_an_opening() -> None:
    watch = Watch(min_duration="5s", flap_after=1)
    for _ in range(5):
        watch.blink("P1", lasts=2)
    assert not watch.blink("P1", lasts=10)[0].flapping


def test_a_minimum_duration_beyond_detect_within_is_refused() -> None:
    with pytest.raises(ValueError, match="min_duration is 20s and detect_within is 20s, expected min_duration below"):
        options(min_duration="20s")


# -- cooldown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rests", "sensors", "same"),
    [
        (30, ("P1", "P2"), True),
        (59, ("P1",), True),
        (30, ("P1", "F1"), True),
        (30, ("F1",), False),
        (61, ("P1", "P2"), False),
    ],
)
def test_trouble_that_comes_back_within_the_cooldown_is_the_same_incident(
    rests: int, sensors: tuple[str, ...], same: bool
) -> None:
    watch = Watch()
    first = watch.blink("P1", "P2", rests=rests)[0]
    opened, closed = watch.blink(*sensors)
    assert (opened.id == first.id, opened.reopened, opened.state) == (same, int(same), OPEN)
    assert (closed.id, closed.state) == (opened.id, CLOSED)
    assert (opened.opened_ns == first.opened_ns) is same


def test_another_kind_of_trouble_is_another_incident() -> None:
    watch = Watch()
    first = watch.blink("P1")[0]
    watch.begin("P1", kind=IncidentKind.RULE, rules=("too hot",))
    assert watch.go()[0].id != first.id


def test_two_troubles_at_once_are_two_incidents() -> None:
    watch = Watch()
    watch.blink("P1", "P2")
    watch.begin("P1")
    watch.begin("P2")
    first, second = watch.go()
    assert first.id != second.id


# -- flapping --------------------------------------------------------------------------------------------------


def test_flapping_is_told_once_and_then_nothing_until_it_is_calm() -> None:
    watch = Watch()
    for _ in range(3):
        watch.blink("P1")
    assert states(watch.told) == [OPEN, CLOSED] * 3
    told = watch.blink("P1")
    assert (states(told), told[0].flapping, told[0].reopened) == ([OPEN], True, 3)
    assert "flapping: opened 4 times within 10m" in told[0].summary
    for _ in range(20):
        assert watch.blink("P1", rests=100) == []
    assert watch.go(498) == []
    (calm,) = watch.go(3)
    assert (calm.state, calm.flapping, calm.reopened) == (CLOSED, True, 23)
    assert len({incident.id for incident in watch.told}) == 1


def test_flapping_counts_across_the_cooldown() -> None:
    watch = Watch()
    told = [watch.blink("P1", rests=100)[0] for _ in range(4)]
    assert [incident.flapping for incident in told] == [False, False, False, True]


def test_openings_that_lie_further_apart_do_not_flap() -> None:
    watch = Watch()
    told = [watch.blink("P1", rests=300)[0] for _ in range(10)]
    assert not any(incident.flapping for incident in told)


def test_flapping_that_gets_worse_is_told() -> None:
    watch = Watch()
    for _ in range(4):
        watch.blink("P1")
    one = watch.begin("P1")
    assert watch.go() == []
    watch.change(one, severity=Severity.CRITICAL)
    (told,) = watch.go()
    assert (told.state, told.severity, told.flapping) == (UPDATED, Severity.CRITICAL, True)
    assert told.summary.count("flapping") == 1


def test_flapping_can_be_switched_off() -> None:
    watch = Watch(flap_after=0)
    for _ in range(20):
        assert states(watch.blink("P1")) == [OPEN, CLOSED]


# -- maintenance -----------------------------------------------------------------------------------------------

WEEKLY = {"name": "service", "begins": "0 6 * * SUN", "duration": "2h"}


@pytest.mark.parametrize(
    ("window", "sensors", "suppressed"),
    [
        ({}, ("F1",), True),
        ({"areas": ["pumps"]}, ("P1", "P2"), True),
        ({"areas": ["pump*"]}, ("P1",), True),
        ({"areas": ["pumps"]}, ("P1", "F1"), False),
        ({"sensors": ["P*"]}, ("P1", "P2"), True),
        ({"sensors": ["P1"]}, ("P1", "P2"), False),
        ({"sensors": ["F1"], "areas": ["pumps"]}, ("P1", "F1"), True),
        ({"areas": ["*"]}, ("unknown",), False),
        ({"timezone": "Europe/Berlin"}, ("P1",), True),
        ({"timezone": "Asia/Tokyo"}, ("P1",), False),
        ({"begins": "0 6 * * MON"}, ("P1",), False),
    ],
)
def test_maintenance_suppresses_what_it_covers(
    window: dict[str, Any], sensors: tuple[str, ...], suppressed: bool
) -> None:
    watch = Watch(SUNDAY + 10 * S, maintenance=[{**WEEKLY, **window}])
    watch.begin(*sensors)
    assert [incident.suppressed for incident in watch.go()] == ["maintenance service" if suppressed else None]


def test_an_incident_that_outlasts_its_window_is_told_again() -> None:
    watch = Watch(SUNDAY - 5 * S, maintenance=[{**WEEKLY, "duration": "30s"}])
    watch.begin("P1")
    told = watch.go(60)
    assert states(told) == [OPEN, UPDATED, UPDATED]
    assert [incident.suppressed for incident in told] == [None, "maintenance service", None]
    assert [(incident.updated_ns - SUNDAY) // S for incident in told] == [-5, 0, 30]


def test_a_window_says_that_nothing_is_to_be_learned() -> None:
    lifecycle = Watch(maintenance=[WEEKLY]).lifecycle
    found = [lifecycle.under_maintenance(SUNDAY + second * S, tuple) for second in (-1, 0, 7199, 7200)]
    assert found == [False, True, True, False]


def test_a_clock_that_was_never_set_opens_no_window() -> None:
    lifecycle = Watch(maintenance=[{**WEEKLY, "begins": "* * * * *"}]).lifecycle
    assert not lifecycle.under_maintenance(1000 * S, tuple)
    assert lifecycle.under_maintenance(SUNDAY, tuple)


def test_a_clock_that_is_set_back_into_the_window_opens_it_again() -> None:
    lifecycle = Watch(maintenance=[WEEKLY]).lifecycle
    found = [lifecycle.under_maintenance(SUNDAY + second * S, tuple) for second in (8000, 100, 8000, -100, 100)]
    assert found == [False, True, False, False, True]


@pytest.mark.parametrize(
    ("start", "inside"),
    [
        ("2026-03-29T00:59:00+00:00", False),  # 02:30 does not exist in the night the clocks go forward: it is 03:00
        ("2026-03-29T01:00:00+00:00", True),
        ("2026-10-25T00:30:00+00:00", True),  # 02:30 comes twice in the night the clocks go back: only the first counts
        ("2026-10-25T01:31:00+00:00", False),
        ("2026-06-01T00:31:00+00:00", True),
        ("2026-12-01T01:31:00+00:00", True),
    ],
)
def test_windows_follow_the_clock_on_the_wall_through_summer_time(start: str, inside: bool) -> None:
    window = {"name": "night", "begins": "30 2 * * *", "duration": "1h", "timezone": "Europe/Berlin"}
    lifecycle = Watch(maintenance=[window]).lifecycle
    assert lifecycle.under_maintenance(int(datetime.fromisoformat(start).timestamp()) * S, tuple) is inside


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"begins": "0 6 * *"}, "begins: got '0 6 \\* \\*', expected five fields as in a crontab"),
        ({"begins": "0 25 * * *"}, "begins: got '0 25 \\* \\* \\*' \\(Bad hour\\), expected five fields"),
        ({"begins": "0 0 30 2 *"}, "begins: got '0 0 30 2 \\*'"),
        ({"timezone": "Europe/Berlyn"}, "got 'Europe/Berlyn', expected a time zone such as UTC or Europe/Berlin"),
        ({"timezone": "../etc/passwd"}, "expected a time zone"),
        ({"duration": "0s"}, "greater than 0"),
        ({"duration": "32d"}, "less than or equal"),
    ],
)
def test_a_window_with_a_mistake_is_refused(window: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(maintenance=[{**WEEKLY, **window}])


def test_two_windows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="maintenance: got the names service, service, expected each of them once"):
        options(maintenance=[WEEKLY, WEEKLY])


# -- operators -------------------------------------------------------------------------------------------------


def order(watch: Watch, lasts_s: int = 100, sensors: tuple[str, ...] = ("P*",), areas: tuple[str, ...] = ()) -> Order:
    return Order("O1", sensors, areas, watch.wall_ns, watch.wall_ns + lasts_s * S, "kim", "pump test")


def test_an_order_suppresses_at_once_and_until_it_ends() -> None:
    watch = Watch()
    watch.begin("P1")
    watch.go()
    (told,) = watch.lifecycle.suppress(order(watch), watch.tick * S, watch.wall_ns)
    assert (told.state, told.suppressed) == (UPDATED, "order O1 by kim")
    assert watch.go(99) == []
    (told,) = watch.go()
    assert told.suppressed is None
    assert list(watch.lifecycle.orders) == []


def test_an_order_can_be_lifted_once() -> None:
    watch = Watch()
    watch.lifecycle.suppress(order(watch), watch.tick * S, watch.wall_ns)
    watch.begin("P1")
    assert watch.go()[0].suppressed == "order O1 by kim"
    lifted = watch.lifecycle.lift("O1", watch.wall_ns)
    assert lifted is not None
    assert [incident.suppressed for incident in lifted] == [None]
    assert watch.lifecycle.lift("O1", watch.wall_ns) is None


@pytest.mark.parametrize(
    ("sensors", "areas", "suppressed"),
    [(("P*",), (), False), (("*",), (), True), ((), ("pumps", "filters"), True), (("F1",), ("pumps",), True)],
)
def test_an_order_hides_only_incidents_it_covers_completely(
    sensors: tuple[str, ...], areas: tuple[str, ...], suppressed: bool
) -> None:
    watch = Watch()
    watch.lifecycle.suppress(order(watch, sensors=sensors, areas=areas), watch.tick * S, watch.wall_ns)
    watch.begin("P1", "F1")
    assert (watch.go()[0].suppressed is not None) is suppressed


def test_a_wall_clock_that_is_set_neither_ends_nor_prolongs_an_order() -> None:
    for jump_s in (-86_400, 86_400):
        watch = Watch()
        watch.lifecycle.suppress(order(watch), watch.tick * S, watch.wall_ns)
        watch.wall_ns += jump_s * S
        watch.go(99)
        assert len(list(watch.lifecycle.orders)) == 1
        watch.go(1)
        assert len(list(watch.lifecycle.orders)) == 0


def test_an_acknowledgement_is_told_and_stays() -> None:
    watch = Watch()
    one = watch.begin("P1")
    watch.go()
    said = Acknowledgement("kim", watch.wall_ns, "on my way")
    told = watch.lifecycle.acknowledge(one.source, said)
    assert told is not None
    assert (told.state, told.acknowledged) == (UPDATED, said)
    again = watch.lifecycle.acknowledge(one.source, replace(said, time_ns=said.time_ns + 5 * S))
    assert again is not None
    assert again.acknowledged == said
    watch.end(one)
    assert watch.go()[0].acknowledged == said
    assert watch.lifecycle.acknowledge(one.source, said) is None
    assert watch.lifecycle.acknowledge("nope", said) is None
    assert watch.blink("P1")[0].acknowledged == said


# -- restart ---------------------------------------------------------------------------------------------------


def test_an_incident_found_again_after_a_restart_keeps_its_id_and_what_was_said() -> None:
    watch = Watch()
    one = watch.begin("P1", "P2", severity=Severity.HIGH)
    watch.go(5)
    watch.lifecycle.acknowledge(one.source, Acknowledgement("kim", watch.wall_ns))
    after = watch.restarted()
    assert after.lifecycle.resuming
    assert after.go(10) == []
    again = after.begin("P1")
    (told,) = after.go()
    assert (told.id, told.state, told.reopened) == (one.source, UPDATED, 0)
    assert told.acknowledged is not None
    assert told.severity is Severity.HIGH
    assert told.opened_ns == watch.told[0].opened_ns
    assert not after.lifecycle.resuming
    after.end(again)
    assert [(one.id, one.state) for one in after.go()] == [(told.id, CLOSED)]


def test_an_incident_that_is_over_after_a_restart_is_closed() -> None:
    watch = Watch()
    watch.begin("P1")
    watch.go(5)
    after = watch.restarted()
    assert after.go(29) == []
    (told,) = after.go(1)
    assert (told.id, told.state, told.closed_ns) == (watch.told[0].id, CLOSED, after.wall_ns)
    assert not after.lifecycle.resuming


def test_nothing_is_over_while_the_decision_still_warms_up() -> None:
    watch = Watch()
    watch.begin("P1")
    watch.go(5)
    after = watch.restarted()
    after.judging = False
    assert after.go(1000) == []
    after.judging = True
    assert states(after.go(30)) == [CLOSED]


def test_bad_readings_need_no_warm_up_to_be_over() -> None:
    watch = Watch()
    watch.begin("P1", kind=IncidentKind.DATA_QUALITY)
    watch.go(5)
    after = watch.restarted()
    after.judging = False
    assert after.go(79) == []
    assert states(after.go(1)) == [CLOSED]


def test_cooldown_flapping_and_orders_outlive_a_restart() -> None:
    watch = Watch()
    for _ in range(3):
        watch.blink("P1", rests=10)
    watch.lifecycle.suppress(order(watch, 100), watch.tick * S, watch.wall_ns)
    after = watch.restarted(20)
    told = after.blink("P1", rests=10)
    assert (states(told), told[0].flapping, told[0].suppressed) == ([OPEN], True, "order O1 by kim")
    assert told[0].id == watch.told[0].id
    twice = after.restarted(20)
    assert [incident.suppressed for incident in twice.go(45)] == [None]
    assert twice.blink("P1") == []
    assert states(twice.go(700)) == [CLOSED]


@pytest.mark.parametrize("away_s", [-86_400, 0])
def test_a_clock_that_lost_its_time_over_the_restart_ends_no_order(away_s: int) -> None:
    watch = Watch()
    watch.lifecycle.suppress(order(watch, 100), watch.tick * S, watch.wall_ns)
    after = watch.restarted(away_s)
    after.go(99)
    assert len(list(after.lifecycle.orders)) == 1
    after.go(1)
    assert len(list(after.lifecycle.orders)) == 0


def test_a_clock_that_is_set_only_after_the_restart_ends_no_order() -> None:
    watch = Watch(1000 * S)
    watch.lifecycle.suppress(order(watch, 100), watch.tick * S, watch.wall_ns)
    after = watch.restarted(SUNDAY // S)
    after.go(99)
    assert len(list(after.lifecycle.orders)) == 1


def test_a_flapping_incident_is_found_to_be_calm_after_a_restart() -> None:
    watch = Watch()
    for _ in range(4):
        watch.blink("P1")
    after = watch.restarted(700)
    assert states(after.go()) == [CLOSED]


# -- the clock -------------------------------------------------------------------------------------------------


def test_a_clock_set_back_changes_no_id_and_no_order_of_times() -> None:
    watch = Watch()
    one = watch.begin("P1")
    watch.go(5)
    watch.wall_ns -= 7 * 86_400 * S
    watch.change(one, severity=Severity.HIGH)
    watch.go(5)
    watch.end(one)
    watch.go(5)
    assert states(watch.told) == [OPEN, UPDATED, CLOSED]
    assert len({incident.id for incident in watch.told}) == 1
    times = [incident.updated_ns for incident in watch.told]
    assert times == sorted(times)
    assert watch.told[-1].closed_ns is not None
    assert watch.told[-1].closed_ns >= watch.told[-1].opened_ns
    assert watch.blink("P1")[0].reopened == 1


def test_a_new_recording_closes_what_is_open_and_forgets_the_rest() -> None:
    watch = Watch()
    for _ in range(4):
        watch.blink("P1")
    one = watch.begin("F1")
    watch.go()
    told = watch.lifecycle.new_run([watch.incident(one, CLOSED)], watch.tick * S, watch.wall_ns)
    assert states(told) == [CLOSED, CLOSED]
    assert watch.blink("P1")[0].reopened == 0


# -- whatever happens ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "change", "end", "wait", "order", "lift", "ack", "restart", "clock", "maintenance"]),
        st.integers(0, 3),
        st.integers(1, 80),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, least=st.sampled_from(["0s", "5s"]))
def test_ids_are_unique_and_nothing_follows_a_close_but_a_reopening(
    steps: list[tuple[str, int, int]], least: str
) -> None:
    watch = Watch(min_duration=least)
    sensors = [("P1",), ("P1", "P2"), ("F1",), ("X1", "X2", "X3")]
    told: list[Incident] = []
    for what, which, seconds in steps:
        active = [one for one in watch.active.values() if one.sensors == sensors[which]]
        if what == "begin" and not active:
            watch.begin(*sensors[which])
        elif what == "change" and active:
            watch.change(active[0], severity=list(Severity)[seconds % 4])
        elif what == "end" and active:
            watch.end(active[0])
        elif what == "order":
            told += watch.lifecycle.suppress(order(watch, seconds), watch.tick * S, watch.wall_ns)
        elif what == "lift":
            told += watch.lifecycle.lift("O1", watch.wall_ns) or []
        elif what == "ack" and watch.lifecycle.open_incidents():
            one = watch.lifecycle.open_incidents()[0]
            found = watch.lifecycle.acknowledge(one.id, Acknowledgement("kim", watch.wall_ns, str(seconds)))
            told += [] if found is None else [found]
        elif what == "restart":
            watch = watch.restarted(seconds, min_duration=least)
        elif what == "clock":
            watch.wall_ns += (which - 2) * 86_400 * S
        told += watch.go(seconds if what == "wait" else 1)
    watch.pending = [watch.incident(one, CLOSED) for one in watch.active.values()]
    watch.active = {}
    told += watch.go(2000)
    assert_lives_are_whole(told)
    assert watch.lifecycle.open_incidents() == []


def assert_lives_are_whole(told: list[Incident]) -> None:
    lives: dict[str, list[Incident]] = {}
    for incident in told:
        lives.setdefault(incident.id, []).append(incident)
    for events in lives.values():
        assert events[0].state is OPEN
        assert events[-1].state is CLOSED
        assert len({event.opened_ns for event in events}) == 1
        times = [event.updated_ns for event in events]
        assert times == sorted(times)
        openings = [event.reopened for event in events if event.state is OPEN]
        assert openings == sorted(set(openings))
        for before, after in pairwise(events):
            if before.state is CLOSED:
                assert after.state is OPEN
                assert after.reopened > before.reopened
            else:
                assert after.state is not OPEN
