"""Hours of the day and digests at fixed times: a sink is told when somebody is there to read it."""

from __future__ import annotations

from typing import Any

import pytest
from desk import CLOSED, NS, T0, UPDATED, Desk, told
from pydantic import ValidationError

from edge_agent.contract import SinkOptions
from edge_agent.notify import Moment
from edge_agent.verdict import EventKind, Severity

# T0 is Thursday 2025-10-09 08:53:20 UTC
MORNING = 8 * 3600 + 53 * 60 + 20
OFFICE: dict[str, Any] = {"schedule": [{"begins": "0 9 * * MON-FRI", "duration": "8h"}]}
NIGHT: dict[str, Any] = {"schedule": [{"begins": "0 17 * * *", "duration": "16h"}]}


def at(desk: Desk, hour: int, minute: int = 0, day: int = 0) -> None:
    desk.second = day * 86_400 + hour * 3600 + minute * 60 - MORNING


def test_each_sink_is_told_in_its_hours() -> None:
    desk = Desk({"mail": OFFICE, "phone": NIGHT})
    for hour, day, sinks in ((10, 0, ["mail"]), (18, 0, ["phone"]), (8, 1, ["phone"]), (10, 2, [])):
        at(desk, hour, day=day)
        assert [one.sink for one in desk.incident(incident=f"{day}-{hour}")] == sinks
    assert desk.held("mail", "schedule") == 3


def test_hours_are_those_of_the_plant() -> None:
    berlin = {"schedule": [{"begins": "0 9 * * *", "duration": "1h", "timezone": "Europe/Berlin"}]}
    desk = Desk({"mail": berlin})
    at(desk, 7, 30)  # 09:30 in Berlin, summer time
    assert told(desk.incident()) == [("mail", "open")]
    at(desk, 9, 30)
    assert desk.incident(incident="i2") == []


def test_what_is_still_open_when_the_hours_begin_is_told_then() -> None:
    desk = Desk({"mail": OFFICE})
    desk.incident()
    desk.incident(incident="gone")
    desk.incident(CLOSED, incident="gone")
    assert desk.after(399) == []
    assert [(one.sink, one.event.body["id"]) for one in desk.after(1)] == [("mail", "i1")]
    assert desk.after(3600) == []
    assert told(desk.incident(UPDATED)) == [("mail", "updated")]


def test_what_the_sink_did_not_choose_is_not_told_when_its_hours_begin() -> None:
    desk = Desk({"mail": {**OFFICE, "severity": "high"}})
    desk.incident()
    desk.incident(incident="quiet", severity=Severity.HIGH, suppressed="order")
    assert desk.after(3600) == []


def test_the_end_of_what_was_told_is_told_at_any_hour() -> None:
    desk = Desk({"mail": OFFICE})
    at(desk, 16)
    desk.incident()
    at(desk, 20)
    assert desk.incident(UPDATED) == []
    assert told(desk.incident(CLOSED)) == [("mail", "closed")]


def test_status_events_keep_to_the_hours_too() -> None:
    desk = Desk({"mail": OFFICE})
    assert desk.event({"what": "model", "message": "swapped"}, EventKind.STATUS) == []
    at(desk, 10)
    assert len(desk.event({"what": "model", "message": "swapped"}, EventKind.STATUS)) == 1


def test_an_escalation_comes_at_any_hour() -> None:
    desk = Desk({"mail": {"escalate": {"after": "15m", "to": "phone"}}, "phone": OFFICE})
    at(desk, 20)
    assert told(desk.incident()) == [("mail", "open")]
    assert told(desk.after(900)) == [("phone", "open")]


def test_a_gateway_that_does_not_know_the_time_tells_at_once() -> None:
    desk = Desk({"mail": OFFICE}, offset_s=-T0)
    assert told(desk.incident()) == [("mail", "open")]


def test_a_restart_within_the_hours_tells_what_was_missed_and_nothing_twice() -> None:
    desk = Desk({"mail": OFFICE})
    desk.incident()
    other = desk.restarted({"mail": OFFICE}, 3600)
    assert told(other.after(1)) == [("mail", "open")]
    again = other.restarted({"mail": OFFICE}, 60)
    assert again.after(1) == []


# -- digests at fixed times ------------------------------------------------------------------------------------

