"""Reaching the far side of one source or sink, with a deadline; no reading is taken, and no event sent unasked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, SinkOptions, SourceOptions
from edge_agent.errors import EdgeAgentError
from edge_agent.metrics import Metrics
from edge_agent.registry import build_sink, build_source, sink_adapter, source_adapter
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
    task = asyncio.create_task(source.run(emitter), name=f"reach {name}")
    try:
        async with asyncio.timeout(timeout_s):
            while not (task.done() or emitter.offered or context.state == "connected"):
                await asyncio.wait({task}, timeout=POLL_S)
    except TimeoutError:
        return _not_reached(context, timeout_s)
    finally:
        failure = await _stop(task)
    return str(failure) if failure is not None else None


def visiting(name: str, *, sink: bool = False) -> AdapterContext:
    """For one try, which nobody counts."""
    return AdapterContext(name, SystemClock(), random.Random(0), Metrics(), sink=sink)  # jitter only


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
