"""The kit finds what it is there to find: each broken adapter below breaks one rule."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge_agent import registry
from edge_agent.contract import (
    AdapterContext,
    Emitter,
    Hint,
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
from edge_agent.testing import ConformanceError, check_announcement, check_sink, check_source, check_uplink
from edge_agent.testing import sinks as sink_rules
from edge_agent.testing import sources as source_rules
from edge_agent.testing import uplinks as uplink_rules
from edge_agent.verdict import Event

WIRE: asyncio.Queue[str] = asyncio.Queue()


class GoodSource:
    """Reads words from a queue: ``x`` is a reading, anything else is garbage."""

    def __init__(self, options: SourceOptions, context: AdapterContext) -> None:
        self.context = context

    def connect(self) -> None:
        if self.context.name == "unreachable":
            raise RetryableAdapterError("nobody there")
        self.context.connected("the queue")

    async def run(self, emit: Emitter) -> None:
        self.connect()
        while True:
            word = await WIRE.get()
            if word == "x":
                await emit.send(self.batch())
            else:
                self.context.reject("malformed", f"got {word!r}, expected 'x'")

    def batch(self) -> Batch:
        return Batch(("x",), (1.0,), self.context.clock.monotonic_ns())


class ConnectsToNobody(GoodSource):
    def connect(self) -> None:
        self.context.connected("the queue")


class ColumnsOfUnequalLength(GoodSource):
    def batch(self) -> Batch:
        return Batch(("x", "y"), (1.0,), 1)


class NamelessSensor(GoodSource):
    def batch(self) -> Batch:
        return Batch(("",), (1.0,), 1)


class QualityOfUnequalLength(GoodSource):
    def batch(self) -> Batch:
        return Batch(("x",), (1.0,), 1, quality=(0, 0))


class NoArrivalTime(GoodSource):
    def batch(self) -> Batch:
        return Batch(("x",), (1.0,), 0)


class IgnoresCancelling(GoodSource):
    async def run(self, emit: Emitter) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await super().run(emit)
            await asyncio.sleep(0.5)


class LeavesATask(GoodSource):
    tasks: list[asyncio.Task[Any]] = []  # noqa: RUF012

    async def run(self, emit: Emitter) -> None:
        self.tasks.append(asyncio.create_task(asyncio.sleep(60)))
        await super().run(emit)


class LeavesASocket(GoodSource):
    sockets: list[socket.socket] = []  # noqa: RUF012

    async def run(self, emit: Emitter) -> None:
        self.sockets.append(socket.socket())
        await super().run(emit)


class LeavesAThread(GoodSource):
    stop = threading.Event()

    async def run(self, emit: Emitter) -> None:
        threading.Thread(target=self.stop.wait, name="left over").start()
        await super().run(emit)


class LosesWhatIsRefused(GoodSource):
    async def run(self, emit: Emitter) -> None:
        self.context.connected("the queue")
        while await WIRE.get():
            emit.offer(self.batch())


class SwallowsGarbage(GoodSource):
    async def run(self, emit: Emitter) -> None:
        self.context.connected("the queue")
        while True:
            if await WIRE.get() == "x":
                await emit.send(self.batch())


class DiesOfGarbage(GoodSource):
    async def run(self, emit: Emitter) -> None:
        self.context.connected("the queue")
        while await WIRE.get() == "x":
            await emit.send(self.batch())
        self.context.reject("malformed", "it was too much")
        raise RetryableAdapterError("garbage")


class NeverSaysConnected(GoodSource):
    async def run(self, emit: Emitter) -> None:
        await asyncio.sleep(60)


class FailsInForeignWords(GoodSource):
    async def run(self, emit: Emitter) -> None:
        if self.context.name == "unreachable":
            raise OSError("refused")
        await super().run(emit)


@pytest.fixture
def no_announcement(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The adapters of this file are not installed; only how they run is looked at."""
    monkeypatch.setattr(source_rules, "check_announcement", lambda adapter: None)
    monkeypatch.setattr(sink_rules, "check_announcement", lambda adapter: None)
    monkeypatch.setattr(uplink_rules, "check_announcement", lambda adapter: None)
    monkeypatch.setattr(source_rules, "STOP_S", 0.2)
    monkeypatch.setattr(uplink_rules, "STOP_S", 0.2)
    monkeypatch.setattr("edge_agent.testing.rule.LEFT_OVER_S", 0.2)
    LeavesAThread.stop.clear()
    global WIRE
    WIRE = asyncio.Queue()
    yield
    for task in LeavesATask.tasks:
        with contextlib.suppress(RuntimeError):  # its event loop is closed
            task.cancel()
    for left in LeavesASocket.sockets:
        left.close()
    LeavesATask.tasks.clear()
    LeavesASocket.sockets.clear()
    LeavesAThread.stop.set()


async def feed() -> None:
    WIRE.put_nowait("x")


async def garbage() -> None:
    WIRE.put_nowait("garbage")


