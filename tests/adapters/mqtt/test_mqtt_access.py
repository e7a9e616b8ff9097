"""The access rules in docs/ota-push.md, in a real mosquitto: each gateway writes its own status, and no nudges."""

from __future__ import annotations

import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mqtt_rig import Broker, context, until
from test_mqtt_uplink import running

from edge_adapters.mqtt import UPLINK
from edge_agent.contract import Fleet, Hint
from edge_agent.errors import AdapterError
from edge_agent.testing import CollectingPort

PAGE = Path(__file__).parents[3] / "docs" / "ota-push.md"
USERS = ("gateway-7", "gateway-8", "publisher")

pytestmark = pytest.mark.counterpart


@pytest.fixture
def guarded(tmp_path: Path, start_broker: Callable[..., Broker]) -> Broker:
    [rules] = re.findall(r"```acl\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    acl, passwords = tmp_path / "acl", tmp_path / "passwords"
    acl.write_text(rules)
    passwords.touch(mode=0o600)
    for user in USERS:
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, user], check=True, timeout=10)
    return start_broker(f"acl_file {acl}", f"password_file {passwords}", anonymous=False)


def login(user: str) -> dict[str, str]:
    return {"username": user, "password": user, "version": "5"}


def fleet(broker: Broker, user: str) -> Fleet:
    given: dict[str, Any] = {"type": "mqtt", "host": "127.0.0.1", "port": broker.port} | login(user)
    assert UPLINK.fleet is not None
    return UPLINK.fleet(UPLINK.options.model_validate(given))


@pytest.fixture
async def port(guarded: Broker) -> AsyncIterator[CollectingPort]:
    """Of gateway-7, which runs."""
    given = CollectingPort()
    async with running(guarded, given, context(kind="uplink"), **login("gateway-7")):
        yield given


async def test_publisher_and_gateway_hear_each_other(guarded: Broker, port: CollectingPort) -> None:
    await fleet(guarded, "publisher").nudge("plant-4", "canary", Hint(7))
    await until(lambda: port.hints)
    port.tell(b"report")
    found: list[bytes] = []
    while not found:
        found = await fleet(guarded, "publisher").reports("plant-4")
    assert (port.hints, found) == ([Hint(7)], [b"report"])


async def test_gateway_cannot_nudge_the_others(guarded: Broker, port: CollectingPort) -> None:
    with pytest.raises(AdapterError, match="Not authorized"):
        await fleet(guarded, "gateway-8").nudge("plant-4", "canary", Hint(9))
    await fleet(guarded, "publisher").nudge("plant-4", "canary", Hint(7))
    await until(lambda: port.hints)
    assert port.hints == [Hint(7)]


async def test_gateway_cannot_write_the_status_of_another_one(guarded: Broker) -> None:
    forger = CollectingPort(gateway="gateway-7")
    async with running(guarded, forger, context(kind="uplink"), **login("gateway-8")) as task:
        forger.tell(b"all is well")
        with pytest.raises(AdapterError, match="Not authorized"):
            await task
    assert await fleet(guarded, "publisher").reports("plant-4") == []
