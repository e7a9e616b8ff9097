"""Reaching the far side of one source, sink or uplink, with a deadline; nothing is taken, and nothing told unasked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, AdapterKind, Hint, SinkOptions, SourceOptions, UplinkOptions
from edge_agent.errors import EdgeAgentError
from edge_agent.metrics import Metrics
from edge_agent.registry import build_sink, build_source, build_uplink, sink_adapter, source_adapter, uplink_adapter
from edge_agent.sample import Batch
from edge_agent.verdict import Event

POLL_S = 0.02


class _NothingAccepted:
    """Accepts nothing, so that nothing is acknowledged: a broker keeps its messages for the daemon."""

    def __init__(self) -> None:
        self.offered = False

    def offer(self, batch: Batch) -> bool:
        self.offered = True
        return False

    async def send(self, batch: Batch) -> None:
        self.offered = True
        await asyncio.get_running_loop().create_future()


async def reach_source(name: str, options: SourceOptions, timeout_s: float) -> str | None:
    """None when the source got through within ``timeout_s``, else what was in the way."""
    context = visiting(name)
    emitter = _NothingAccepted()
    try:
        source = build_source(source_adapter(options.type), _as_visitor(options), context)
    except EdgeAgentError as error:
        return str(error)
    return await _until_connected(source.run(emitter), context, timeout_s, lambda: emitter.offered)


class _Visitor:
    """Stands for the gateway: hints lead nowhere, and there is nothing to report."""

    def __init__(self, fleet: str, ring: str, gateway: str) -> None:
        self.fleet, self.ring, self.gateway = fleet, ring, gateway

    def look(self, hint: Hint) -> None:
        """Not now."""

    async def next_report(self) -> bytes:
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await never


async def reach_uplink(
    name: str, options: UplinkOptions, identity: tuple[str, str, str], timeout_s: float
) -> str | None:
    """None when the uplink of the gateway ``identity`` (fleet, ring, gateway) got through, else what was in the way."""
    context = visiting(name, kind="uplink")
    try:
        uplink = build_uplink(uplink_adapter(options.type), _as_visitor(options), context)
    except EdgeAgentError as error:
        return str(error)
    return await _until_connected(uplink.run(_Visitor(*identity)), context, timeout_s)


async def _until_connected(
    running: Coroutine[Any, Any, None],
    context: AdapterContext,
    timeout_s: float,
    reached: Callable[[], bool] = lambda: False,
) -> str | None:
    task = asyncio.create_task(running, name=f"reach {context.name}")
    try:
        async with asyncio.timeout(timeout_s):
            while not (task.done() or reached() or context.state == "connected"):
                await asyncio.wait({task}, timeout=POLL_S)
    except TimeoutError:
        return _not_reached(context, timeout_s)
    finally:
        failure = await _stop(task)
    return str(failure) if failure is not None else None


def visiting(name: str, *, kind: AdapterKind = "source") -> AdapterContext:
    """For one try, which nobody counts."""
    return AdapterContext(name, SystemClock(), random.Random(0), Metrics(), kind=kind)  # jitter only


async def reach_sink(
    options: SinkOptions, context: AdapterContext, timeout_s: float, events: Sequence[Event] = ()
) -> str | None:
    """None when the sink opened, and took ``events`` one by one, within ``timeout_s``; else what was in the way.

    One that does no more than prepare when it is opened does not tell ``context`` that it is connected.
    """
    try:
        sink = build_sink(sink_adapter(options.type), _as_visitor(options), context)
    except EdgeAgentError as error:
        return str(error)
    try:
        async with asyncio.timeout(timeout_s):
            await sink.open()
            for event in events:
                await sink.deliver([event])
    except TimeoutError:
        return _not_reached(context, timeout_s)
    except EdgeAgentError as error:
        return str(error)
    finally:
        await sink.close()
    return None


def _as_visitor(options: Any) -> Any:
    """The same options under another client name and without a kept session, for protocols that have those."""
    changes: dict[str, Any] = {}
    if getattr(options, "client_id", None):
        changes["client_id"] = f"{options.client_id}-check"
    if isinstance(getattr(options, "session_expiry", None), int | float):
        changes["session_expiry"] = 0
    if getattr(options, "share", None) is not None:
        changes["share"] = None  # in the group we would be given messages that the daemon then misses
    return options.model_copy(update=changes) if changes else options


def _not_reached(context: AdapterContext, timeout_s: float) -> str:
    return f"not reached within {timeout_s:g} s ({context.state})"


async def _stop(task: asyncio.Task[None]) -> EdgeAgentError | None:
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, EdgeAgentError):
        return outcome
    if isinstance(outcome, Exception):
        raise outcome
    return None
