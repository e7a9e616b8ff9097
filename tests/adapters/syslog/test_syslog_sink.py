"""The syslog sink: what is sent again when the receiver goes, and what options are refused."""

from __future__ import annotations

import asyncio
import random
from importlib import resources
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from syslog_rig import NOW_NS, Receiver, S, built, incident_event, new_context, opened, receiver, status_event

from edge_adapters.syslog import SINK
from edge_adapters.syslog.datagrams import Datagrams
from edge_adapters.syslog.options import Facility
from edge_adapters.syslog.sink import SentLately
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics

pytestmark = pytest.mark.timeout(20)


def names(read: bytes) -> list[str]:
    """Event ids in the order read, from octet-counted frames."""
    found = []
    while read:
        length, _, rest = read.partition(b" ")
        message, read = rest[: int(length)], rest[int(length) :]
        found.append(message.split(b' id="', 1)[1].split(b'"', 1)[0].decode())
    return found


async def test_messages_arrive_in_order_in_octet_counted_frames() -> None:
    async with receiver() as far, opened(port=far.port) as sink:
        await sink.deliver([incident_event("a", summary="zwölf"), status_event("b")])
        await sink.deliver([status_event("c")])
        await far.has(b'"c"')
        assert names(far.read[0]) == ["a", "b", "c"]


async def test_newline_framing() -> None:
    async with receiver() as far, opened(port=far.port, framing="newline", structured_data=False) as sink:
        await sink.deliver([status_event(message="one\ntwo"), status_event(message="three")])
        await far.has(b"three\n")
        assert [line.rpartition(b" - ")[2] for line in far.read[0].splitlines()] == [b"one two", b"three"]


async def test_a_receiver_that_has_ended_in_order_is_met_again_before_anything_is_written() -> None:
    async with receiver() as far, opened(port=far.port) as sink:
        await sink.deliver([status_event("a")])
        await far.has(b'"a"')
        port = far.port
        await far.stop()
        await far.start(port)
        await sink.deliver([status_event("b")])
        await far.has(b'"b"')
        assert [names(part) for part in far.read] == [["a"], ["b"]]


async def test_what_a_receiver_that_broke_off_may_not_have_read_is_sent_again() -> None:
    async with receiver() as far, opened(port=far.port) as sink:
        far.reading.clear()
        await sink.deliver([status_event("a"), status_event("b")])  # its machine has it, the receiver reads nothing
        await far.connections(1)
        port = far.port
        await far.stop(reset=True)
        far.reading.set()
        await far.start(port)
        await far.connections(2)  # without any new event
        await far.has(b'"b"')
        assert names(far.read[1]) == ["a", "b"]


async def test_what_is_in_doubt_outlives_an_attempt() -> None:
    context = new_context()
    far = Receiver()
    await far.start()
    port = far.port
    far.reading.clear()
    async with opened(context, port=port) as sink:
        await sink.deliver([status_event("a")])
        await far.connections(1)
        await far.stop(reset=True)
        with pytest.raises(RetryableAdapterError):
            await sink.deliver([status_event("b")])
    far.reading.set()
    await far.start(port)
    async with opened(context, port=port) as sink:  # as the agent builds it anew
        await sink.deliver([status_event("b")])
        await far.has(b'"b"')
        assert names(far.read[-1]) == ["a", "b"]
    await far.stop()


def test_only_what_was_sent_lately_is_in_doubt() -> None:
    lately = SentLately()
    lately.sent([b"old"], 0)
    lately.sent([b"new"], 15 * S)
    assert lately.broken_off(20 * S) == 1
    assert lately.again == [b"new"]
    assert lately.broken_off(20 * S) == 0


async def test_a_receiver_whose_machine_says_nothing_is_no_delivery() -> None:
    """A socket that nobody reads from: once its buffers are full, nothing is acknowledged any more."""
    far = Receiver()
    await far.start()
    far.reading.clear()
    big = [incident_event(f"e{n}", summary="x" * 900_000) for n in range(20)]
    async with opened(port=far.port, timeout="300ms", max_length="1MB") as sink:
        with pytest.raises(RetryableAdapterError, match=r"acknowledged nothing within 0\.3 s"):
            await sink.deliver(big)
    await far.stop(reset=True)