async def run_source(build: Callable[..., Any], **more: Any) -> list[Batch]:
    adapter = SourceAdapter("example", "An example.", SourceOptions, build)
    given = {"feed": feed, "garbage": garbage, "unreachable": {"type": "example"}} | more
    return await check_source(adapter, {"type": "example"}, timeout_s=0.7, **given)


@pytest.mark.usefixtures("no_announcement")
async def test_good_source_passes() -> None:
    [batch] = await run_source(GoodSource)
    assert batch.sensors == ("x",)


@pytest.mark.usefixtures("no_announcement")
@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (ColumnsOfUnequalLength, "one value a sensor, not 1 for 2"),
        (NamelessSensor, "every reading has a sensor name"),
        (QualityOfUnequalLength, "quality is one for all or one a reading, not 2 for 1"),
        (NoArrivalTime, "arrival_ns is monotonic time"),
        (IgnoresCancelling, "of being cancelled"),
        (LeavesATask, "no task is left"),
        (LeavesASocket, "no socket is left open"),
        (LeavesAThread, "no thread is left"),
        (LosesWhatIsRefused, "the source goes on when there is room again"),
        (SwallowsGarbage, "is counted by context.reject"),
        (NeverSaysConnected, "reports context.connected"),
        (ConnectsToNobody, "a source that reaches nobody does not say it is connected"),
        (FailsInForeignWords, "is an AdapterError or is retried, not OSError"),
    ],
)
async def test_broken_source_is_found_out(build: type[GoodSource], rule: str) -> None:
    with pytest.raises(ConformanceError, match=rule.replace(".", r"\.")):
        await run_source(build)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


@pytest.mark.usefixtures("no_announcement")
async def test_source_that_dies_of_garbage_is_found_out() -> None:
    with pytest.raises(RetryableAdapterError, match="garbage"):
        await run_source(DiesOfGarbage)


class GoodSink:
    arrived: list[str] = []  # noqa: RUF012

    def __init__(self, options: SinkOptions, context: AdapterContext) -> None:
        self.name = context.name

    async def open(self) -> None:
        if self.name == "unreachable":
            raise RetryableAdapterError("nobody there")

    async def deliver(self, events: Sequence[Event]) -> None:
        self.arrived.extend(event.id for event in events)

    async def close(self) -> None:
        pass


class PretendsToDeliver(GoodSink):
    async def deliver(self, events: Sequence[Event]) -> None:
        pass


class PretendsToReach(GoodSink):
    async def open(self) -> None:
        pass


class HangsInClose(GoodSink):
    async def close(self) -> None:
        await asyncio.sleep(60)


async def run_sink(build: Callable[..., Any]) -> None:
    async def received() -> Sequence[str]:
        return GoodSink.arrived

    GoodSink.arrived.clear()
    adapter = SinkAdapter("example", "An example.", SinkOptions, build)
    options = {"type": "example"}
    await check_sink(adapter, options, received=received, unreachable=options, timeout_s=0.5)


@pytest.mark.usefixtures("no_announcement")
async def test_good_sink_passes() -> None:
    await run_sink(GoodSink)


@pytest.mark.usefixtures("no_announcement")
@pytest.mark.parametrize(
    ("build", "error", "rule"),
    [
        (PretendsToDeliver, ConformanceError, "has arrived at the far side"),
        (PretendsToReach, ConformanceError, "is an AdapterError of open"),
        (HangsInClose, ConformanceError, "close.. ends within"),
    ],
)
async def test_broken_sink_is_found_out(
    build: type[GoodSink], error: type[Exception], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_rules, "CLOSE_S", 0.2)
    with pytest.raises(error, match=rule):
        await run_sink(build)


class GoodUplink:
    """Hears words from a queue: ``x`` is a nudge, anything else is garbage. Tells into a list."""

    told: list[bytes] = []  # noqa: RUF012

    def __init__(self, options: UplinkOptions, context: AdapterContext) -> None:
        self.context = context

    def connect(self) -> None:
        if self.context.name == "unreachable":
            raise RetryableAdapterError("nobody there")
        self.context.connected("the queue")

    async def run(self, port: UplinkPort) -> None:
        self.connect()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.hear(port))
            tasks.create_task(self.tell(port))

    async def hear(self, port: UplinkPort) -> None:
        while True:
            word = await WIRE.get()
            if word == "x":
                port.look(self.hint())
            else:
                self.refuse(word)

    def hint(self) -> Hint:
        return Hint(7, 20.0)

    def refuse(self, word: str) -> None:
        self.context.reject("malformed", f"got {word!r}, expected 'x'")

    async def tell(self, port: UplinkPort) -> None:
        while True:
            self.told.append(await port.next_report())


class HintsWithoutBounds(GoodUplink):
    def hint(self) -> Hint:
        return Hint(7, 1e9)


class HintsBackwards(GoodUplink):
    def hint(self) -> Hint:
        return Hint(-1)


class TellsNothing(GoodUplink):
    async def tell(self, port: UplinkPort) -> None:
        await port.next_report()


class TellsOnlyOnce(GoodUplink):
    async def tell(self, port: UplinkPort) -> None:
        self.told.append(await port.next_report())


class KeepsHints(GoodUplink):
    async def hear(self, port: UplinkPort) -> None:
        await asyncio.sleep(60)


