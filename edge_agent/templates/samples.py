"""Events to try a template on: every kind, every state of an incident, with everything and next to nothing in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Edge,
    Event,
    EventKind,
    Incident,
    IncidentKind,
    IncidentState,
    PatternMatch,
    Severity,
    SimilarIncident,
    Step,
    rfc3339,
)

_OPENED_NS: Final = 1_795_171_327_125_000_000
_ID: Final = "01KA8Q4Z9T6M2V0C5H7N3XWRBD"
_FULL: Final = Incident(
    id=_ID,
    kind=IncidentKind.PROCESS,
    state=IncidentState.UPDATED,
    severity=Severity.HIGH,
    opened_ns=_OPENED_NS,
    updated_ns=_OPENED_NS + 200_000_000_000,
    closed_ns=None,
    first_tick=1000,
    last_tick=1200,
    p_value=1e-9,
    score=17.25,
    summary='LIT301 rises 4.1 mm/s while FIT201 and "P101" say inflow is off; first seen 10:42:07',
    contributions=(
        Contribution("LIT301", 0.62, 9.5, 812.4, 640.1, "mm", "above what its neighbours say"),
        Contribution("FIT201", 0.2, 3.25, None, None, None, ""),
    ),
    first_mover="LIT301",
    broken_edges=(Edge("LIT301", "FIT201", 0.4),),
    series={"LIT301": [640.0, None, 812.4]},
    members={"vector": 7.5},
    propagation=(Step("LIT301", 1000, 0.0), Step("FIT201", 1003, 3.0)),
    rules=("tank-high",),
    areas=("tank farm",),
    patterns=(PatternMatch("spoofed", "Spoofed reporting", ("T0856",), 0.82, ("freeze",)),),
    similar=(SimilarIncident("01KA0000000000000000000000", _OPENED_NS, 0.9, "LIT301 rises", "false_alarm"),),
    acknowledged=Acknowledgement("anna", _OPENED_NS + 60_000_000_000, "on my way"),
    suppressed="maintenance window 'weekly'",
    reopened=2,
)
_BARE: Final = Incident(
    _ID, IncidentKind.PROCESS, IncidentState.OPEN, Severity.LOW, _OPENED_NS, _OPENED_NS, None, 1, 1, 0.01, 1.5, "x", ()
)
_ENTRY: Final = {
    "id": _ID,
    "kind": "process",
    "severity": "high",
    "state": "open",
    "summary": "LIT301 rises",
    "opened": rfc3339(_OPENED_NS),
    "closed": None,
    "areas": ["tank farm"],
    "acknowledged": False,
}
_DIGEST: Final[dict[str, object]] = {
    "what": "digest",
    "from": rfc3339(_OPENED_NS),
    "to": rfc3339(_OPENED_NS + 3_600_000_000_000),
    "incidents": 2,
    "closed": 1,
    "by_severity": {"high": 1, "low": 1},
    "by_area": {"tank farm": 2},
    "by_kind": {"process": 2},
    "worst": [_ENTRY],
    "open": [_ENTRY],
    "open_count": 1,
    "status": {"clock_jump": 1},
    "messages": ["the gateway's wall clock jumped by +3.0s; ticks go on"],
    "message": "2 incidents from 2026-11-20 10:42 to 2026-11-20 11:42 UTC: 1 high, 1 low",
}
_OTHERS: Final[dict[EventKind, tuple[dict[str, object], ...]]] = {
    EventKind.STATUS: ({"what": "calibrated", "message": "enough normal data was seen; incidents are now raised"},),
    EventKind.SCORES: ({"tick": 7, "score": 1.5, "p_value": 0.5, "alarm": False, "sensors": {"LIT301": 0.5}},),
    EventKind.READINGS: (
        {"tick": 7, "sensors": {"LIT301": 640.1}, "units": {"LIT301": "mm"}},
        {"tick": 7, "sensors": {}},
    ),
    EventKind.DIGEST: (_DIGEST,),
}


def sample_events(kinds: Iterable[EventKind]) -> Iterator[Event]:
    """Events of ``kinds``, as the agent makes them."""
    for kind in kinds:
        if kind is EventKind.INCIDENT:
            yield from _incidents()
        else:
            yield from _others(kind)


def _incidents() -> Iterator[Event]:
    for kind in IncidentKind:
        for state in IncidentState:
            closed_ns = _OPENED_NS + 300_000_000_000 if state is IncidentState.CLOSED else None
            for incident in (_FULL, _BARE):
                shown = replace(incident, kind=kind, state=state, closed_ns=closed_ns)
                body = {**shown.to_dict(), "agent": "gateway-7"}
                yield Event(_ID, EventKind.INCIDENT, _OPENED_NS, body, replayed=incident is _FULL)


def _others(kind: EventKind) -> Iterator[Event]:
    for body in _OTHERS[kind]:
        yield Event(_ID, kind, _OPENED_NS, {**body, "agent": "gateway-7"})