async def deliver_one(sink: Sink) -> None:
    await sink.open()
    await sink.deliver([status_event()])


async def test_nobody_listens() -> None:
    far = Receiver()
    await far.start()
    await far.stop()
    for transport in ("tcp", "udp"):
        sink = built(new_context(), port=far.port, transport=transport)
        with pytest.raises(RetryableAdapterError, match=rf"syslog {transport}://127\.0\.0\.1:{far.port}: .*refused"):
            await deliver_one(sink)
        await sink.close()


async def test_an_unknown_host_is_told() -> None:
    with pytest.raises(RetryableAdapterError, match="check `host`"):
        await Datagrams.open("no-such-host.invalid", 514, "syslog udp://no-such-host.invalid:514", 5.0)


async def test_a_cut_message_is_counted() -> None:
    metrics = Metrics()
    context = AdapterContext("siem", VirtualClock(NOW_NS), random.Random(1), metrics, kind="sink")
    async with receiver() as far, opened(context, port=far.port, max_length="480B") as sink:
        await sink.deliver([status_event(message="y" * 1_000), status_event()])
    assert metrics.sink_parts_lost.labels("siem", "truncated").value == 1


async def test_unusable_tls_files_are_told() -> None:
    sink = built(new_context(), transport="tls", tls={"ca_file": "/nowhere.pem"})
    with pytest.raises(AdapterError, match=r"tls\.ca_file: cannot use '/nowhere\.pem'"):
        await sink.open()
    await sink.close()


async def test_a_delivery_that_is_cancelled_leaves_no_half_message_behind() -> None:
    big = [incident_event(f"e{n}", summary="x" * 900_000) for n in range(20)]  # more than the buffers on the way hold
    async with receiver() as far, opened(port=far.port, max_length="1MB") as sink:
        delivery = asyncio.create_task(sink.deliver(big))
        await far.has(b'id="e0"')
        assert not delivery.done()  # in the middle of it
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        await sink.deliver([status_event("after")])
        await far.has(b'id="after"')
        assert b'id="e19"' not in far.read[0]
        assert [names(part) for part in far.read[1:]] == [["after"]]


async def test_a_delivery_that_is_cancelled_before_anything_is_sent_keeps_the_connection() -> None:
    async with receiver() as far, opened(port=far.port) as sink:
        await far.connections(1)
        delivery = asyncio.create_task(sink.deliver([status_event("a"), status_event("b")]))
        await asyncio.sleep(0)  # its messages are being made
        delivery.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivery
        await sink.deliver([status_event("after")])
        await far.has(b'id="after"')
        assert [names(part) for part in far.read] == [["after"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"transport": "udp", "framing": "newline"}, "framing: has no meaning with `transport: udp`"),
        ({"tls": {"server_name": "x"}}, "tls: has no meaning with `transport: tcp`; set `transport: tls`"),
        ({"transport": "udp", "max_length": "70kB"}, "expected at most 65507 bytes"),
        ({"events": ["incident", "scores"]}, "got scores, expected incident and status"),
        ({"tls": {"key_file": "k"}, "transport": "tls"}, "key_file: needs `cert_file` too"),
        ({"app_name": "edge agent"}, "String should match pattern"),
        ({"max_length": "100B"}, "greater than or equal to 480"),
        ({"facility": "local8"}, "Input should be 'kern', 'user'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as raised:
        SINK.options.model_validate({"type": "syslog", "host": "h", **options})
    assert expected in str(raised.value)


def test_facilities_have_the_numbers_of_the_standard() -> None:
    numbers = {"kern": 0, "user": 1, "auth": 4, "authpriv": 10, "local0": 16, "local7": 23}
    assert {name: Facility(name).number for name in numbers} == numbers


@pytest.mark.parametrize(("transport", "port", "length"), [("udp", 514, 2048), ("tcp", 514, 8192), ("tls", 6514, 8192)])
def test_defaults_follow_the_transport(transport: str, port: int, length: int) -> None:
    options: Any = SINK.options.model_validate({"type": "syslog", "host": "h", "transport": transport})
    assert (options.effective_port, options.effective_length) == (port, length)


def test_the_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.syslog") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["siem"])
