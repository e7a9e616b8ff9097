"""The built-in title and text, and how quantities are written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.templates.plain import TITLE_LENGTH, plain_text, title
from edge_agent.templates.samples import sample_events
from edge_agent.templates.units import duration_text, quantity_text, seconds_between
from edge_agent.verdict import Event, EventKind

FULL, BARE, *_ = sample_events([EventKind.INCIDENT])
[STATUS] = sample_events([EventKind.STATUS])


def test_title_says_how_urgent_where_and_what() -> None:
    assert title(BARE) == "[LOW] gateway-7: incident opened: x"
    assert title(FULL).startswith("(late) [HIGH] gateway-7: incident opened: LIT301 rises 4.1 mm/s")
    escalated = replace(BARE, body={**BARE.body, "escalated": True})
    assert title(escalated).startswith("[LOW, NOBODY HAS ACKNOWLEDGED] ")
    assert title(STATUS) == "gateway-7: enough normal data was seen; incidents are now raised"


@pytest.mark.parametrize("event", list(sample_events(EventKind)), ids=lambda event: event.kind.value)
def test_title_is_one_short_line_and_the_text_is_never_empty(event: Event) -> None:
    long = replace(event, body={**event.body, "summary": "word\r\n" * 500, "message": "word\n" * 500})
    for shown in (event, long):
        assert 0 < len(title(shown)) <= TITLE_LENGTH
        assert len(title(shown).splitlines()) == 1
        assert plain_text(shown).strip()


def test_text_of_a_full_incident() -> None:
    assert plain_text(FULL).splitlines() == [
        'LIT301 rises 4.1 mm/s while FIT201 and "P101" say inflow is off; first seen 10:42:07',
        "",
        "Incident 01KA8Q4Z9T6M2V0C5H7N3XWRBD on gateway-7: high, process, open, reopened 2 times",
        "Opened 2026-11-20 10:42:07 UTC, open for 3m 20s",
        "Area: tank farm",
        "Rules that hold: tank-high",
        "Sensors:",
        "  LIT301 (62 %): above what its neighbours say",
        "  FIT201 (20 %): seen nothing",
        "Began with LIT301, then FIT201 after 3s",
        "Looks like: Spoofed reporting (T0856), 82 %",
        "Similar: 01KA0000000000000000000000 of 2026-11-20 10:42:07 UTC, judged false_alarm",
        "Acknowledged by anna at 2026-11-20 10:43:07 UTC: on my way",
        "Suppressed: maintenance window 'weekly'",
        "Late: this happened at 2026-11-20 10:42:07 UTC, and could not be sent before.",
    ]


def test_text_names_no_more_than_eight_sensors() -> None:
    many = replace(BARE, body={**BARE.body, "sensors": [{"sensor": f"s{i}", "seen": 1.0} for i in range(20)]})
    assert plain_text(many).endswith("  s7: seen 1\n  and 12 more")


def test_event_with_an_empty_body_still_has_a_text() -> None:
    for kind in EventKind:
        event = Event("e", kind, 0, {})
        assert title(event)
        assert plain_text(event)


def test_text_does_not_fail_on_a_time_that_is_none() -> None:
    odd = replace(BARE, body={**BARE.body, "opened": "yesterday", "updated": 7})
    assert "Opened yesterday, open for ?" in plain_text(odd)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0, "0s"), (0.25, "0.2s"), (45, "45s"), (200, "3m 20s"), (3600, "1h"), (3660, "1h 1m"), (3605, "1h"),
     (90_061, "1d 1h"), (-5, "-5s")],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(812.412, "mm", "812.4 mm"), (12345.6, None, "12346"), (0.000123456, "bar", "0.0001235 bar"),
     (None, "mm", "nothing"), (-1e12, None, "-1e+12")],
)  # fmt: skip
def test_quantity(value: float | None, unit: str | None, text: str) -> None:
    assert quantity_text(value, unit) == text


def test_seconds_between_refuses_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="got None, expected a time such as 2026-11-20T10:42:07Z"):
        seconds_between("2026-11-20T10:42:07Z", None)  # type: ignore[arg-type]
