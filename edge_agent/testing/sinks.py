"""Rules for a running sink."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_agent.contract import Sink, SinkAdapter
from edge_agent.errors import AdapterError
from edge_agent.registry import build_sink
from edge_agent.testing.announcement import check_announcement
from edge_agent.testing.rule import ConformanceError, new_context, nothing_left_over, require, until
from edge_agent.verdict import Contribution, Event, EventKind, Incident, IncidentKind, IncidentState, Severity

CLOSE_S = 5.0
_INCIDENT = Incident(
    id="",
    kind=IncidentKind.PROCESS,
    state=IncidentState.OPEN,
    severity=Severity.HIGH,
    opened_ns=1_700_000_000_000_000_000,
    updated_ns=1_700_000_000_000_000_000,
    closed_ns=None,
    first_tick=7,
    last_tick=9,
    p_value=1e-9,
    score=12.5,
    summary='level "LIT101" is 7 °C off\n',
    contributions=(Contribution("LIT101", 0.5, 9.0, 21.5, 14.5, "°C", "above what its neighbours say"),),
    areas=("tanks",),
)


def sample_events(count: int = 3) -> list[Event]:
    """Incidents as the agent makes them, each with the id of its event, and with text that needs escaping."""
    bodies = [
        replace(_INCIDENT, id=f"event-{number}").to_dict() | {"agent": 'gateway "7"', "nothing": None}
        for number in range(count)
    ]
    return [
        Event(body["id"], EventKind.INCIDENT, _INCIDENT.opened_ns + number, body) for number, body in enumerate(bodies)
    ]


async def check_sink(
    adapter: SinkAdapter,
    options: Mapping[str, Any],
    *,
    received: Callable[[], Awaitable[Sequence[str]]] | None = None,
    unreachable: Mapping[str, Any] | None = None,
    timeout_s: float = 10.0,
) -> None:
    """Run the sink against a far side that is up, through all rules.

    ``received`` gives the ids of the events that have arrived there. ``unreachable``: options of a far side that is
    not there.
    """
    check_announcement(adapter)
    parsed = adapter.options.model_validate(dict(options))
    events = sample_events()
    async with nothing_left_over():
        for part in (events[:1], events[1:]):  # a second instance after the first, as after a reload
            await _deliver(adapter, parsed, part, timeout_s)
        if received is not None:
            await _check_arrival(received, events, timeout_s)
        if unreachable is not None:
            await _check_unreachable(adapter, adapter.options.model_validate(dict(unreachable)), timeout_s)


async def _deliver(adapter: SinkAdapter, options: Any, events: Sequence[Event], timeout_s: float) -> None:
    sink = build_sink(adapter, options, new_context(f"{adapter.name}-under-test", kind="sink"))
    try:
        async with asyncio.timeout(timeout_s):
            await sink.open()
            await sink.deliver(events)
            await sink.deliver([])
    finally:
        await _close(sink)


async def _close(sink: Sink) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await sink.close()
    except TimeoutError as error:
        raise ConformanceError(f"close() ends within {CLOSE_S:g} s") from error


async def _check_arrival(
    received: Callable[[], Awaitable[Sequence[str]]], events: Sequence[Event], timeout_s: float
) -> None:
    wanted = {event.id for event in events}
    arrived: set[str] = set()

    async def look() -> None:
        while not wanted <= arrived:
            arrived.update(await received())
            await asyncio.sleep(0.02)

    looking = asyncio.create_task(look(), name="look for delivered events")
    try:
        await until(looking.done, timeout_s, "what deliver() returned for has arrived at the far side")
        await looking
    finally:
        looking.cancel()


async def _check_unreachable(adapter: SinkAdapter, options: Any, timeout_s: float) -> None:
    """Either step may find out; at the end the sink has said so and can be closed."""
    sink = build_sink(adapter, options, new_context("unreachable", kind="sink"))
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(timeout_s):
            await sink.open()
            await sink.deliver(sample_events(1))
    except (AdapterError, TimeoutError) as error:
        failure = error
    finally:
        await _close(sink)
    require(isinstance(failure, AdapterError), "a far side that is not there is an AdapterError of open() or deliver()")