DAILY: dict[str, Any] = {"mail": {"digest": {"at": "0 7 * * *", "timezone": "Europe/Berlin"}}}


def test_a_digest_comes_at_its_time_of_day() -> None:
    desk = Desk(DAILY)
    desk.incident()
    assert desk.router.describe("mail", desk.now)["digest"] == "2025-10-10T05:00:00.000Z"
    at(desk, 4, 59, day=1)
    assert desk.after(59) == []
    [dispatch] = desk.after(1)
    assert (dispatch.event.body["from"], dispatch.event.body["to"]) == (
        "2025-10-09T08:53:20.000Z",
        "2025-10-10T05:00:00.000Z",
    )
    assert desk.after(86_399) == []


def test_a_digest_due_while_the_agent_was_down_comes_at_the_start() -> None:
    desk = Desk(DAILY)
    desk.incident()
    other = desk.restarted(DAILY, 3 * 86_400)
    assert [one.event.body["incidents"] for one in other.after(1)] == [1]
    assert other.after(3600) == []


def test_a_digest_waits_for_the_hours_of_its_sink() -> None:
    desk = Desk({"mail": {**OFFICE, "digest": {"every": "10m"}}})
    assert desk.incident() == []
    assert desk.after(399) == []
    assert desk.after(201)[0].event.kind is EventKind.DIGEST
    desk.incident(UPDATED)
    at(desk, 20)
    assert desk.router.due(desk.now) == []
    at(desk, 9, 0, day=1)
    assert [one.event.kind for one in desk.router.due(desk.now)] == [EventKind.DIGEST]


def test_a_critical_incident_of_the_night_is_told_in_the_morning_beside_the_digest() -> None:
    desk = Desk({"mail": {**OFFICE, "digest": {"every": "1h"}}})
    assert desk.incident(severity=Severity.CRITICAL) + desk.incident(incident="i2") == []
    assert told(desk.after(400)) == [("mail", "open")]


def test_a_clock_that_is_set_for_the_first_time_begins_the_period_anew() -> None:
    desk = Desk(DAILY, offset_s=-T0)
    desk.incident()
    desk.wall_offset_s = T0
    assert desk.after(1) == []
    desk.second += 86_400
    [dispatch] = desk.router.due(desk.now)
    assert dispatch.event.body["from"] == "2025-10-09T08:53:21.000Z"


def test_a_clock_that_is_set_back_does_not_stop_digests() -> None:
    desk = Desk(DAILY)
    desk.incident()
    desk.wall_offset_s -= 10 * 86_400
    assert desk.after(1) == []
    desk.second += 86_400
    assert len(desk.router.due(desk.now)) == 1


# -- options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digest": {}}, "got neither `every` nor `at`, expected one of them"),
        ({"digest": {"every": "1h", "at": "0 7 * * *"}}, "got both `every` and `at`, expected one of them"),
        ({"digest": {"at": "7:00"}}, "at: got '7:00', expected five fields as in a crontab"),
        ({"digest": {"at": "0 7 31 2 *"}}, "at: got '0 7 31 2 *' (Bad day-of-month), expected five fields"),
        ({"digest": {"at": "0 7 * * *", "timezone": "Berlin"}}, "timezone: got 'Berlin', expected a time zone such as"),
        ({"schedule": [{"begins": "0 25 * * *", "duration": "1h"}]}, "begins: got '0 25 * * *' (Bad hour)"),
        ({"schedule": [{"begins": "0 7 * * *", "duration": "1h", "timezone": "/etc/passwd"}]}, "timezone: got '/etc"),
    ],
)
def test_a_time_that_cannot_be_meant_is_a_mistake(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SinkOptions(type="probe", **options)
    assert message in str(caught.value)


def test_a_moment_of_the_wall_clock_is_never_before_now() -> None:
    now = Moment(5 * NS, T0 * NS)
    assert now.monotonic_at(now.wall_ns - 7 * NS, 60 * NS) == now.monotonic_ns
    assert now.monotonic_at(now.wall_ns + 7 * NS, 60 * NS) == now.monotonic_ns + 7 * NS
    assert now.monotonic_at(now.wall_ns + 999 * NS, 60 * NS) == now.monotonic_ns + 60 * NS
