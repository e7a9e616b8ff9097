"""The sink against a real mosquitto."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from mqtt_rig import Broker, build_sink, context, free_port, sockets, until

from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.verdict import Event, EventKind

pytestmark = pytest.mark.counterpart


def event(number: int, **body: Any) -> Event:
    return Event(f"id{number}", EventKind.INCIDENT, 1763600000 * 10**9, {"number": number, **body})


def subscriber(broker: Broker, topic: str, count: int, *arguments: str) -> subprocess.Popen[str]:
    """Debian's client; it says when it is subscribed."""
    command = ["stdbuf", "-oL", "mosquitto_sub", "-p", str(broker.port), "-t", topic, "-C", str(count), "-q", "2", "-d"]
    process = subprocess.Popen([*command, "-W", "20", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "SUBACK" in line:
            return process
    raise AssertionError("not subscribed")


def lines(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    with process, process.stdout as output:  # it ends after its count of messages, or by its own time limit
        return [line.rstrip() for line in output if not line.startswith(("Client", "Subscribed"))]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_events_arrive_as_json_in_order(broker: Broker, qos: int, version: str) -> None:
    listening = await asyncio.to_thread(subscriber, broker, "edge-agent/#", 50, "-F", "%t %p")
    given = context(kind="sink")
    sink = build_sink(broker.port, given, qos=qos, version=version)
    await sink.open()
    assert given.state == "connected"
    await sink.deliver([event(number) for number in range(25)])
    await sink.deliver([event(number) for number in range(25, 50)])
    await sink.close()
    received = [line.split(" ", 1) for line in await asyncio.to_thread(lines, listening)]
    assert {topic for topic, _ in received} == {"edge-agent/incident"}
    assert [orjson.loads(body)["number"] for _, body in received] == list(range(50))


async def test_topic_template_and_retain(broker: Broker) -> None:
    sink = build_sink(broker.port, context(kind="sink"), topic="e/{severity}/{kind}/{id}", retain=True)
    await sink.open()
    await sink.deliver([event(1, severity="high"), event(2)])
    await sink.close()
    listening = await asyncio.to_thread(subscriber, broker, "e/#", 2, "-F", "%t %r")
    assert sorted(await asyncio.to_thread(lines, listening)) == ["e/high/incident/id1 1", "e/none/incident/id2 1"]


async def test_replayed_event_says_so_and_has_a_topic_of_its_own(broker: Broker) -> None:
    late = replace(event(1, severity="low"), replayed=True)
    listening = await asyncio.to_thread(subscriber, broker, "e/#", 3, "-F", "%t %p")
    for options in ({}, {"replay_topic": "e/late/{severity}"}):
        sink = build_sink(broker.port, context(kind="sink"), topic="e/{kind}", **options)
        await sink.open()
        await sink.deliver([late] if not options else [late, event(2)])
        await sink.close()
    assert await asyncio.to_thread(lines, listening) == [
        'e/incident {"number":1,"severity":"low","event_id":"id1","replayed":true}',
        'e/late/low {"number":1,"severity":"low","event_id":"id1","replayed":true}',
        'e/incident {"number":2,"event_id":"id2"}',
    ]


async def test_template_makes_the_payload_and_the_body_stands_in_when_it_fails(broker: Broker) -> None:
    given = context(kind="sink")
    listening = await asyncio.to_thread(subscriber, broker, "e", 2, "-F", "%p")
    template = "{{ id }} {% if id == 'id2' %}{{ body.oops }}{% endif %}é"
    sink = build_sink(broker.port, given, topic="e", template=template)
    await sink.open()
    await sink.deliver([event(1), event(2)])
    await sink.close()
    assert await asyncio.to_thread(lines, listening) == ["id1 é", '{"number":2,"event_id":"id2"}']
    assert given.metrics.template_failures.labels("test", "template").value == 1


async def test_delivery_without_acknowledgement_fails_and_can_be_repeated(broker: Broker) -> None:
    given = context(kind="sink")
    sink = build_sink(broker.port, given, timeout="300ms", connect_timeout="300ms")
    await sink.open()
    broker.signal(signal.SIGSTOP)
    for _ in range(2):  # the second time already the connecting
        with pytest.raises(RetryableAdapterError, match=r"no answer from the broker within 0\.3 s"):
            await sink.deliver([event(1)])
    assert given.state.startswith("disconnected")
    broker.signal(signal.SIGCONT)
    await sink.deliver([event(1)])
    assert given.state == "connected"
    await sink.close()


async def test_delivery_reconnects_after_the_broker_was_gone(broker: Broker) -> None:
    sink = build_sink(broker.port, context(kind="sink"))
    await sink.open()
    await asyncio.to_thread(broker.stop)
    with pytest.raises(RetryableAdapterError):
        await sink.deliver([event(1)])
    with pytest.raises(RetryableAdapterError, match="cannot reach the broker"):
        await sink.deliver([event(1)])
    await asyncio.to_thread(broker.start)
    listening = await asyncio.to_thread(subscriber, broker, "edge-agent/#", 1, "-F", "%p")
    await sink.deliver([event(1)])
    await sink.close()
    assert await asyncio.to_thread(lines, listening) == ['{"number":1,"event_id":"id1"}']


async def test_idle_sink_finds_its_broker_again(broker: Broker) -> None:
    given = context(kind="sink")
    sink = build_sink(broker.port, given, retry_max="100ms")
    await sink.open()
    await asyncio.to_thread(broker.stop)
    await until(lambda: given.state.startswith("disconnected"))
    await asyncio.to_thread(broker.start)
    await until(lambda: given.state == "connected")
    await sink.deliver([event(1)])
    await sink.close()


async def test_forbidden_topic_is_final(start_broker: Callable[..., Broker], tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic read edge-agent/#\n")
    broker = start_broker(f"acl_file {rules}")
    sink = build_sink(broker.port, context(kind="sink"), version="5")
    await sink.open()
    with pytest.raises(AdapterError, match="the broker refuses a message: Not authorized") as caught:
        await sink.deliver([event(1)])
    assert not isinstance(caught.value, RetryableAdapterError)
    await sink.close()


async def test_closing_and_failing_leave_no_socket(broker: Broker) -> None:
    before = sockets()
    sink = build_sink(broker.port, context(kind="sink"))
    await sink.open()
    delivering = asyncio.create_task(sink.deliver([event(number) for number in range(1000)]))
    await asyncio.sleep(0)
    delivering.cancel()
    await asyncio.wait([delivering])
    await sink.close()
    absent = build_sink(free_port(), context(kind="sink"))
    with pytest.raises(RetryableAdapterError, match="cannot reach the broker"):
        await absent.open()
    await absent.close()
    await until(lambda: sockets() <= before, 2)
