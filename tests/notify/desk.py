"""A router, its sinks and a clock that a test moves."""

from __future__ import annotations

from typing import Any

import orjson

from edge_agent.contract import SinkOptions
from edge_agent.metrics import Metrics
from edge_agent.notify import Dispatch, Moment, Router
from edge_agent.pipeline.ulid import derived_ulid
from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Event,
    EventKind,
    Incident,
    IncidentKind,
    IncidentState,
    Severity,
)

T0 = 1_760_000_000
NS = 1_000_000_000
OPEN, UPDATED, CLOSED = IncidentState
ACK = Acknowledgement("api", T0 * NS, "on my way")


class Desk:
    """A router, its sinks and a clock."""

    def __init__(self, sinks: dict[str, dict[str, Any]], offset_s: int = 0) -> None:
        self.metrics = Metrics()
        self.second = 0
        self.wall_offset_s = T0 + offset_s
        self.router = Router(self.options(sinks), self.metrics, derived_ulid, self.now)
        self.serial = 0

    @staticmethod
    def options(sinks: dict[str, dict[str, Any]]) -> dict[str, SinkOptions]:
        return {name: SinkOptions(type="probe", **options) for name, options in sinks.items()}

    @property
    def now(self) -> Moment:
        return Moment(self.second * NS, (self.second + self.wall_offset_s) * NS)

    def event(self, body: dict[str, Any], kind: EventKind = EventKind.INCIDENT) -> list[Dispatch]:
        self.serial += 1
        return self.router.route(Event(f"e{self.serial}", kind, self.now.wall_ns, body), self.now)

    def incident(self, state: IncidentState = OPEN, incident: str = "i1", **more: Any) -> list[Dispatch]:
        return self.event(self.body(state, incident, **more))

    def body(self, state: IncidentState, incident: str, sensors: tuple[str, ...] = ("LIT101",), **more: Any) -> Any:
        now_ns = self.now.wall_ns
        return Incident(
            **{
                "id": incident,
                "kind": IncidentKind.PROCESS,
                "state": state,
                "severity": Severity.MEDIUM,
                "opened_ns": now_ns,
                "updated_ns": now_ns,
                "closed_ns": now_ns if state is CLOSED else None,
                "first_tick": 1,
                "last_tick": 2,
                "p_value": 1e-6,
                "score": 3.0,
                "summary": f"{sensors[0]} rises",
                "contributions": tuple(Contribution(name, 1.0, 3.0, 1.0, 0.0, "m", "") for name in sensors),
                "series": {"LIT101": [1.0, 2.0]},
                **more,
            }
        ).to_dict()

    def after(self, seconds: int) -> list[Dispatch]:
        self.second += seconds
        return self.router.due(self.now)

    def held(self, sink: str, reason: str) -> float:
        return self.metrics.events_held_back.labels(sink, reason).value

    def restarted(self, sinks: dict[str, dict[str, Any]], down_s: int = 0, clock_off_s: int = 0) -> Desk:
        """Another router with what this one saved, ``down_s`` later, on a machine whose monotonic clock starts at 0."""
        saved = orjson.loads(orjson.dumps(self.router.state(self.now)))
        other = Desk(sinks, self.wall_offset_s - T0 + self.second + down_s + clock_off_s)
        other.router.restore(saved, other.now)
        other.serial = 100
        return other


def told(dispatches: list[Dispatch]) -> list[tuple[str, str]]:
    return [(one.sink, one.event.body["state"]) for one in dispatches]
