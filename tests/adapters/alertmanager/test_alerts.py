"""Which alerts fire, without a network."""

from __future__ import annotations

from edge_adapters.alertmanager.alerts import Alert, AlertBook
from edge_agent.verdict import Event, EventKind, rfc3339


def make(event: Event) -> Alert:
    ends = rfc3339(event.time_ns) if event.body["state"] == "closed" else None
    return Alert({"incident": event.body["id"], "severity": event.body["severity"]}, {}, rfc3339(0), ends)


def event(second: int, state: str, severity: str = "low", name: str = "A", *, late: bool = False) -> Event:
    body = {"id": name, "state": state, "severity": severity}
    return Event(f"{name}{second}", EventKind.INCIDENT, second * 10**9, body, replayed=late)


def shown(book: AlertBook, *events: Event) -> list[tuple[str, str, bool]]:
    """Plan and adopt; incident, severity and whether it fires, of what is sent."""
    plan = book.plan(events)
    book.adopt(plan)
    return [(a.labels["incident"], a.labels["severity"], a.ends is None) for a in plan.alerts]


def test_one_request_holds_the_last_state_of_an_alert() -> None:
    book = AlertBook(make)
    assert shown(book, event(1, "open"), event(2, "updated"), event(3, "closed")) == [("A", "low", False)]
    assert book.firing == ()


def test_alert_of_old_labels_is_resolved_with_the_new_one() -> None:
    book = AlertBook(make)
    shown(book, event(1, "open"))
    assert shown(book, event(2, "updated", "high")) == [("A", "low", False), ("A", "high", True)]
    assert shown(book, event(3, "updated", "low")) == [("A", "high", False), ("A", "low", True)]
    assert [alert.labels["severity"] for alert in book.firing] == ["low"]


def test_plan_that_was_not_adopted_is_made_again() -> None:
    book = AlertBook(make)
    shown(book, event(1, "open"))
    change = [event(2, "updated", "high")]
    assert book.plan(change) == book.plan(change)
    assert [alert.labels["severity"] for alert in book.firing] == ["low"]


def test_late_word_on_an_incident_is_passed_over_but_a_stepped_clock_is_not() -> None:
    book = AlertBook(make)
    shown(book, event(9, "closed"))
    assert shown(book, event(5, "updated", late=True)) == []
    shown(book, event(9, "open", name="B"))
    assert shown(book, event(3, "closed", name="B")) == [("B", "low", False)]
    assert book.firing == ()


def test_memory_of_closed_incidents_is_bounded() -> None:
    book = AlertBook(make)
    for number in range(10_005):
        book.adopt(book.plan([event(9, "closed", name=str(number))]))
    assert shown(book, event(1, "open", name="10004", late=True)) == []
    assert shown(book, event(1, "open", name="0", late=True)) == [("0", "low", True)]


def test_no_time_is_later_than_the_time_there() -> None:
    alert = Alert({}, {}, "2026-11-20T11:00:00.000Z", "2026-11-20T11:05:00.000Z")
    document = alert.to_dict("2026-11-20T10:00:00.000Z")
    assert (document["startsAt"], document["endsAt"]) == ("2026-11-20T10:00:00.000Z",) * 2
    backwards = Alert({}, {}, "2026-11-20T11:05:00.000Z", "2026-11-20T11:00:00.000Z").to_dict(None)
    assert backwards["startsAt"] <= backwards["endsAt"]
