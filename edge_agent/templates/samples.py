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


def sample_events(kinds: Iterable[EventKind]) -> Iterator[Event]:
    """Events of ``kinds``, as the agent makes them."""
    for kind in kinds:
        if kind is EventKind.INCIDENT:
            yield from _incidents()
        else:
            yield _other(kind)


def _incidents() -> Iterator[Event]:
    for kind in IncidentKind:
        for state in IncidentState:
            closed_ns = _OPENED_NS + 300_000_000_000 if state is IncidentState.CLOSED else None
            for incident in (_FULL, _BARE):
                shown = replace(incident, kind=kind, state=state, closed_ns=closed_ns)
                body = {**shown.to_dict(), "agent": "gateway-7"}
                yield Event(_ID, EventKind.INCIDENT, _OPENED_NS, body, replayed=incident is _FULL)


def _other(kind: EventKind) -> Event:
    bodies: dict[EventKind, dict[str, object]] = {
        EventKind.STATUS: {"what": "calibrated", "message": "enough normal data was seen; incidents are now raised"},
        EventKind.SCORES: {"tick": 7, "score": 1.5, "p_value": 0.5, "alarm": False, "sensors": {"LIT301": 0.5}},
        EventKind.READINGS: {"tick": 7, "readings": {"LIT301": 640.1}},
        EventKind.DIGEST: {"what": "digest", "incidents": 2, "message": "2 incidents from 10:00 to 11:00\nworst:"},
    }
    return Event(_ID, kind, _OPENED_NS, {**bodies.get(kind, {}), "agent": "gateway-7"})
