"""What people say of incidents: kept, said twice, corrected, over restarts, and on a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.clock import VirtualClock
from edge_agent.errors import StoreError
from edge_agent.history import History, HistoryOptions
from edge_agent.metrics import Metrics
from edge_agent.verdict import Feedback, Incident, IncidentKind, IncidentState, Severity

NOW = 1_800_000_000_000_000_000
HOUR = 3_600_000_000_000


def incident(name: str) -> Incident:
    return Incident(
        name, IncidentKind.PROCESS, IncidentState.CLOSED, Severity.LOW, NOW, NOW + 5, NOW + 5, 0, 1, 0.1, 1.0, "", ()
    )


async def opened(path: Path, clock: VirtualClock) -> History:
    history = await History.open(path, HistoryOptions(), Metrics(), clock)
    await history.record(incident("A"))
    return history


async def test_feedback_is_kept_over_restarts_and_shown_with_its_incident(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    history = await opened(tmp_path / "h.db", clock)
    said = await history.judge("A", Feedback.FALSE_ALARM, "pump test", "me")
    assert said == {
        "incident": "A",
        "verdict": "false_alarm",
        "note": "pump test",
        "by": "me",
        "time": "2027-01-15T08:00:00.000Z",
    }
    await history.close()
    history = await opened(tmp_path / "h.db", clock)
    assert (await history.incident("A") or {})["feedback"] == said
    assert [found["feedback"] for found in await history.incidents()] == [said]
    await history.close()


async def test_said_again_it_changes_nothing_and_said_otherwise_it_is_replaced(tmp_path: Path) -> None:
    clock = VirtualClock(NOW)
    history = await opened(tmp_path / "h.db", clock)
    first = await history.judge("A", Feedback.FALSE_ALARM, "", "me")
    clock.advance(HOUR)
    assert await history.judge("A", Feedback.FALSE_ALARM, "", "you") == first
    other = await history.judge("A", Feedback.TRUE_ALARM, "", "you")
    assert other is not None
    assert (other["verdict"], other["by"], other["time"]) == ("true_alarm", "you", "2027-01-15T09:00:00.000Z")
    assert (await history.incident("A") or {})["feedback"] == other
    await history.close()


async def test_an_unknown_incident_cannot_be_judged(tmp_path: Path) -> None:
    history = await opened(tmp_path / "h.db", VirtualClock(NOW))
    assert await history.judge("B", Feedback.TRUE_ALARM, "", "me") is None
    await history.close()


async def test_feedback_that_cannot_be_written_is_not_said_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("in the way")
    history = await opened(tmp_path / "folder" / "h.db", VirtualClock(NOW))
    with pytest.raises(StoreError, match="feedback on A could not be written; say it again later"):
        await history.judge("A", Feedback.TRUE_ALARM, "", "me")
    await history.close()
