"""Earlier incidents that looked alike."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import VirtualClock
from edge_agent.history import History, HistoryOptions
from edge_agent.history.similar import MOST_KEPT, SimilarIncidents
from edge_agent.metrics import Metrics
from edge_agent.verdict import Contribution, Feedback, Incident, IncidentKind, IncidentState, Severity

Shares = dict[str, tuple[float, str | None]]


def body(name: str, shares: Shares, kind: str = "process", rules: tuple[str, ...] = ()) -> dict[str, Any]:
    sensors = [{"sensor": sensor, "share": share, "finding": did} for sensor, (share, did) in shares.items()]
    return {"id": name, "kind": kind, "summary": f"summary of {name}", "sensors": sensors, "rules": list(rules)}


NEW = body("new", {"LIT301": (0.8, "rises"), "FIT201": (0.2, "below")})


@pytest.mark.parametrize(
    ("other", "least", "most"),
    [
        (body("same", {"LIT301": (0.8, "rises"), "FIT201": (0.2, "below")}), 1.0, 1.0),
        (body("same sensors, other doings", {"LIT301": (0.8, "falls"), "FIT201": (0.2, "above")}), 0.75, 0.85),
        (body("other shares", {"LIT301": (0.2, "rises"), "FIT201": (0.8, "below")}), 0.4, 0.5),
        (body("one more", {"LIT301": (0.6, "rises"), "FIT201": (0.2, "below"), "P101": (0.2, None)}), 0.9, 0.99),
    ],
    ids=lambda value: value["id"] if isinstance(value, dict) else "",
)
def test_similarity_is_that_of_sensors_and_of_what_they_did(other: dict[str, Any], least: float, most: float) -> None:
    known = SimilarIncidents()
    known.keep(1, other)
    found = known.alike(NEW)
    similarity = found[0].similarity if found else 0.45
    assert least <= similarity <= most


@pytest.mark.parametrize(
    "other",
    [
        body("other sensors", {"P101": (1.0, "rises")}),
        body("other kind", {"LIT301": (0.8, "rises"), "FIT201": (0.2, "below")}, kind="data_quality"),
        body("new", {"LIT301": (0.8, "rises")}),
        body("nothing", {}),
    ],
    ids=lambda value: value["id"],
)
def test_what_is_not_alike_is_not_told(other: dict[str, Any]) -> None:
    known = SimilarIncidents()
    known.keep(1, other)
    assert known.alike(NEW) == ()


def test_incidents_of_the_same_rule_are_alike() -> None:
    known = SimilarIncidents()
    known.keep(1, body("earlier", {}, kind="rule", rules=("dry run",)))
    assert [one.id for one in known.alike(body("new", {}, kind="rule", rules=("dry run",)))] == ["earlier"]


def test_the_three_most_similar_are_told_newest_first_among_equals() -> None:
    known = SimilarIncidents()
    for number in range(5):
        known.keep(number, body(f"i{number}", {"LIT301": (0.8, "rises"), "FIT201": (0.2, "below")}))
    known.keep(9, body("less", {"LIT301": (1.0, "falls")}))
    assert [one.id for one in known.alike(NEW)] == ["i4", "i3", "i2"]


def test_the_oldest_makes_room_and_leaves_nothing_behind() -> None:
    known = SimilarIncidents()
    for number in range(MOST_KEPT + 10):
        known.keep(number, body(f"i{number}", {f"S{number}": (1.0, None)}))
    assert len(known) == MOST_KEPT
    assert known.alike(body("new", {"S9": (1.0, None)})) == ()
    assert [one.id for one in known.alike(body("new", {"S10": (1.0, None)}))] == ["i10"]


def test_a_look_into_a_full_memory_takes_no_noticeable_time() -> None:
    random_ = random.Random(0)
    known, names = SimilarIncidents(), [f"S{number}" for number in range(20)]

    def some(name: str) -> dict[str, Any]:
        return body(name, {sensor: (random_.random(), "rises") for sensor in random_.sample(names, 8)})

    for number in range(MOST_KEPT):
        known.keep(number, some(f"i{number}"))
    new = some("new")
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        known.alike(new)
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.02


def incident(name: str, state: IncidentState) -> Incident:
    return Incident(
        id=name,
        kind=IncidentKind.PROCESS,
        state=state,
        severity=Severity.LOW,
        opened_ns=10**18,
        updated_ns=10**18,
        closed_ns=10**18 if state is IncidentState.CLOSED else None,
        first_tick=0,
        last_tick=1,
        p_value=1e-6,
        score=3.0,
        summary="tank rises",
        contributions=(Contribution("tank", 1.0, 9.5, 3.0, 1.0, "m", "rises", finding="rises"),),
    )


@pytest.mark.parametrize("restart", [False, True], ids=["same run", "after a restart"])
async def test_a_new_incident_tells_of_closed_ones_and_what_was_said_of_them(tmp_path: Path, restart: bool) -> None:
    async def opened() -> History:
        return await History.open(tmp_path / "history.db", HistoryOptions(), Metrics(), VirtualClock())

    history = await opened()
    await history.record(incident("A", IncidentState.CLOSED))
    await history.record(incident("still open", IncidentState.OPEN))
    await history.judge("A", Feedback.FALSE_ALARM, "washing", "me")
    if restart:
        await history.close()
        history = await opened()
    new = incident("B", IncidentState.OPEN)
    given = await history.record(new)
    told = (await history.incident("B") or {})["similar"]
    assert [(one["id"], one["similarity"], one["feedback"]) for one in told] == [("A", 1.0, "false_alarm")]
    assert told == given == history.similar(new.to_dict())
    await history.judge("A", Feedback.TRUE_ALARM, "was a leak", "me")
    assert (await history.incident("B") or {})["similar"][0]["feedback"] == "true_alarm"
    await history.close()
