"""Whatever happens in whatever order: nothing stays open at a sink, nothing is escalated that should not be."""

from __future__ import annotations

from typing import Any

from desk import ACK, CLOSED, OPEN, UPDATED, Desk
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.notify import Dispatch
from edge_agent.verdict import EventKind, Severity

SINKS: dict[str, dict[str, Any]] = {
    "all": {"suppressed": True},
    "desk": {"severity": "medium", "escalate": {"after": "5m", "to": "pager", "severity": "high"}},
    "pager": {"kinds": [], "escalate": {"after": "5m", "to": "chief"}},
    "chief": {"severity": "critical"},
    "mail": {"areas": ["north"], "digest": {"every": "10m"}, "escalate": {"after": "7m", "to": "chief"}},
    "office": {"schedule": [{"begins": "0 9 * * *", "duration": "10m"}]},
}
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("change"),
            st.sampled_from(["a", "b"]),
            st.sampled_from(list(Severity)),
            st.sampled_from([(), ("north",)]),
            st.booleans(),
            st.booleans(),
        ),
        st.tuples(st.just("close"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("wait"), st.integers(1, 20)),
        st.tuples(st.just("restart")),
    ),
    max_size=30,
)


class Plant:
    """Incidents as the decision makes them: severity never falls, areas stay, what is acknowledged stays so."""

    def __init__(self, *, restarts: bool) -> None:
        self.desk = Desk(SINKS)
        self.open: dict[str, dict[str, Any]] = {}
        self.told: list[tuple[int, Dispatch]] = []
        self._restarts = restarts

    def step(self, what: str, *given: Any) -> None:
        if what == "change":
            self._change(*given)
        elif what == "close":
            self._close(*given)
        elif what == "wait":
            for _ in range(given[0]):
                self._note(self.desk.after(30))
        elif self._restarts:
            serial, self.desk = self.desk.serial, self.desk.restarted(SINKS)
            self.desk.serial = serial

    def close_all(self) -> None:
        for incident in list(self.open):
            self._close(incident)

    def _change(self, name: str, severity: Severity, areas: tuple[str, ...], acked: bool, suppressed: bool) -> None:
        before = self.open.get(name)
        state = OPEN if before is None else UPDATED
        facts = before or {"severity": Severity.LOW, "areas": (), "acknowledged": None}
        order = list(Severity)
        facts = {
            "severity": max(severity, facts["severity"], key=order.index),
            "areas": facts["areas"] or areas,
            "acknowledged": ACK if acked and before is not None else facts["acknowledged"],
            "suppressed": "order" if suppressed else None,
        }
        self.open[name] = facts
        self._note(self.desk.incident(state, name, **facts))

    def _close(self, name: str) -> None:
        facts = self.open.pop(name, None)
        if facts is not None:
            self._note(self.desk.incident(CLOSED, name, **facts))

    def _note(self, dispatches: list[Dispatch]) -> None:
        for one in dispatches:
            self.told.append((self.desk.now.wall_ns, one))


def sequences(plant: Plant) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for _, one in plant.told:
        if one.event.kind is EventKind.INCIDENT:
            found.setdefault((one.sink, one.event.body["id"]), []).append(one.event.body["state"])
    return found


@settings(max_examples=100, deadline=None, derandomize=True)
@given(STEPS)
def test_whatever_a_sink_is_told_has_a_beginning_and_an_end(steps: list[Any]) -> None:
    plant = Plant(restarts=False)
    for step in steps:
        plant.step(*step)
    plant.close_all()
    for states in sequences(plant).values():
        is_open = False
        for state in states:
            assert is_open == (state != "open"), states
            is_open = state != "closed"
        assert not is_open, states
    ids = [(one.sink, one.event.id) for _, one in plant.told]
    assert len(ids) == len(set(ids)), "an id stands for one content at a sink"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(STEPS)
def test_nothing_is_escalated_that_was_acknowledged_or_suppressed(steps: list[Any]) -> None:
    plant = Plant(restarts=True)
    for step in steps:
        before = len(plant.told)
        plant.step(*step)
        if step[0] != "wait":
            continue
        for _, one in plant.told[before:]:
            if one.event.body.get("escalated"):
                facts = plant.open[one.event.body["id"]]
                assert facts["acknowledged"] is None
                assert facts["suppressed"] is None or one.event.body["escalated_from"] == "all"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(STEPS)
def test_restarts_change_nothing(steps: list[Any]) -> None:
    with_restarts, without = Plant(restarts=True), Plant(restarts=False)
    for step in steps:
        with_restarts.step(*step)
        without.step(*step)
    assert [(at, one.sink, one.event.id) for at, one in with_restarts.told] == [
        (at, one.sink, one.event.id) for at, one in without.told
    ]
