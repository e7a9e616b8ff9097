"""Brokers that go away, forget, or fall silent."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mqtt_rig import Broker, Intake, StubbornPublisher, build_source, context, running, until

from edge_agent.errors import AdapterError, RetryableAdapterError

pytestmark = pytest.mark.counterpart

PUBACK = re.compile(r"Received PUBACK from agent \(Mid: (\d+)")


@pytest.fixture
def durable_broker(start_broker: Callable[..., Broker], tmp_path: Path) -> Broker:
    # 20, the default, lets mosquitto 2.0.11 publish QoS 2 messages again that it had already released.
    limit = "max_inflight_messages 1000"
    log = (f"log_dest file {tmp_path}/log", "log_type all")
    return start_broker("persistence true", f"persistence_location {tmp_path}/", limit, *log)


def durable(qos: int, version: str) -> dict[str, Any]:
    subscription = {"topic": "plant/{area}/{sensor}", "qos": qos, "payload": {"value": "$.v"}}
    return {"client_id": "agent", "session_expiry": "1h", "version": version, "subscriptions": [subscription]}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_nothing_is_lost_when_the_broker_restarts_while_publishing(durable_broker: Broker, version: str) -> None:
    broker, given, intake = durable_broker, context(), Intake()
    async with running(build_source(broker.port, given, **durable(1, version)), given, intake):
        publisher = StubbornPublisher(broker.port)
        await publisher.publish("plant/a/b", range(300))
        await asyncio.to_thread(broker.stop)
        await until(lambda: given.state.startswith("disconnected"))
        await publisher.publish("plant/a/b", range(300, 400))
        await asyncio.to_thread(broker.start)
        await publisher.publish("plant/a/b", range(400, 600))
        await publisher.finish()
        received: list[float] = []
        await until(lambda: _grow(received, intake) >= set(range(600)))
        # QoS 1 may repeat what was under way when the broker stopped, but nothing after that.
        assert Counter(received)[599] == 1


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_waits_at_the_broker_survives_its_restart(
    durable_broker: Broker, tmp_path: Path, qos: int, version: str
) -> None:
    broker, given, intake = durable_broker, context(), Intake(capacity=5)
    async with running(build_source(broker.port, given, **durable(qos, version)), given, intake):
        await broker.publish("plant/a/b", *[f'{{"v": {number}}}' for number in range(300)], qos=qos)
        received = await intake.values(100)
        await asyncio.to_thread(broker.stop)
        await until(lambda: bool(_grow(received, intake)) and given.state.startswith("disconnected"))
        assert len(received) < 300
        # The broker numbers its messages from 1 on.
        acknowledged = {int(mid) - 1 for mid in PUBACK.findall((tmp_path / "log").read_text())}
        await asyncio.to_thread(broker.start)
        await until(lambda: _grow(received, intake) >= set(range(300)))
        await broker.publish("plant/a/b", '{"v": 300}', qos=qos)
        await until(lambda: 300 in _grow(received, intake))
    repeats = {value for value, count in Counter(received).items() if count > 1}
    if qos == 2:
        assert received == list(range(301))
    else:  # only what the broker had not yet heard of may come again
        assert acknowledged
        assert not repeats & acknowledged


def _grow(received: list[float], intake: Intake) -> set[float]:
    received.extend(batch.values[0] for batch in intake.channel.drain())
    return set(received)


async def test_subscriptions_are_made_anew_when_the_broker_forgot(broker: Broker) -> None:
    given, intake = context(), Intake()
    options = {"client_id": "agent", "session_expiry": "1h"}
    async with running(build_source(broker.port, given, **options), given, intake):
        await asyncio.to_thread(broker.stop)
        await until(lambda: given.state.startswith("disconnected"))
        await asyncio.to_thread(broker.start)
        await until(lambda: given.state == "connected")
        await broker.publish("plant/a/b", '{"v": 1}')
        assert await intake.values(1) == [1]


async def test_broker_that_falls_silent_is_noticed_within_the_keepalive(broker: Broker) -> None:
    given, intake = context(), Intake()
    options = {"keepalive": "1s", "connect_timeout": "300ms"}
    async with running(build_source(broker.port, given, **options), given, intake):
        broker.signal(signal.SIGSTOP)
        start = time.monotonic()
        await until(lambda: given.state.startswith("disconnected"))
        assert time.monotonic() - start < 1.3  # the keepalive, and what a busy machine adds
        assert "no answer within the keepalive of 1 s (half-open connection)" in given.state
        broker.signal(signal.SIGCONT)
        await until(lambda: given.state == "connected")
        await broker.publish("plant/a/b", '{"v": 1}')
        assert await intake.values(1) == [1]


async def test_quiet_connection_is_kept(broker: Broker) -> None:
    given = context()
    async with running(build_source(broker.port, given, keepalive="1s"), given, Intake()) as task:
        await asyncio.sleep(2.2)
        assert given.state == "connected"
        assert not task.done()


async def test_password_changed_during_an_outage_ends_the_source(
    start_broker: Callable[..., Broker], tmp_path: Path
) -> None:
    rules = tmp_path / "passwords"
    rules.write_text("")
    broker = start_broker()
    given = context()
    task = asyncio.create_task(build_source(broker.port, given, username="u", password="p").run(Intake()))
    await until(lambda: given.state == "connected")
    await asyncio.to_thread(broker.stop)
    closed = start_broker(f"password_file {rules}", anonymous=False)
    closed.stop()
    closed.move_to(broker.port)
    closed.start()
    with pytest.raises(AdapterError, match="Not authorized") as caught:
        await task
    assert not isinstance(caught.value, RetryableAdapterError)


def qos_2_publish(mid: int, value: int) -> bytes:
    topic, payload = b"plant/a/b", f'{{"v": {value}}}'.encode()
    return bytes([0x34, 4 + len(topic) + len(payload), 0, len(topic)]) + topic + bytes([0, mid]) + payload


@pytest.mark.parametrize(("session_present", "expected"), [(1, [1, 3]), (0, [1, 2, 3])])
async def test_qos_2_message_that_comes_again_is_known_while_the_session_lasts(
    session_present: int, expected: list[float]
) -> None:
    """By a script, because the connection has to break between PUBREC and PUBREL."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(1000)
        writer.write(bytes([0x20, 2, 0 if connections == 1 else session_present, 0]) + b"\x90\x03\x00\x01\x02")
        writer.write(qos_2_publish(mid=1, value=connections))
        received = b""
        while b"\x50\x02\x00\x01" not in received:  # PUBREC
            received += await reader.read(1000)
        if connections > 1:
            writer.write(b"\x62\x02\x00\x01" + qos_2_publish(mid=2, value=3))  # PUBREL, and the next
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    given, intake = context(), Intake()
    async with server, running(build_source(server.sockets[0].getsockname()[1], given), given, intake):
        assert await intake.values(len(expected)) == expected


