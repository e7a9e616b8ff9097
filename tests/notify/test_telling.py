"""Routing in the daemon: handed to sinks, in time, and known again after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.contract import SinkOptions
from edge_agent.daemon.telling import Telling
from edge_agent.history import History, HistoryOptions, StateFile
from edge_agent.metrics import Metrics
from edge_agent.verdict import Acknowledgement, Event, EventKind, Incident, IncidentKind, IncidentState, Severity

T0 = 1_760_000_000 * NS_PER_S
OPEN, UPDATED, CLOSED = IncidentState
CHAIN: dict[str, dict[str, Any]] = {
    "mail": {"digest": {"every": "1h"}, "escalate": {"after": "15m", "to": "pager"}},
    "pager": {"kinds": []},
}


class Inbox:
    """Keeps what a sink was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def offer(self, event: Event) -> None:
        self.events.append(event)

    @property
    def told(self) -> list[str]:
        return [event.body.get("state", event.kind.value) for event in self.events]


class Gateway:
    """A folder, clocks, and one start of the agent's routing after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = VirtualClock(T0)
        self.history: History | None = None
        self.metrics = Metrics()
        self.serial = 0

    @asynccontextmanager
    async def started(
        self, sinks: dict[str, dict[str, Any]], *, save: bool = True, watched: tuple[str, ...] = ()
    ) -> AsyncIterator[Telling]:
        """Routing from a start to a stop, or (``save`` False) to a power loss."""
        options = {name: SinkOptions(type="probe", **one) for name, one in sinks.items()}
        self.inboxes = {name: Inbox() for name in sinks}
        self.history = await History.open(self.folder / "history.db", HistoryOptions(), self.metrics, self.clock)
        file = StateFile(self.folder / "notify.json", self.clock)
        telling = Telling(options, self.inboxes, self.clock, self.metrics, file, "press-7")
        await telling.restore(self.history, watched)
        tasks = [asyncio.create_task(telling.run()), asyncio.create_task(telling.keep())]
        await asyncio.sleep(0)
        yield telling
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if save:
            await telling.save()
        await self.history.close()

    async def incident(self, telling: Telling | None, state: IncidentState = OPEN, **more: Any) -> None:
        """Something about the one incident; ``telling`` None: the power goes before anybody is told."""
        self.serial += 1
        now_ns = self.clock.wall_ns()
        incident = Incident(
            **{
                "id": "i1",
                "kind": IncidentKind.PROCESS,
                "state": state,
                "severity": Severity.MEDIUM,
                "opened_ns": T0,
                "updated_ns": now_ns,
                "closed_ns": now_ns if state is CLOSED else None,
                "first_tick": 1,
                "last_tick": 2,
                "p_value": 1e-6,
                "score": 3.0,
                "summary": "LIT101 rises",
                "contributions": (),
                **more,
            }
        )
        assert self.history is not None
        if telling is not None:
            telling.tell(Event(f"e{self.serial}", EventKind.INCIDENT, now_ns, incident.to_dict()))
        await self.history.record(incident)

    async def wait(self, seconds: int, until: Callable[[], bool] = lambda: True) -> None:
        for _ in range(seconds):
            self.clock.advance(NS_PER_S)
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            while not until():
                await asyncio.sleep(0.001)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


async def test_escalations_and_digests_come_in_time(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
        await gateway.wait(899)
        assert (gateway.inboxes["mail"].told, gateway.inboxes["pager"].told) == ([], [])
        await gateway.wait(3, lambda: bool(gateway.inboxes["pager"].events))
        await gateway.wait(3600, lambda: bool(gateway.inboxes["mail"].events))
        assert gateway.inboxes["pager"].told == ["open"]
        assert "incident i1: nobody has acknowledged it at sink mail; sink pager is told" in caplog.text
        assert gateway.inboxes["mail"].told == ["digest"]
        [digest] = gateway.inboxes["mail"].events
        assert digest.body["agent"] == "press-7"


@pytest.mark.parametrize(("watched", "state"), [((), "open"), (("i1",), "updated")])
async def test_what_a_kill_has_kept_from_the_history_is_known_if_it_is_watched_on(
    gateway: Gateway, watched: tuple[str, ...], state: str
) -> None:
    async with gateway.started({"mail": {}}) as telling:
        await gateway.incident(telling)
    (gateway.folder / "history.db").unlink()
    async with gateway.started({"mail": {}}, watched=watched) as telling:
        await gateway.incident(telling, UPDATED)
        assert gateway.inboxes["mail"].told == [state]


async def test_after_a_restart_nothing_is_escalated_twice(gateway: Gateway) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
        await gateway.wait(902, lambda: gateway.inboxes["pager"].told == ["open"])
    async with gateway.started(CHAIN) as telling:
        await gateway.wait(5000)
        assert gateway.inboxes["pager"].told == []
        await gateway.incident(telling, CLOSED)
        assert gateway.inboxes["pager"].told == ["closed"]


async def test_after_a_restart_the_escalation_comes_when_it_would_have_come(gateway: Gateway) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
        await gateway.wait(600)
    async with gateway.started(CHAIN):
        await gateway.wait(298)
        assert gateway.inboxes["pager"].told == []
        await gateway.wait(5, lambda: gateway.inboxes["pager"].told == ["open"])


@pytest.mark.parametrize(("sinks", "told"), [({"mail": {}}, ["closed"]), (CHAIN, [])])
async def test_an_end_that_was_not_told_before_a_power_loss_is_told_after_it(
    gateway: Gateway, sinks: dict[str, dict[str, Any]], told: list[str]
) -> None:
    async with gateway.started(sinks) as telling:
        await gateway.incident(telling)
        await telling.save()
        await gateway.incident(None, CLOSED)
    async with gateway.started(sinks):
        assert gateway.inboxes["mail"].told == told
        await gateway.wait(902)
        assert all(inbox.told == told for name, inbox in gateway.inboxes.items() if name == "mail")
        assert gateway.inboxes.get("pager", Inbox()).told == []
    async with gateway.started(sinks):
        assert gateway.inboxes["mail"].told == []


async def test_an_acknowledgement_in_the_history_counts_after_a_power_loss(gateway: Gateway) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
        await telling.save()
        await gateway.incident(None, UPDATED, acknowledged=Acknowledgement("api", T0))
    async with gateway.started({**CHAIN, "desk": {}}):
        await gateway.wait(902)
        assert (gateway.inboxes["pager"].told, gateway.inboxes["desk"].told) == ([], ["open"])
    async with gateway.started({**CHAIN, "desk": {}}):
        assert gateway.inboxes["desk"].told == [], "said once, not at each start"


async def test_what_the_history_no_longer_knows_is_forgotten(gateway: Gateway) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
    (gateway.folder / "history.db").unlink()
    async with gateway.started(CHAIN):
        await gateway.wait(902)
        assert gateway.inboxes["pager"].told == []


async def test_a_power_loss_costs_two_seconds_at_most(gateway: Gateway) -> None:
    file = gateway.folder / "notify.json"
    async with gateway.started(CHAIN, save=False) as telling:
        await gateway.incident(telling)
        await gateway.wait(3, file.exists)
    async with gateway.started(CHAIN):
        await gateway.wait(902, lambda: gateway.inboxes["pager"].told == ["open"])


async def test_nothing_is_written_while_nothing_changes(gateway: Gateway) -> None:
    written = gateway.metrics.store_bytes.labels("notify")
    async with gateway.started(CHAIN) as telling:
        await gateway.wait(3, lambda: written.value > 0)
        before = written.value
        await gateway.wait(60)
        assert written.value == before
        await gateway.incident(telling)
        await gateway.wait(3, lambda: written.value > before)
        after = written.value
        await gateway.wait(60)
        assert written.value == after


async def test_restarts_do_not_put_off_a_digest_without_end(gateway: Gateway) -> None:
    sinks = {"mail": {"digest": {"every": "1h", "empty": True}}}
    told = []
    for _ in range(5):
        async with gateway.started(sinks):
            await gateway.wait(1000)
            told += gateway.inboxes["mail"].told
    assert told == ["digest"]


@pytest.mark.parametrize(
    "content", [b"[]", b"not json", b'{"version": 2}', b'{"version": 1, "incidents": 3, "digests": {}}']
)
async def test_a_state_of_another_kind_is_said_and_left_alone(
    gateway: Gateway, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    StateFile(gateway.folder / "notify.json").save(content)
    async with gateway.started(CHAIN) as telling:
        assert "who was told what before the restart is forgotten" in caplog.text
        await gateway.incident(telling)
        await gateway.wait(902, lambda: gateway.inboxes["pager"].told == ["open"])


async def test_a_disk_that_refuses_is_counted_and_tried_again(gateway: Gateway) -> None:
    failures = gateway.metrics.store_failures.labels("notify")
    blocker = gateway.folder / "notify.json.new"
    async with gateway.started(CHAIN) as telling:
        blocker.mkdir()
        await gateway.incident(telling)
        await gateway.wait(3, lambda: failures.value > 0)
        blocker.rmdir()
        await gateway.wait(6, (gateway.folder / "notify.json").exists)


async def test_a_sink_that_is_gone_meanwhile_takes_nothing_with_it(gateway: Gateway) -> None:
    async with gateway.started({"mail": {}, "desk": {}}) as telling:
        del gateway.inboxes["mail"]
        await gateway.incident(telling)
        assert gateway.inboxes["desk"].told == ["open"]


async def test_disk_that_refuses_is_told_once_and_tried_again(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    (gateway.folder / "notify.json.new").mkdir()
    async with gateway.started(CHAIN) as telling:
        for _ in range(3):
            await gateway.incident(telling)
            await telling.save()
        assert len([record for record in caplog.records if "tried again" in record.message]) == 1
        (gateway.folder / "notify.json.new").rmdir()
        await telling.save()
    assert (gateway.folder / "notify.json").exists()
    assert gateway.metrics.store_failures.labels("notify").value >= 3


async def test_end_that_is_told_at_two_starts_has_one_id(gateway: Gateway) -> None:
    async with gateway.started(CHAIN) as telling:
        await gateway.incident(telling)
    async with gateway.started(CHAIN, save=False):
        await gateway.incident(None, CLOSED)
    ids = []
    for _ in range(2):
        await gateway.wait(5)
        async with gateway.started({"mail": {}, "pager": {}}, save=False):
            ids += [event.id for event in gateway.inboxes["pager"].events]
    assert len(ids) == 4  # it begins for this sink with its end
    assert ids[:2] == ids[2:]
