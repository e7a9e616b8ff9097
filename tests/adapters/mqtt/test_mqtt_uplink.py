"""The MQTT uplink and the publisher's end against a real mosquitto."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import paho.mqtt.client as paho
import pytest
from mqtt_rig import Broker, context, free_port, until

from edge_adapters.mqtt import UPLINK
from edge_adapters.mqtt import fleet as fleet_end
from edge_adapters.mqtt.wire import Message
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Fleet, Hint, UplinkPort
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.ota.uplinks import Switchboard, UplinkRunner
from edge_agent.testing import CollectingPort

NUDGE = "edge-agent/v1/plant-4/canary/nudge"
STATUS = "edge-agent/v1/plant-4/gateway-7/ota/status"

pytestmark = pytest.mark.counterpart


def options(broker: Broker, **changes: Any) -> Any:
    given = {"type": "mqtt", "host": "127.0.0.1", "port": broker.port} | changes
    return UPLINK.options.model_validate(given)


def fleet(broker: Broker, **changes: Any) -> Fleet:
    assert UPLINK.fleet is not None
    return UPLINK.fleet(options(broker, **changes))


@asynccontextmanager
async def running(
    broker: Broker, port: UplinkPort, given: AdapterContext, **changes: Any
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(UPLINK.build(options(broker, **changes), given).run(port))
    try:
        await until(lambda: given.state == "connected" or task.done())
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def uplink_context() -> AdapterContext:
    return context(kind="uplink")


def rejected(given: AdapterContext, reason: str) -> float:
    return given.metrics.uplink_rejected.labels("test", reason).value


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_publisher_reaches_gateways_now_and_later(broker: Broker, version: str) -> None:
    port, later = CollectingPort(), CollectingPort(gateway="gateway-8")
    async with running(broker, port, uplink_context(), version=version):
        await fleet(broker, version=version).nudge("plant-4", "canary", Hint(7, 20.0))
        await until(lambda: port.hints)
    async with running(broker, later, uplink_context(), version=version):
        await until(lambda: later.hints)
    assert port.hints == later.hints == [Hint(7, 20.0)]


async def test_other_rings_and_fleets_are_not_heard(broker: Broker) -> None:
    port = CollectingPort()
    async with running(broker, port, uplink_context()):
        for where, ring in (("plant-4", "stable"), ("plant-5", "canary"), ("plant-4", "canary")):
            await fleet(broker).nudge(where, ring, Hint(len(ring)))
        await until(lambda: port.hints)
    assert port.hints == [Hint(6)]


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_nudge_while_away_is_heard_once_back(broker: Broker, version: str) -> None:
    port = CollectingPort()
    async with running(broker, port, uplink_context(), version=version):
        pass
    await broker.publish(NUDGE, '{"counter": 3}')  # not retained: only the session has it
    async with running(broker, port, uplink_context(), version=version):
        await until(lambda: port.hints)
    assert port.hints == [Hint(3)]


async def test_reports_of_a_fleet_are_collected(broker: Broker) -> None:
    seen: list[str] = []
    client = publisher(broker)
    client.on_message = lambda client, userdata, message: seen.append(message.topic)
    client.subscribe("edge-agent/v1/plant-4/+/ota/status", qos=1)
    for number in range(20):
        port = CollectingPort(gateway=f"gateway-{number}")
        async with running(broker, port, uplink_context()):
            for report in b"old", b'{"gateway": %d}' % number:
                port.tell(report)
                await until(lambda: seen)
                seen.clear()
    await stop(client)
    await broker.publish("edge-agent/v1/plant-4/gateway-3/ota/status", "", arguments=["-r"])
    await broker.publish("edge-agent/v1/plant-4/gateway-4/ota/status", b"x" * 20_000, arguments=["-r"])
    await broker.publish("edge-agent/v1/plant-5/gateway-5/ota/status", b"other fleet", arguments=["-r"])
    found = await fleet(broker).reports("plant-4")
    assert sorted(found) == sorted(b'{"gateway": %d}' % number for number in range(20) if number not in (3, 4))


async def test_no_reports_are_an_empty_list(broker: Broker) -> None:
    assert await fleet(broker).reports("plant-4") == []


@pytest.mark.parametrize(("limit", "most"), [("MAX_GATEWAYS", 3), ("MAX_TOTAL_BYTES", 7)])
async def test_too_many_gateways_are_an_error(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    for number in range(4):
        await broker.publish(f"edge-agent/v1/plant-4/g{number}/ota/status", "{}", arguments=["-r"])
    assert len(await fleet(broker).reports("plant-4")) == 4
    monkeypatch.setattr(fleet_end, limit, most)
    with pytest.raises(AdapterError, match=r"got reports of more than .*; check who may write them"):
        await fleet(broker).reports("plant-4")


async def test_fleet_that_is_never_silent_is_read_all_the_same(broker: Broker) -> None:
    """Or during a rollout, when gateways have the most to tell, nobody could decide."""
    await broker.publish("edge-agent/v1/plant-4/quiet/ota/status", b'{"gateway": "quiet"}', arguments=["-r"])
    client = publisher(broker)
    chatter = asyncio.create_task(chat(client))
    try:
        async with asyncio.timeout(5):
            found = await fleet(broker).reports("plant-4")
    finally:
        chatter.cancel()
        await stop(client)
    assert sorted(found) == [b'{"gateway": "quiet"}', b"{}"]


async def test_broker_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_end, "LONGEST_S", 0.0)
    found, kept = fleet_end._Found(5.0), Message(STATUS.encode(), b"{}", 1, 1, True, 2)

    async def listen() -> None:
        async with found.quiet:
            found.take(kept)
            await asyncio.sleep(5)

    with pytest.raises(TimeoutError):
        await listen()
    found.take(kept)  # one more, before the connection is closed
    with pytest.raises(RetryableAdapterError, match="reports still come after"):
        found.all("a broker")


async def test_gateway_cannot_speak_for_another(broker: Broker) -> None:
    for topic, gateway in (("g1", "g1"), ("g2", "g1")):
        text = json.dumps({"gateway": gateway})
        await broker.publish(f"edge-agent/v1/plant-4/{topic}/ota/status", text, arguments=["-r"])
    assert await fleet(broker).reports("plant-4") == [b'{"gateway": "g1"}']


async def chat(client: paho.Client) -> None:
    while True:
        client.publish(STATUS, b"{}", qos=0)
        await asyncio.sleep(0.02)


async def test_publisher_without_a_broker_is_told_so() -> None:
    assert UPLINK.fleet is not None
    given = UPLINK.options.model_validate({"type": "mqtt", "host": "127.0.0.1", "port": free_port()})
    with pytest.raises(RetryableAdapterError, match="cannot reach the broker"):
        await UPLINK.fleet(given).nudge("plant-4", "canary", Hint(1))
    with pytest.raises(RetryableAdapterError, match="cannot reach the broker"):
        await UPLINK.fleet(given).reports("plant-4")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{{{", "malformed"),
        (b'{"counter": -1}', "malformed"),
        (b"x" * 1_025, "too_long"),
        (b"x" * 200_000, "too_long"),
    ],
    ids=["no JSON", "below zero", "a little too long", "much too long"],
)
async def test_hostile_nudge_is_counted_and_the_next_one_heard(broker: Broker, payload: bytes, reason: str) -> None:
    port, given = CollectingPort(), uplink_context()
    async with running(broker, port, given) as task:
        await broker.publish(NUDGE, payload)
        await until(lambda: rejected(given, reason))
        await broker.publish(NUDGE, "{}")
        await until(lambda: port.hints)
        assert not task.done()
    assert port.hints == [Hint()]


async def test_withdrawn_nudge_is_no_hint(broker: Broker) -> None:
    port, given = CollectingPort(), uplink_context()
    async with running(broker, port, given):
        await broker.publish(NUDGE, "", arguments=["-r"])
        await broker.publish(NUDGE, "{}")
        await until(lambda: port.hints)
    assert port.hints == [Hint()]
    assert not list(given.metrics.uplink_rejected.series())


async def test_subscription_of_an_earlier_ring_is_counted(broker: Broker) -> None:
    given = uplink_context()
    async with running(broker, CollectingPort(ring="early"), given):
        pass
    async with running(broker, CollectingPort(), given):
        await broker.publish("edge-agent/v1/plant-4/early/nudge", "{}")
        await until(lambda: rejected(given, "topic"))


async def test_lost_broker_is_an_error_that_a_retry_mends(broker: Broker) -> None:
    async with running(broker, CollectingPort(), uplink_context()) as task:
        broker.kill()
        with pytest.raises(RetryableAdapterError, match=r"the broker closed the connection|connection lost"):
            await task


async def test_wrong_password_is_an_error_that_says_so(start_broker: Callable[..., Broker]) -> None:
    broker = start_broker(anonymous=False)
    async with running(broker, CollectingPort(), uplink_context(), username="a", password="secret-b") as task:
        with pytest.raises(AdapterError, match=r"Not authorized|Bad user name") as caught:
            await task
    assert "secret-b" not in str(caught.value)


class Gateway:
    """The uplink as the daemon runs it, with counted looks behind it."""

    def __init__(self, broker: Broker) -> None:
        self.metrics = Metrics()
        self.context = AdapterContext("test", SystemClock(), random.Random(5), self.metrics, kind="uplink")
        self.hints = 0
        self.switchboard = Switchboard("plant-4", "canary", "gateway-7", self.look)
        given = options(broker, retry_max="200ms")
        build = lambda: UPLINK.build(given, self.context)  # noqa: E731
        self.runner = UplinkRunner("test", build, given, self.context, self.metrics, self.switchboard)

    def look(self, hint: Hint) -> None:
        self.hints += 1


async def test_broker_that_comes_back_hears_the_latest_report_and_is_heard(broker: Broker) -> None:
    gateway = Gateway(broker)
    task = asyncio.create_task(gateway.runner.run())
    gateway.switchboard.tell(b'{"serial": 1}')
    await until(lambda: gateway.context.state == "connected")
    broker.kill()
    await until(lambda: gateway.metrics.uplink_up.labels("test").value == 0)
    gateway.switchboard.tell(b'{"serial": 2}')
    gateway.switchboard.tell(b'{"serial": 3}')
    broker.start()
    await until(lambda: gateway.context.state == "connected")
    await fleet(broker).nudge("plant-4", "canary", Hint(1))
    await until(lambda: gateway.hints)
    assert await fleet(broker).reports("plant-4") == [b'{"serial": 3}']
    assert gateway.metrics.uplink_restarts.labels("test").value >= 1
    assert gateway.metrics.uplink_hints.labels("test").value == gateway.hints
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.slow
@pytest.mark.parametrize("qos", [0, 1])
async def test_flood_of_nudges_costs_little_and_a_report_gets_out(broker: Broker, qos: int) -> None:
    """Time of the processor counts, because how punctual a tick is depends on who else is at work."""
    nudges = 100_000 if os.environ.get("EDGE_AGENT_LONG_TESTS") else 20_000
    gateway = Gateway(broker)
    task = asyncio.create_task(gateway.runner.run())
    await until(lambda: gateway.context.state == "connected")
    reports: list[bytes] = []
    client = publisher(broker)
    client.on_message = lambda client, userdata, message: reports.append(message.payload)
    client.subscribe(STATUS, qos=1)
    before = os.times()
    flooding = asyncio.create_task(flood(broker, nudges, qos))
    await until(lambda: gateway.hints > 1_000)
    gateway.switchboard.tell(b'{"serial": 1}')
    await until(lambda: reports, 10)
    await flooding
    # Of QoS 0 the broker drops what the uplink does not take in time.
    await until(lambda: gateway.hints >= (nudges if qos else nudges // 10), 60)
    used = os.times()
    await stop(client)
    task.cancel()
    await asyncio.wait([task])
    took_s, processor_s = used.elapsed - before.elapsed, used.user + used.system - before.user - before.system
    print(f"{gateway.hints} hints in {took_s:.1f} s, {processor_s:.2f} s of the processor")
    assert reports == [b'{"serial": 1}']
    assert gateway.hints / took_s < 6_000
    assert processor_s < 0.5 + nudges / 40_000


def publisher(broker: Broker) -> paho.Client:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)  # type: ignore[attr-defined]
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    return client


async def stop(client: paho.Client) -> None:
    client.disconnect()
    await asyncio.to_thread(client.loop_stop)


async def flood(broker: Broker, count: int, qos: int) -> None:
    """By Debian's client, in processes of their own, so that only the uplink's work is seen here.

    Each sends 50,000 at most: its packet identifiers have 16 bits, and it forgets what is beyond.
    """
    for sent in range(0, count, 50_000):
        process = await asyncio.create_subprocess_exec(
            *("mosquitto_pub", "-p", str(broker.port), "-t", NUDGE, "-q", str(qos), "-l"), stdin=asyncio.subprocess.PIPE
        )
        await process.communicate(b'{"counter": 7, "spread_s": 20}\n' * min(count - sent, 50_000))
        assert process.returncode == 0
