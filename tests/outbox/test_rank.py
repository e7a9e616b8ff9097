from __future__ import annotations

from typing import Any

import pytest

from edge_agent.outbox.rank import Rank, rank
from edge_agent.verdict import Event, EventKind


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (EventKind.SCORES, {}, Rank.SAMPLE),
        (EventKind.READINGS, {}, Rank.SAMPLE),
        (EventKind.STATUS, {}, Rank.NEWS),
        (EventKind.INCIDENT, {"state": "updated"}, Rank.NEWS),
        (EventKind.INCIDENT, {"state": "updated", "escalated": True}, Rank.ESSENTIAL),
        (EventKind.INCIDENT, {"state": "open"}, Rank.ESSENTIAL),
        (EventKind.INCIDENT, {"state": "closed"}, Rank.ESSENTIAL),
        (EventKind.DIGEST, {}, Rank.ESSENTIAL),
    ],
)
def test_what_people_must_not_miss_goes_last(kind: EventKind, body: dict[str, Any], expected: Rank) -> None:
    assert rank(Event("1", kind, 0, body)) is expected
