"""The source against a real mosquitto: ways of a message, acknowledgement, back-pressure, bad input."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from mqtt_rig import (
    Broker,
    Intake,
    build_source,
    context,
    free_port,
    rejected,
    running,
    sockets,
    source_options,
    until,
)

from edge_adapters.mqtt.connect import open_socket
from edge_agent.channel import Full
from edge_agent.errors import AdapterError, RetryableAdapterError

pytestmark = pytest.mark.counterpart


def numbered(count: int) -> list[str]:
    return [f'{{"v": {number}}}' for number in range(count)]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_arrive_in_order_once(broker: Broker, version: str, qos: int) -> None:
    given, intake = context(), Intake()
    subscription = {"topic": "plant/{area}/{sensor}", "qos": qos, "payload": {"value": "$.v", "time": "$.t"}}
    async with running(build_source(broker.port, given, version=version, subscriptions=[subscription]), given, intake):
        await broker.publish("plant/press/p1", *[f'{{"v": {n}, "t": 1763600000}}' for n in range(300)], qos=qos)
        batches = await intake.take(300)
    assert [batch.values[0] for batch in batches] == list(range(300))
    assert {batch.source_time_ns for batch in batches} == {1763600000 * 10**9}
    assert {id(batch.sensors) for batch in batches} == {id(batches[0].sensors)}
    assert batches[0].sensors == ("press.p1",)


def test_runs_on_uvloop(broker: Broker) -> None:
    async def run() -> list[float]:
        given, intake = context(), Intake(capacity=3)
        async with running(build_source(broker.port, given), given, intake):
            publishing = asyncio.create_task(broker.publish("plant/a/b", *numbered(50)))
            values = await intake.values(50)
            await publishing
            return values

    assert uvloop.run(run()) == list(range(50))


async def test_readings_of_one_message_are_one_batch_with_the_same_layout(broker: Broker) -> None:
    given, intake = context(), Intake()
    subscription = {"topic": "line/{device}", "payload": {"time": "$.t"}}
    async with running(build_source(broker.port, given, subscriptions=[subscription]), given, intake):
        await broker.publish(
            "line/k1", '{"t": 1763600000, "a": 1, "b": {"c": 2}}', '{"t": 1763600001, "a": 3, "b": {"c": 4}}'
        )
        first, second = await intake.take(2)
    assert first.sensors == ("k1.a", "k1.b.c")
    assert first.sensors is second.sensors
    assert list(second.values) == [3.0, 4.0]
    assert second.source_time_ns == 1763600001 * 10**9


async def test_topic_without_captures_names_the_sensor(broker: Broker) -> None:
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, subscriptions=[{"topic": "plant/p1/#"}]), given, intake):
        await broker.publish("plant/p1/flow", "2.5")
        (batch,) = await intake.take(1)
    assert batch.sensors == ("plant.p1.flow",)


async def test_first_matching_subscription_reads_a_topic(broker: Broker) -> None:
    given, intake = context(), Intake()
    subscriptions = [{"topic": "a/b", "name": "special"}, {"topic": "a/{x}"}, {"topic": "#", "ignore": ["*/status"]}]
    async with running(build_source(broker.port, given, subscriptions=subscriptions), given, intake):
        for topic in ("a/b", "a/c", "d/e/status", "d/e"):
            await broker.publish(topic, "1")
        batches = await intake.take(3)
    assert [batch.sensors[0] for batch in batches] == ["special", "c", "d.e"]


@pytest.mark.parametrize(("retained", "expected"), [(True, [1.0, 2.0]), (False, [2.0])])
async def test_retained_messages_by_option(broker: Broker, retained: bool, expected: list[float]) -> None:
    await broker.publish("a/b", "1", arguments=["-r"])
    given, intake = context(), Intake()
    options = {"subscriptions": [{"topic": "a/b", "retained": retained}]}
    async with running(build_source(broker.port, given, **options), given, intake):
        await broker.publish("a/b", "2")
        assert await intake.values(len(expected)) == expected


async def test_full_channel_stops_the_reading_and_loses_nothing(broker: Broker) -> None:
    given, intake = context(), Intake(capacity=2)
    async with running(build_source(broker.port, given), given, intake):
        publishing = asyncio.create_task(broker.publish("plant/a/b", *numbered(500)))
        await until(lambda: len(intake.channel) == 2)
        await asyncio.sleep(0.1)
        assert intake.channel.accepted == 2
        assert await intake.values(500) == list(range(500))
        await publishing
    assert intake.channel.dropped == 0


async def test_waiting_for_room_longer_than_the_keepalive_keeps_the_connection(broker: Broker) -> None:
    given, intake = context(), Intake(capacity=1)
    async with running(build_source(broker.port, given, keepalive="1s"), given, intake):
        await broker.publish("plant/a/b", *numbered(3))
        await asyncio.sleep(2.5)
        assert given.state == "connected"
        assert await intake.values(3) == [0, 1, 2]


async def test_drop_oldest_keeps_reading(broker: Broker) -> None:
    given, intake = context(), Intake(capacity=5, when_full=Full.DROP_OLDEST)
    async with running(build_source(broker.port, given), given, intake):
        await broker.publish("plant/a/b", *numbered(100), qos=1)
        await until(lambda: intake.channel.accepted == 100)
        assert intake.channel.dropped == 95
        assert await intake.values(5) == [95, 96, 97, 98, 99]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [1, 2])
async def test_unaccepted_messages_are_not_acknowledged_and_come_again(broker: Broker, version: str, qos: int) -> None:
    options = {
        "client_id": "agent",
        "session_expiry": "1h",
        "version": version,
        "subscriptions": [{"topic": "plant/{area}/{sensor}", "qos": qos, "payload": {"value": "$.v"}}],
    }
    given, intake = context(), Intake(capacity=2)
    async with running(build_source(broker.port, given, **options), given, intake):
        await broker.publish("plant/a/b", *numbered(6), qos=qos)
        await until(lambda: intake.channel.accepted == 2)
        await asyncio.sleep(0.1)
    assert await intake.values(2) == [0, 1]  # accepted, and so acknowledged before leaving
    given, again = context(), Intake()
    async with running(build_source(broker.port, given, **options), given, again):
        assert await again.values(4) == [2, 3, 4, 5]
        await broker.publish("plant/a/b", '{"v": 6}', qos=qos)
        assert await again.values(1) == [6]


async def test_session_keeps_messages_while_the_agent_is_away(broker: Broker) -> None:
    options = {"client_id": "agent", "session_expiry": "1h"}
    given = context()
    async with running(build_source(broker.port, given, **options), given, Intake()):
        pass
    await broker.publish("plant/a/b", *numbered(20))
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, **options), given, intake):
        assert await intake.values(20) == list(range(20))


async def test_backlog_that_comes_before_the_answer_to_the_subscription_may_wait(broker: Broker) -> None:
    options = {"client_id": "agent", "session_expiry": "1h", "connect_timeout": "200ms"}
    given = context()
    async with running(build_source(broker.port, given, **options), given, Intake()):
        pass
    await broker.publish("plant/a/b", *numbered(20))
    given, intake = context(), Intake(capacity=1)
    task = asyncio.create_task(build_source(broker.port, given, **options).run(intake))
    await asyncio.sleep(0.4)
    assert await intake.values(20) == list(range(20))
    await until(lambda: given.state == "connected")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_shared_subscription_gives_each_message_to_one(broker: Broker) -> None:
    options = {"share": "agents"}
    intakes = Intake(), Intake()
    first, second = context(), context()
    async with (
        running(build_source(broker.port, first, **options), first, intakes[0]),
        running(build_source(broker.port, second, **options), second, intakes[1]),
    ):
        await broker.publish("plant/a/b", *numbered(100))
        await until(lambda: sum(intake.channel.accepted for intake in intakes) == 100)
    parts = [[batch.values[0] for batch in intake.channel.drain()] for intake in intakes]
    assert sorted(parts[0] + parts[1]) == list(range(100))
    assert all(parts)


GARBAGE = [b"\x00\xff\xfe", b"", b'{"v": ', b"[" * 100_000, b'{"v": "3"}', b'{"w": 3}', b"null", bytes(range(256))]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_garbage_is_counted_acknowledged_and_forgotten(broker: Broker, qos: int) -> None:
    options = {
        "subscriptions": [{"topic": "plant/{area}/{sensor}", "qos": qos, "payload": {"format": "json", "value": "$.v"}}]
    }
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, **options), given, intake):
        for payload in GARBAGE:
            await broker.publish("plant/a/b", payload, qos=qos)
        await broker.publish("plant/a/b", '{"v": 1}', qos=qos)
        assert await intake.values(1) == [1]
    assert sum(rejected(given).values()) == len(GARBAGE)
    assert rejected(given)["malformed"] == 5


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_ten_megabytes_pass_by_without_being_held(broker: Broker, qos: int) -> None:
    options = {"subscriptions": [{"topic": "plant/{area}/{sensor}", "qos": qos, "payload": {"value": "$.v"}}]}
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, **options), given, intake):
        await broker.publish("plant/a/b", b'{"v": 1}' + b" " * 10_000_000, qos=qos)
        await broker.publish("plant/a/b", '{"v": 2}', qos=qos)
        assert await intake.values(1) == [2]
    assert rejected(given) == {"too_large": 1}


async def test_a_long_message_within_the_limit_is_read(broker: Broker) -> None:
    options = {"subscriptions": [{"topic": "a/{b}", "payload": {"value": "$.v", "max_bytes": "4MB"}}]}
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, **options), given, intake):
        await broker.publish("a/b", b'{"v": 1}' + b" " * 3_000_000)
        assert await intake.values(1) == [1]


async def test_broker_that_is_down_at_the_start_may_come_later() -> None:
    port = free_port()
    with pytest.raises(RetryableAdapterError, match=rf"mqtt://127.0.0.1:{port}: cannot reach the broker: "):
        await build_source(port, context()).run(Intake())


async def test_unknown_host_may_be_known_later() -> None:
    with pytest.raises(RetryableAdapterError, match="cannot find the broker"):
        await build_source(1, context(), host="broker.invalid").run(Intake())


async def test_someone_who_does_not_answer_is_given_up() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    silent = await asyncio.start_server(lambda reader, writer: _hold(writer), "127.0.0.1", 0)
    async with server, silent:
        with pytest.raises(RetryableAdapterError, match=r"the broker closed the connection|Connection reset"):
            await build_source(server.sockets[0].getsockname()[1], context()).run(Intake())
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(RetryableAdapterError, match=r"no answer from the broker within 0\.1 s"):
            await build_source(port, context(), connect_timeout="100ms").run(Intake())


async def _hold(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.3)
    writer.close()


async def test_someone_who_speaks_no_mqtt_is_named() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with server:
        with pytest.raises(RetryableAdapterError, match=r"no MQTT|protocol error"):
            await build_source(server.sockets[0].getsockname()[1], context()).run(Intake())


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_wrong_password_is_final_and_says_why(
    start_broker: Callable[..., Broker], tmp_path: Path, version: str
) -> None:
    broker = start_broker(f"password_file {password_file(tmp_path)}", anonymous=False)
    options = {"username": "agent", "password": "wrong", "version": version}
    with pytest.raises(
        AdapterError, match=r"refuses the connection: (Not authorized|Bad user name or password)"
    ) as caught:
        await build_source(broker.port, context(), **options).run(Intake())
    assert not isinstance(caught.value, RetryableAdapterError)
    assert "wrong" not in str(caught.value)


async def test_right_password_is_let_in(start_broker: Callable[..., Broker], tmp_path: Path) -> None:
    broker = start_broker(f"password_file {password_file(tmp_path)}", anonymous=False)
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, username="agent", password="right"), given, intake):
        await broker.publish("plant/a/b", '{"v": 1}', arguments=["-u", "agent", "-P", "right"])
        assert await intake.values(1) == [1]


def password_file(folder: Path) -> Path:
    path = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(path), "agent", "right"], check=True, capture_output=True)
    return path


async def test_small_packets_do_not_wait_for_one_another(broker: Broker) -> None:
    sock = await open_socket(source_options(broker.port))
    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.gettimeout() == 0


async def test_cancelling_says_goodbye_to_the_broker(start_broker: Callable[..., Broker], tmp_path: Path) -> None:
    broker = start_broker(f"log_dest file {tmp_path}/log", "log_type all")
    given, intake = context(), Intake()
    async with running(build_source(broker.port, given, client_id="agent"), given, intake):
        pass
    await asyncio.to_thread(broker.stop)
    assert "Received DISCONNECT from agent" in (tmp_path / "log").read_text()


async def test_cancelling_leaves_no_socket_and_no_task(broker: Broker) -> None:
    before, tasks = sockets(), len(asyncio.all_tasks())
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    listening = sockets()
    for port, capacity in ((broker.port, 100), (broker.port, 1), (silent.sockets[0].getsockname()[1], 1)):
        given, intake = context(), Intake(capacity)
        task = asyncio.create_task(build_source(port, given).run(intake))
        if port == broker.port:
            await until(lambda given=given: given.state == "connected")
            await broker.publish("plant/a/b", *numbered(3))
            await until(lambda intake=intake: len(intake.channel) == min(3, intake.channel.capacity))
        else:
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: sockets() <= listening + 1)  # the silent server's own end
    silent.close()
    await until(lambda: len(asyncio.all_tasks()) == tasks)
    assert before <= sockets() <= before + 1
