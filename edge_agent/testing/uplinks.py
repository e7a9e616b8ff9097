"""Rules for a running uplink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from edge_agent.contract import AdapterContext, Hint, UplinkAdapter
from edge_agent.errors import AdapterError
from edge_agent.registry import build_uplink
from edge_agent.testing.announcement import check_announcement
from edge_agent.testing.rule import POLL_S, new_context, nothing_left_over, require, until

STOP_S = 5.0
MAX_SPREAD_S = 3_600.0
Step = Callable[[], Awaitable[object]]


class CollectingPort:
    """The gateway ``fleet/ring/gateway`` as an uplink sees it: collects hints, and has the reports it is given."""

    def __init__(self, fleet: str = "plant-4", ring: str = "canary", gateway: str = "gateway-7") -> None:
        self.fleet, self.ring, self.gateway = fleet, ring, gateway
        self.hints: list[Hint] = []
        self._report: bytes | None = None
        self._new = asyncio.Event()

    def look(self, hint: Hint) -> None:
        """Keep it."""
        self.hints.append(hint)

    def tell(self, report: bytes) -> None:
        """Have ``next_report`` give it."""
        self._report = report
        self._new.set()

    async def next_report(self) -> bytes:
        """The latest report that was not fetched yet."""
        await self._new.wait()
        self._new.clear()
        assert self._report is not None
        return self._report


def sample_report(serial: int, phase: str = "trial", release: str = "release-1") -> bytes:
    """A status report as the agent makes it; with phase ``idle`` the release has been committed."""
    idle = phase == "idle"
    time = "2026-11-20T12:00:00Z"
    report = {
        "schema": 1,
        "fleet": "plant-4",
        "ring": "canary",
        "gateway": "gateway-7",
        "serial": serial,
        "time": time,
        "agent": "1.0.0",
        "hardware": ["rpi4"],
        "phase": phase,
        "release": None if idle else release,
        "counter": 7,
        "outcome": {"release": release, "counter": 7, "result": "committed", "time": time} if idle else None,
    }
    return json.dumps(report).encode()


async def check_uplink(
    adapter: UplinkAdapter,
    options: Mapping[str, Any],
    *,
    nudge: Step,
    told: Callable[[bytes], Awaitable[bool]],
    garbage: Step | None = None,
    unreachable: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> list[Hint]:
    """Run an uplink through all rules; returns the hints it passed on first.

    ``options`` as they would be in the file. ``nudge`` makes the far side say that there is news (of ``release-1``,
    where it names one), ``garbage`` makes it send what cannot be understood. ``told`` says whether the far side knows
    the given report. ``unreachable``: options of a far side that is not there.
    """
    check_announcement(adapter)
    parsed = adapter.options.model_validate(dict(options))
    async with nothing_left_over():
        hints = await _check_carrying(adapter, parsed, nudge, told, timeout_s)
        await _check_second_life(adapter, parsed, told, timeout_s)
        if garbage is not None:
            await _check_garbage(adapter, parsed, garbage, nudge, timeout_s)
        if unreachable is not None:
            await _check_unreachable(adapter, adapter.options.model_validate(dict(unreachable)), timeout_s)
    return hints


async def _check_carrying(
    adapter: UplinkAdapter,
    options: Any,
    nudge: Step,
    told: Callable[[bytes], Awaitable[bool]],
    timeout_s: float,
) -> list[Hint]:
    port = CollectingPort()
    async with _running(adapter, options, port, timeout_s):
        await nudge()
        await until(lambda: port.hints, timeout_s, "the uplink passes hints on by port.look")
        hints = list(port.hints)
        for hint in hints:
            _check_hint(hint)
        for report in sample_report(1), sample_report(2, "idle"):
            port.tell(report)
            await _arrived(told, report, timeout_s)
    return hints


async def _check_second_life(
    adapter: UplinkAdapter, options: Any, told: Callable[[bytes], Awaitable[bool]], timeout_s: float
) -> None:
    """After a failure the agent makes another one, which is given the latest report again."""
    port = CollectingPort()
    async with _running(adapter, options, port, timeout_s):
        port.tell(sample_report(2, "idle"))
        await _arrived(told, sample_report(2, "idle"), timeout_s)


async def _check_garbage(adapter: UplinkAdapter, options: Any, garbage: Step, nudge: Step, timeout_s: float) -> None:
    port = CollectingPort()
    async with _running(adapter, options, port, timeout_s) as context:
        await garbage()
        await until(lambda: _rejected(context), timeout_s, "what cannot be understood is counted by context.reject")
        port.hints.clear()
        await nudge()
        await until(lambda: port.hints, timeout_s, "the uplink goes on after garbage")


async def _check_unreachable(adapter: UplinkAdapter, options: Any, timeout_s: float) -> None:
    context = new_context("unreachable", kind="uplink")
    task = asyncio.create_task(build_uplink(adapter, options, context).run(CollectingPort()), name="unreachable")
    await asyncio.wait({task}, timeout=min(timeout_s, 0.5))
    require(context.state != "connected", "an uplink that reaches nobody does not say it is connected")
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    expected = isinstance(outcome, AdapterError | asyncio.CancelledError)
    require(expected, f"a far side that is not there is an AdapterError or is retried, not {outcome!r}")


@asynccontextmanager
async def _running(
    adapter: UplinkAdapter, options: Any, port: CollectingPort, timeout_s: float
) -> AsyncIterator[AdapterContext]:
    """An uplink at work; at the end it is cancelled and has to stop promptly."""
    context = new_context(f"{adapter.name}-under-test", kind="uplink")
    task = asyncio.create_task(build_uplink(adapter, options, context).run(port), name=context.name)

    def at_work() -> bool:
        if task.done():
            task.result()  # shows why it ended
        return context.state == "connected" or task.done()

    try:
        await until(at_work, timeout_s, "the uplink reports context.connected once it has reached the far side")
        require(not task.done(), "run() goes on until it is cancelled")
        yield context
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_S)
        require(task.done(), f"run() ends within {STOP_S:g} s of being cancelled")
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _arrived(told: Callable[[bytes], Awaitable[bool]], report: bytes, timeout_s: float) -> None:
    now_s = asyncio.get_running_loop().time
    deadline_s = now_s() + timeout_s
    while not await told(report):
        require(now_s() < deadline_s, f"a report has arrived at the far side (within {timeout_s:g} s)")
        await asyncio.sleep(POLL_S)


def _check_hint(hint: Hint) -> None:
    counter = hint.counter
    require(counter is None or (isinstance(counter, int) and counter >= 0), f"a counter is from 0 on, not {counter!r}")
    require(0 <= hint.spread_s <= MAX_SPREAD_S, f"a spread is 0 to 3600 s, not {hint.spread_s!r}")


def _rejected(context: AdapterContext) -> float:
    return sum(
        counter.value for labels, counter in context.metrics.uplink_rejected.series() if labels[0] == context.name
    )