async def test_refused_subscription_is_final() -> None:
    """By a script, because this mosquitto grants every subscription and then sends nothing."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x87"):  # CONNACK, SUBACK: Not authorized
            await reader.read(1000)
            writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        source = build_source(server.sockets[0].getsockname()[1], context(), version="5")
        with pytest.raises(AdapterError, match=r"refuses the subscription to 'plant/\+/\+': Not authorized") as caught:
            await source.run(Intake())
    assert not isinstance(caught.value, RetryableAdapterError)


async def test_reason_given_by_the_broker_is_told() -> None:
    """By a script, because this mosquitto closes without a word where MQTT 5 lets it give a reason."""

    async def throw_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in (b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x01"):  # CONNACK, SUBACK
            await reader.read(1000)
            writer.write(answer)
        await until(lambda: given.state == "connected")
        writer.write(b"\xe0\x02\x8e\x00")  # DISCONNECT, Session taken over
        await reader.read()
        writer.close()

    server = await asyncio.start_server(throw_out, "127.0.0.1", 0)
    given = context()
    async with server:
        source = build_source(server.sockets[0].getsockname()[1], given, client_id="agent", version="5")
        async with running(source, given, Intake()):
            await until(lambda: given.state.startswith("disconnected"))
            assert "the broker ended the connection: Session taken over (reason code 142)" in given.state