class IsSilentAboutGarbage(GoodUplink):
    def refuse(self, word: str) -> None:
        pass


class EndsByItself(GoodUplink):
    async def run(self, port: UplinkPort) -> None:
        self.connect()


class UplinkToNobody(GoodUplink):
    def connect(self) -> None:
        self.context.connected("the queue")


class UplinkWithForeignWords(GoodUplink):
    def connect(self) -> None:
        if self.context.name == "unreachable":
            raise OSError("refused")
        super().connect()


class UplinkThatIgnoresCancelling(GoodUplink):
    async def run(self, port: UplinkPort) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await super().run(port)
            await asyncio.sleep(0.5)


async def run_uplink(build: Callable[..., Any]) -> list[Hint]:
    async def told(report: bytes) -> bool:
        return report in GoodUplink.told

    GoodUplink.told.clear()
    adapter = UplinkAdapter("example", "An example.", UplinkOptions, build)
    given = {"type": "example"}
    return await check_uplink(adapter, given, nudge=feed, told=told, garbage=garbage, unreachable=given, timeout_s=0.7)


@pytest.mark.usefixtures("no_announcement")
async def test_good_uplink_passes() -> None:
    assert await run_uplink(GoodUplink) == [Hint(7, 20.0)]


@pytest.mark.usefixtures("no_announcement")
@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (HintsWithoutBounds, "a spread is 0 to 3600 s, not 1000000000"),
        (HintsBackwards, "a counter is from 0 on, not -1"),
        (TellsNothing, "a report has arrived at the far side"),
        (TellsOnlyOnce, "a report has arrived at the far side"),
        (KeepsHints, "passes hints on by port.look"),
        (IsSilentAboutGarbage, "is counted by context.reject"),
        (EndsByItself, "goes on until it is cancelled"),
        (UplinkToNobody, "an uplink that reaches nobody does not say it is connected"),
        (UplinkWithForeignWords, "is an AdapterError or is retried, not OSError"),
        (UplinkThatIgnoresCancelling, "of being cancelled"),
    ],
)
async def test_broken_uplink_is_found_out(build: type[GoodUplink], rule: str) -> None:
    with pytest.raises(ConformanceError, match=rule.replace(".", r"\.")):
        await run_uplink(build)


# What an adapter ships

PACKAGE = '''
from edge_agent.contract import SourceAdapter, SourceOptions
from pydantic import Field
{imports}

class Options(SourceOptions):
    """Options."""
    host: str = Field({description})

SOURCE = SourceAdapter("{name}", "{summary}", Options, lambda options, context: None)
'''
GOOD = {
    "imports": "",
    "description": 'description="Where it is."',
    "name": "broken_example",
    "summary": "An example.",
    "readme": "# Example",
    "sample": "sources: {a: {type: broken_example, host: b}}",
}


@pytest.fixture
def ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SourceAdapter]]:
    """Installs an adapter into a folder on the module path and loads it."""

    def shipped(**changes: str | None) -> SourceAdapter:
        parts = GOOD | changes
        package, info = tmp_path / "broken_edge", tmp_path / "broken_edge-1.dist-info"
        package.mkdir()
        info.mkdir()
        (package / "__init__.py").write_text("")
        (package / "announce.py").write_text(PACKAGE.format(**parts))
        for file, text in (("README.md", parts["readme"]), ("sample.yaml", parts["sample"])):
            if text is not None:
                (package / file).write_text(text)
        requires = "Requires-Dist: pymodbus\n"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: broken-edge\nVersion: 1\n{requires}")
        (info / "entry_points.txt").write_text("[edge_agent.sources]\nbroken_example = broken_edge.announce:SOURCE\n")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.syspath_prepend(str(tmp_path))
        registry.refresh()
        found = registry.load_object(registry.Group.SOURCES, "broken_example")
        assert isinstance(found, SourceAdapter)
        return found

    yield shipped
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.startswith("broken_edge")]:
        del sys.modules[name]
    registry.refresh()


def test_good_announcement_passes(ship: Callable[..., SourceAdapter]) -> None:
    check_announcement(ship())


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": "Other-Name"}, "an entry point 'Other-Name' is in the group"),
        ({"summary": "no sentence"}, "the summary is a sentence"),
        ({"description": ""}, r"option Options\.host has a description"),
        ({"readme": None}, r"README\.md is beside the adapter"),
        ({"sample": None}, r"sample\.yaml is beside the adapter"),
        ({"sample": "sources: {}"}, r"sample\.yaml shows a component of type broken_example"),
        ({"imports": "import pymodbus"}, r"does not import the client library \(it imported \['pymodbus'\]\)"),
    ],
    ids=str,
)
def test_broken_announcement_is_found_out(
    ship: Callable[..., SourceAdapter], change: dict[str, str | None], rule: str
) -> None:
    with pytest.raises(ConformanceError, match=rule):
        check_announcement(ship(**change))


def test_conformance_error_is_an_assertion() -> None:
    assert issubclass(ConformanceError, AssertionError)
    assert not issubclass(ConformanceError, AdapterError)
