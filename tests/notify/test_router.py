"""Who is told what and when, without a daemon: time is a number."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from desk import ACK, CLOSED, T0, UPDATED, Desk, told

from edge_agent.verdict import EventKind, Severity, Step

# -- choosing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "incident", "reason"),
    [
        ({}, {}, None),
        ({"severity": "medium"}, {}, None),
        ({"severity": "high"}, {}, "severity"),
        ({"severity": "critical"}, {"severity": Severity.CRITICAL}, None),
        ({"kinds": ["rule"]}, {}, "kind"),
        ({"kinds": []}, {}, "kind"),
        ({"kinds": ["rule", "process"]}, {}, None),
        ({"areas": ["boiler*"]}, {"areas": ("intake", "boiler-2")}, None),
        ({"areas": ["boiler*"]}, {"areas": ("intake",)}, "area"),
        ({"areas": ["boiler*"]}, {}, "area"),
        ({"sensors": ["LIT*"]}, {}, None),
        ({"sensors": ["FIT*"]}, {}, "sensor"),
        ({"sensors": ["FIT*"]}, {"propagation": (Step("FIT201", 3, 1.0),)}, None),
        ({}, {"suppressed": "maintenance window: pump"}, "suppressed"),
        ({"suppressed": True}, {"suppressed": "maintenance window: pump"}, None),
    ],
)
def test_each_option_holds_back_what_it_says(
    options: dict[str, Any], incident: dict[str, Any], reason: str | None
) -> None:
    desk = Desk({"mail": options})
    assert told(desk.incident(**incident)) == ([("mail", "open")] if reason is None else [])
    held = {labels[1]: counter.value for labels, counter in desk.metrics.events_held_back.series()}
    assert held == ({} if reason is None else {reason: 1.0})
    assert desk.metrics.events_routed.labels("mail").value == (reason is None)


def test_each_kind_of_event_goes_to_the_sinks_that_ask_for_it() -> None:
    desk = Desk(
        {"all": {"events": ["incident", "status", "scores", "readings"]}, "default": {}, "none": {"events": []}}
    )
    assert told(desk.incident()) == [("all", "open"), ("default", "open")]
    for kind, sinks in (
        (EventKind.STATUS, ["all", "default"]),
        (EventKind.SCORES, ["all"]),
        (EventKind.READINGS, ["all"]),
    ):
        assert [one.sink for one in desk.event({"what": "x", "message": "y"}, kind)] == sinks


def test_the_end_of_an_incident_that_was_told_is_always_told() -> None:
    desk = Desk({"mail": {"severity": "high", "areas": ["a"], "sensors": ["LIT*"]}})
    assert told(desk.incident(severity=Severity.HIGH, areas=("a",))) == [("mail", "open")]
    assert told(desk.incident(CLOSED, severity=Severity.LOW, sensors=("FIT1",), suppressed="order")) == [
        ("mail", "closed")
    ]
    assert desk.router.watched == {}


def test_an_incident_that_rises_later_is_told_as_open() -> None:
    desk = Desk({"mail": {"severity": "high"}})
    assert desk.incident() == []
    [dispatch] = desk.incident(UPDATED, severity=Severity.HIGH)
    assert told([dispatch]) == [("mail", "open")]
    assert dispatch.event.id != "e2"  # its content differs from that of the event that other sinks have
    assert told(desk.incident(UPDATED, severity=Severity.HIGH)) == [("mail", "updated")]


def test_an_incident_that_spreads_into_an_area_is_told_there_as_open() -> None:
    desk = Desk({"boiler": {"areas": ["boiler"]}})
    assert desk.incident(areas=("intake",)) == []
    assert told(desk.incident(UPDATED, areas=("intake", "boiler"))) == [("boiler", "open")]


def test_an_incident_that_rises_only_as_it_ends_is_told_from_the_beginning() -> None:
    desk = Desk({"mail": {"severity": "high"}})
    assert desk.incident() == []
    opened, closed = desk.incident(CLOSED, severity=Severity.HIGH)
    assert told([opened, closed]) == [("mail", "open"), ("mail", "closed")]
    assert opened.event.id != closed.event.id


def test_an_incident_that_never_reached_the_severity_ends_in_silence() -> None:
    desk = Desk({"mail": {"severity": "high"}})
    assert desk.incident() + desk.incident(CLOSED) == []


def test_suppression_holds_back_until_it_is_lifted() -> None:
    desk = Desk({"mail": {}})
    assert desk.incident(suppressed="order") == []
    assert told(desk.incident(UPDATED)) == [("mail", "open")]
    assert desk.incident(UPDATED, suppressed="order") == []
    assert desk.held("mail", "suppressed") == 2
    assert told(desk.incident(CLOSED, suppressed="order")) == [("mail", "closed")]


def test_an_incident_that_opens_again_is_told_again() -> None:
    desk = Desk({"mail": {}})
    assert told(desk.incident() + desk.incident(CLOSED) + desk.incident(reopened=1)) == [
        ("mail", "open"),
        ("mail", "closed"),
        ("mail", "open"),
    ]


def test_of_too_many_open_incidents_the_oldest_are_forgotten() -> None:
    desk = Desk({"mail": {}})
    for number in range(1_001):
        desk.incident(incident=f"i{number}")
    assert len(desk.router.watched) == 1_000
    assert "i0" not in desk.router.watched


# -- escalation ------------------------------------------------------------------------------------------------

CHAIN: dict[str, dict[str, Any]] = {
    "mail": {"escalate": {"after": "15m", "to": "pager"}},
    "pager": {"kinds": [], "escalate": {"after": "30m", "to": "boss"}},
    "boss": {"kinds": []},
}


def test_what_nobody_acknowledges_goes_up_the_chain() -> None:
    desk = Desk(CHAIN)
    assert told(desk.incident()) == [("mail", "open")]
    assert desk.after(899) == []
    [dispatch] = desk.after(1)
    assert told([dispatch]) == [("pager", "open")]
    body = dispatch.event.body
    assert (body["escalated"], body["escalated_from"]) == (True, "mail")
    assert body["unacknowledged_since"] == "2025-10-09T08:53:20.000Z"
    assert desk.after(1799) == []
    assert told(desk.after(1)) == [("boss", "open")]
    assert desk.after(100_000) == []
    assert [(labels, one.value) for labels, one in desk.metrics.escalations.series()] == [
        (("mail", "pager"), 1.0),
        (("pager", "boss"), 1.0),
    ]


def test_who_was_told_by_escalation_hears_the_rest_of_it() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.after(900)
    updates = desk.incident(UPDATED)
    assert told(updates) == [("mail", "updated"), ("pager", "updated")]
    assert ["escalated" in one.event.body for one in updates] == [False, True]
    assert told(desk.incident(CLOSED)) == [("mail", "closed"), ("pager", "closed")]
    assert desk.after(100_000) == []


def test_an_acknowledgement_ends_it_at_every_step() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    assert told(desk.incident(UPDATED, acknowledged=ACK)) == [("mail", "updated")]
    assert desk.after(100_000) == []
    desk.incident(incident="i2")
    assert told(desk.after(900)) == [("pager", "open")]
    desk.incident(UPDATED, incident="i2", acknowledged=ACK)
    assert desk.after(100_000) == []


def test_an_incident_that_ends_in_time_is_not_escalated() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.second += 899
    desk.incident(CLOSED)
    assert desk.after(10_000) == []


def test_only_what_is_severe_enough_is_escalated_and_time_counts_from_then() -> None:
    desk = Desk({"mail": {"escalate": {"after": "15m", "to": "pager", "severity": "high"}}, "pager": {"kinds": []}})
    desk.incident()
    assert desk.after(10_000) == []
    desk.incident(UPDATED, severity=Severity.HIGH)
    assert desk.after(899) == []
    assert told(desk.after(1)) == [("pager", "open")]


def test_a_sink_that_knows_already_is_told_that_nobody_acknowledged() -> None:
    desk = Desk({"mail": {"escalate": {"after": "15m", "to": "pager"}}, "pager": {}})
    desk.incident()
    [dispatch] = desk.after(900)
    assert told([dispatch]) == [("pager", "updated")]
    assert dispatch.event.body["escalated"] is True


def test_nothing_is_escalated_while_it_is_suppressed() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.incident(UPDATED, suppressed="order")
    assert desk.after(10_000) == []
    desk.incident(UPDATED)
    assert told(desk.after(1)) == [("pager", "open")]


def test_a_wall_clock_that_is_set_neither_hastens_nor_delays_an_escalation() -> None:
    for jump_s in (-1_000_000, 1_000_000):
        desk = Desk(CHAIN)
        desk.incident()
        desk.wall_offset_s += jump_s
        assert desk.after(899) == []
        assert told(desk.after(1)) == [("pager", "open")]


@pytest.mark.parametrize(("down_s", "waits_s"), [(0, 600), (200, 400), (10_000, 0)])
def test_a_restart_neither_forgets_nor_delays_an_escalation(down_s: int, waits_s: int) -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.after(300)
    other = desk.restarted(CHAIN, down_s)
    if waits_s:
        assert other.after(waits_s - 1) == []
    [dispatch] = other.after(1)
    assert told([dispatch]) == [("pager", "open")]
    assert dispatch.event.body["unacknowledged_since"] == "2025-10-09T08:53:20.000Z"
    assert other.after(1) == []


def test_a_gateway_that_wakes_up_in_1970_escalates_after_the_whole_time() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.after(300)
    other = desk.restarted(CHAIN, clock_off_s=-T0)
    assert other.after(899) == []
    assert told(other.after(1)) == [("pager", "open")]


def test_what_was_escalated_before_a_restart_is_not_escalated_again() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.after(900)
    other = desk.restarted(CHAIN, 60)
    assert other.after(1_739) == []
    assert told(other.after(1)) == [("boss", "open")]
    assert told(other.incident(CLOSED)) == [("mail", "closed"), ("pager", "closed"), ("boss", "closed")]


def test_an_escalation_made_again_after_a_power_loss_has_the_id_it_had() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    other = desk.restarted(CHAIN, 60)  # what comes now was not on the disk when the power went
    [first] = desk.after(900)
    [again] = other.after(900)
    assert first.event.id == again.event.id


# -- digest ----------------------------------------------------------------------------------------------------

HOURLY: dict[str, dict[str, Any]] = {"mail": {"digest": {"every": "1h"}}}


def test_a_digest_takes_the_place_of_the_events_of_its_period() -> None:
    desk = Desk(HOURLY)
    assert desk.incident(areas=("boiler",)) == []
    assert desk.incident(CLOSED, areas=("boiler",)) == []
    assert desk.incident(incident="i2", severity=Severity.HIGH, sensors=("FIT201",)) == []
    assert desk.event({"what": "model", "message": "model swapped"}, EventKind.STATUS) == []
    assert desk.held("mail", "digest") == 4
    assert desk.after(3599) == []
    [dispatch] = desk.after(1)
    event = dispatch.event
    assert (dispatch.sink, event.kind) == ("mail", EventKind.DIGEST)
    assert {key: event.body[key] for key in ("incidents", "closed", "open_count", "by_severity", "by_area")} == {
        "incidents": 2,
        "closed": 1,
        "open_count": 1,
        "by_severity": {"high": 1, "medium": 1},
        "by_area": {"boiler": 1, "no area": 1},
    }
    assert [one["id"] for one in event.body["worst"]] == ["i2", "i1"]
    assert [one["id"] for one in event.body["open"]] == ["i2"]
    assert event.body["status"] == {"model": 1}
    assert event.body["message"].splitlines() == [
        "2 incidents from 2025-10-09 08:53 to 2025-10-09 09:53 UTC: 1 high, 1 medium",
        "areas: boiler 1, no area 1",
        "worst:",
        "- high: FIT201 rises (i2)",
        "- medium: LIT101 rises (i1)",
        "still open:",
        "- high: FIT201 rises (i2)",
        "status: model 1",
    ]
    orjson.dumps(event.message())


def test_critical_incidents_are_told_at_once_beside_the_digest() -> None:
    desk = Desk(HOURLY)
    assert told(desk.incident(severity=Severity.CRITICAL)) == [("mail", "open")]
    assert told(desk.incident(CLOSED, severity=Severity.CRITICAL)) == [("mail", "closed")]
    [dispatch] = desk.after(3600)
    assert dispatch.event.body["by_severity"] == {"critical": 1}


def test_an_incident_that_becomes_critical_is_told_as_open() -> None:
    desk = Desk(HOURLY)
    assert desk.incident() == []
    assert told(desk.incident(UPDATED, severity=Severity.CRITICAL)) == [("mail", "open")]


@pytest.mark.parametrize(("at_once", "expected"), [(None, []), ("high", [("mail", "open")]), ("critical", [])])
def test_what_is_told_at_once_beside_a_digest_can_be_chosen(at_once: str | None, expected: list[Any]) -> None:
    desk = Desk({"mail": {"digest": {"every": "1h", "at_once": at_once}}})
    assert told(desk.incident(severity=Severity.HIGH)) == expected


@pytest.mark.parametrize("empty", [True, False])
def test_a_period_without_events_gives_no_digest_unless_asked_for(empty: bool) -> None:
    desk = Desk({"mail": {"digest": {"every": "1h", "empty": empty}}})
    digests = [one.event.body["message"] for one in desk.after(3600)]
    assert digests == (["0 incidents from 2025-10-09 08:53 to 2025-10-09 09:53 UTC"] if empty else [])


def test_each_digest_covers_its_own_period() -> None:
    desk = Desk(HOURLY)
    desk.incident()
    assert [one.event.body["incidents"] for one in desk.after(3600)] == [1]
    assert desk.after(3600) == []
    desk.incident(CLOSED)
    [dispatch] = desk.after(3600)
    assert (dispatch.event.body["incidents"], dispatch.event.body["closed"]) == (1, 1)
    assert dispatch.event.body["from"] == "2025-10-09T10:53:20.000Z"


def test_what_a_sink_did_not_choose_is_not_in_its_digest() -> None:
    desk = Desk({"mail": {"severity": "high", "digest": {"every": "1h"}}})
    desk.incident()
    assert desk.after(3600) == []


def test_a_flood_in_one_period_is_counted_and_stays_small() -> None:
    desk = Desk(HOURLY)
    for number in range(5_000):
        desk.incident(incident=f"i{number}")
        desk.incident(CLOSED, incident=f"i{number}")
    [dispatch] = desk.after(3600)
    assert dispatch.event.body["incidents"] == 5_000
    assert len(orjson.dumps(dispatch.event.message())) < 10_000


def test_a_digest_outlives_a_restart() -> None:
    desk = Desk(HOURLY)
    desk.incident()
    desk.after(600)
    other = desk.restarted(HOURLY, 600)
    other.incident(incident="i2")
    assert other.after(2399) == []
    [dispatch] = other.after(1)
    assert dispatch.event.body["incidents"] == 2
    assert dispatch.event.body["from"] == "2025-10-09T08:53:20.000Z"


def test_a_digest_that_was_due_while_the_agent_was_down_comes_at_once() -> None:
    desk = Desk(HOURLY)
    desk.incident()
    other = desk.restarted(HOURLY, 86_400)
    assert [one.event.body["incidents"] for one in other.after(1)] == [1]


def test_an_incident_in_a_digest_is_escalated_too() -> None:
    desk = Desk({"mail": {**HOURLY["mail"], "escalate": {"after": "15m", "to": "pager"}}, "pager": {"kinds": []}})
    assert desk.incident() == []
    assert told(desk.after(900)) == [("pager", "open")]


# -- another configuration -------------------------------------------------------------------------------------


def test_a_reload_keeps_what_is_known() -> None:
    desk = Desk({**CHAIN, "file": {}})
    desk.incident()
    desk.after(300)
    desk.router.configure(desk.options({**CHAIN, "desk": {}}), desk.now)
    assert told(desk.after(600)) == [("pager", "open")]
    assert told(desk.incident(UPDATED)) == [("mail", "updated"), ("pager", "updated"), ("desk", "open")]


def test_a_reload_without_escalation_escalates_nothing() -> None:
    desk = Desk(CHAIN)
    desk.incident()
    desk.router.configure(desk.options({"mail": {}}), desk.now)
    assert desk.after(10_000) == []


def test_a_digest_that_is_no_more_is_told_at_the_next_look() -> None:
    desk = Desk(HOURLY)
    desk.incident()
    desk.router.configure(desk.options({"mail": {}}), desk.now)
    assert [one.event.kind for one in desk.after(1)] == [EventKind.DIGEST]
    assert desk.after(3600) == []
    assert told(desk.incident(CLOSED)) == [("mail", "open"), ("mail", "closed")]


def test_a_shorter_period_is_not_waited_for_longer() -> None:
    desk = Desk(HOURLY)
    desk.incident()
    desk.router.configure(desk.options({"mail": {"digest": {"every": "1m"}}}), desk.now)
    assert len(desk.after(60)) == 1


def test_a_sink_that_is_gone_at_the_restart_is_forgotten() -> None:
    desk = Desk({**CHAIN, "daily": {"digest": {"every": "1d"}}})
    desk.incident()
    other = desk.restarted({"desk": {}})
    assert other.after(10_000_000) == []
    assert told(other.incident(UPDATED)) == [("desk", "open")]


@pytest.mark.parametrize("saved", [{}, {"incidents": [{}], "digests": {}}, {"incidents": [], "digests": {"mail": {}}}])
def test_a_state_that_is_none_changes_nothing(saved: dict[str, Any]) -> None:
    desk = Desk(CHAIN)
    desk.incident()
    with pytest.raises((KeyError, TypeError, ValueError)):
        desk.router.restore(saved, desk.now)
    assert list(desk.router.watched) == ["i1"]


def test_series_for_plotting_are_told_at_a_change_and_not_kept() -> None:
    desk = Desk(CHAIN)
    first, *_ = desk.incident(severity=Severity.HIGH)
    assert first.event.body["series"] == {"LIT101": [1.0, 2.0]}
    [saved] = desk.router.state(desk.now)["incidents"]
    [escalated] = desk.after(3600)[:1]
    [known] = desk.router.told(first.sink)
    for body in (saved["body"], known.body, escalated.event.body):
        assert (body["series"], body["expected_series"], body["series_first"]) == ({}, {}, None)
        assert body.keys() >= first.event.body.keys()


def test_open_incidents_of_a_sink_outlive_a_restart_and_end_with_the_incident() -> None:
    desk = Desk({"desk": {}, "daily": {"digest": {"every": "1d"}}})
    desk.incident(incident="i1")
    desk.incident(UPDATED, "i1", severity=Severity.HIGH)
    desk.incident(incident="i2")
    assert desk.router.told("daily") == []
    other = desk.restarted({"desk": {}})
    assert [(event.body["id"], event.body["severity"]) for event in other.router.told("desk")] == [
        ("i1", "high"),
        ("i2", "medium"),
    ]
    other.incident(CLOSED, "i1")
    assert [event.body["id"] for event in other.router.told("desk")] == ["i2"]


def test_a_sink_says_what_it_waits_for() -> None:
    desk = Desk({**HOURLY, **CHAIN, "mail": {**HOURLY["mail"], **CHAIN["mail"]}})
    assert desk.router.describe("boss", desk.now) == {
        "incidents": 0,
        "escalation": None,
        "digest": None,
        "in_digest": 0,
    }
    desk.incident()
    assert desk.router.describe("mail", desk.now) == {
        "incidents": 1,
        "escalation": "2025-10-09T09:08:20.000Z",
        "digest": "2025-10-09T09:53:20.000Z",
        "in_digest": 1,
    }
