"""Open incidents over a restart: on the disk in time, back in full, and never a reason not to start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.clock import NS_PER_S, VirtualClock
from edge_agent.daemon.open_incidents import OpenIncidents
from edge_agent.decision.lifecycle import Lifecycle
from edge_agent.decision.options import DecisionOptions
from edge_agent.decision.orders import Order
from edge_agent.errors import StoreError
from edge_agent.history import StateFile
from edge_agent.metrics import Metrics
from edge_agent.verdict import (
    Acknowledgement,
    Contribution,
    Edge,
    Incident,
    IncidentKind,
    IncidentState,
    PatternMatch,
    Severity,
    SimilarIncident,
    Step,
)

T0 = 1_795_327_200 * NS_PER_S
FULL = Incident(
    id="01KAH5Y7P2Q8R3S4T5V6W7X8Y9",
    kind=IncidentKind.PROCESS,
    state=IncidentState.OPEN,
    severity=Severity.HIGH,
    opened_ns=T0 + 123_456_789,
    updated_ns=T0 + 123_456_789,
    closed_ns=None,
    first_tick=10,
    last_tick=20,
    p_value=1e-300,
    score=float("inf"),
    summary="P1 rises",
    contributions=(Contribution("P1", 0.75, 9.0, None, 1.5, "mm", "reads", 0.5, "rises", "model"),),
    first_mover="P1",
    broken_edges=(Edge("P1", "P2", 0.5),),
    series={"P1": [1.0, None]},
    members={"model": 2.5},
    propagation=(Step("P1", 10, 0.0),),
    rules=("too hot",),
    areas=("pumps",),
    patterns=(PatternMatch("replay", "Replay", ("T0856",), 0.5, ("one",)),),
    similar=(SimilarIncident("01K", T0, 0.5, "alike"),),
)


class Keeper:
    """A lifecycle and what keeps it, on a clock that the test moves."""

    def __init__(self, folder: Path, clock: VirtualClock | None = None) -> None:
        self.clock = clock or VirtualClock(T0)
        self.lifecycle = Lifecycle(DecisionOptions(), 1.0, lambda _name: "pumps")
        self.metrics = Metrics()
        self.path = folder / "incidents.json"
        self.kept = OpenIncidents(self.lifecycle, StateFile(self.path), self.clock, self.metrics)

    def begin(self, incident: Incident = FULL) -> None:
        now_ns = self.clock.monotonic_ns()
        self.lifecycle.update(now_ns, self.clock.wall_ns(), [incident])
        self.kept.ticked()

    @property
    def written(self) -> float:
        return self.metrics.store_bytes.labels("incidents").value


async def test_everything_said_of_an_incident_comes_back(tmp_path: Path) -> None:
    before = Keeper(tmp_path)
    before.begin()
    before.lifecycle.acknowledge(FULL.id, Acknowledgement("kim", T0 + 5 * NS_PER_S, "seen"))
    order = Order("O1", ("P*",), ("pumps",), T0, T0 + 100 * NS_PER_S, "kim", "test")
    before.lifecycle.suppress(order, before.clock.monotonic_ns(), before.clock.wall_ns())
    await before.kept.save()
    after = Keeper(tmp_path)
    assert await after.kept.restore() == 1
    assert after.lifecycle.open_incidents() == before.lifecycle.open_incidents()
    assert list(after.lifecycle.orders) == [order]
    found = after.lifecycle.open_incidents()[0]
    assert (found.acknowledged, found.suppressed) == (
        Acknowledgement("kim", T0 + 5 * NS_PER_S, "seen"),
        "order O1 by kim",
    )
    told = replace(
        FULL,
        state=found.state,
        updated_ns=found.updated_ns,
        acknowledged=found.acknowledged,
        suppressed=found.suppressed,
    )
    assert found == told


async def test_the_first_change_is_written_at_once_and_further_ones_together(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    running = asyncio.create_task(keeper.kept.run())
    await asyncio.sleep(0)
    assert not keeper.path.exists()
    keeper.begin()
    await until(lambda: keeper.written > 0)
    first = keeper.written
    for number in range(5):
        keeper.begin(replace(FULL, id=f"again {number}"))
    await settle()
    assert keeper.written == first
    keeper.clock.advance(2 * NS_PER_S)
    await until(lambda: keeper.written > first)
    second = keeper.written
    keeper.clock.advance(3600 * NS_PER_S)
    keeper.kept.ticked()
    await settle()
    assert keeper.written == second
    running.cancel()


@pytest.mark.parametrize(
    "content", [b"", b"EDGESTATE1\nhalf", b"nonsense" * 100, pytest.param(None, id="valid file, other content")]
)
async def test_a_damaged_file_is_no_reason_not_to_start(tmp_path: Path, content: bytes | None) -> None:
    keeper = Keeper(tmp_path)
    if content is None:
        StateFile(keeper.path).save(b'{"version": 1, "lifecycle": {"incidents": 7}}')
    else:
        keeper.path.write_bytes(content)
    assert await keeper.kept.restore() == 0
    keeper.begin()
    await keeper.kept.save()
    assert await Keeper(tmp_path).kept.restore() == 1


async def test_a_file_of_another_version_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(tmp_path)
    StateFile(keeper.path).save(b'{"version": 2, "lifecycle": {"saved_ns": 1, "incidents": [], "orders": []}}')
    assert await keeper.kept.restore() == 0
    assert "got version 2, expected 1; open incidents and orders are forgotten" in caplog.text


@pytest.mark.parametrize("place", range(0, 400, 7))
async def test_a_power_loss_at_any_byte_leaves_the_old_state_or_the_new_one(tmp_path: Path, place: int) -> None:
    keeper = Keeper(tmp_path)
    keeper.begin()
    await keeper.kept.save()
    whole = keeper.path.read_bytes()
    keeper.path.with_name("incidents.json.new").write_bytes(whole[:place])  # the next one, half written
    after = Keeper(tmp_path)
    assert await after.kept.restore() == 1
    after.begin(replace(FULL, id="next"))
    await after.kept.save()


async def test_a_disk_that_refuses_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("not a folder")
    keeper = Keeper(blocked)
    keeper.begin()
    with pytest.raises(StoreError):
        await keeper.kept.save()
    running = asyncio.create_task(keeper.kept.run())
    for _ in range(3):
        await settle()
        keeper.clock.advance(2 * NS_PER_S)
    assert caplog.text.count("cannot be written") == 1
    blocked.unlink()
    for _ in range(3):
        await settle()
        keeper.clock.advance(2 * NS_PER_S)
    await until(keeper.path.exists)
    running.cancel()


async def settle() -> None:
    """Let the thread that writes have its turn, if there is one."""
    for _ in range(20):
        await asyncio.sleep(0)
    await asyncio.to_thread(int)
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(5):
        while not condition():
            await settle()
