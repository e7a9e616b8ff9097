"""A source, a sink and an uplink that a test holds in its hands, announced like those of any other distribution."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import Field

from edge_agent.contract import (
    AdapterContext,
    Emitter,
    SinkAdapter,
    SinkOptions,
    SourceAdapter,
    SourceOptions,
    UplinkAdapter,
    UplinkOptions,
    UplinkPort,
)
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.sample import Batch
from edge_agent.verdict import Event

log: list[str] = []
delivered: list[Event] = []
told: list[tuple[str, bytes]] = []
sources: dict[str, ProbeSource] = {}


class ProbeSinkOptions(SinkOptions):
    """Options of the probe sink."""

    fault: str = Field(default="", description="`down`: cannot be opened; `hangs`: never acknowledges.")


class ProbeSource:
    """Emits what :meth:`give` was told to."""

    def __init__(self, options: SourceOptions, context: AdapterContext) -> None:
        self.context = context
        self.emit: Emitter | None = None
        self._lost = asyncio.Event()
        sources[context.name] = self

    async def run(self, emit: Emitter) -> None:
        log.append(f"{self.context.name} runs")
        self.emit = emit
        self.context.connected("nowhere")
        try:
            await self._lost.wait()
            raise AdapterError("connection lost")
        finally:
            log.append(f"{self.context.name} stops")

    def fail(self) -> None:
        self._lost.set()

    def give(self, **values: float) -> None:
        assert self.emit is not None
        assert self.emit.offer(Batch(tuple(values), list(values.values()), self.context.clock.monotonic_ns()))


class ProbeSink:
    """Keeps what it is given, or does not, as its options say."""

    def __init__(self, options: ProbeSinkOptions, context: AdapterContext) -> None:
        self.options, self.name = options, context.name

    async def open(self) -> None:
        if self.options.fault == "down":
            raise RetryableAdapterError("connection refused")
        log.append(f"{self.name} opens")

    async def deliver(self, events: Sequence[Event]) -> None:
        if self.options.fault == "hangs":
            await asyncio.Event().wait()
        delivered.extend(events)

    async def close(self) -> None:
        log.append(f"{self.name} closes")


class ProbeUplinkOptions(UplinkOptions):
    """Options of the probe uplink."""

    word: str = Field(default="", description="Whatever makes it another one.")


class ProbeUplink:
    """Says when it runs; reports go to :data:`told`."""

    def __init__(self, options: ProbeUplinkOptions, context: AdapterContext) -> None:
        self.context = context
        self.name = f"{context.name}{options.word}"

    async def run(self, port: UplinkPort) -> None:
        log.append(f"{self.name} runs")
        self.context.connected("nowhere")
        try:
            while True:
                told.append((self.name, await port.next_report()))
        finally:
            log.append(f"{self.name} stops")


SOURCE = SourceAdapter("probe", "For tests.", SourceOptions, ProbeSource)
SINK = SinkAdapter("probe", "For tests.", ProbeSinkOptions, ProbeSink)
UPLINK = UplinkAdapter("probe", "For tests.", ProbeUplinkOptions, ProbeUplink)
