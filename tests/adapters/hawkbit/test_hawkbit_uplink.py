from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from ddi_server import DdiServer, ddi_server, until
from pydantic import ValidationError

from edge_adapters.hawkbit import UPLINK
from edge_agent.clock import SystemClock
from edge_agent.contract import AdapterContext, Hint
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.options import Secret
from edge_agent.testing import CollectingPort, sample_report


class Rig:
    """One server, one uplink."""

    def __init__(self, server: DdiServer) -> None:
        self.server = server
        self.port = CollectingPort()
        self.context = AdapterContext("hawkbit", SystemClock(), random.Random(1), Metrics(), kind="uplink")

    @asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        given = {"type": "hawkbit", "url": self.server.url} | options
        uplink = UPLINK.build(UPLINK.options.model_validate(given), self.context)
        task = asyncio.create_task(uplink.run(self.port))
        try:
            await until(lambda: self.server.polls or task.done())
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    def rejected(self, reason: str) -> float:
        return self.context.metrics.uplink_rejected.labels("hawkbit", reason).value


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with ddi_server() as server:
        yield Rig(server)


async def test_deployment_makes_the_gateway_look_and_its_end_closes_the_action(rig: Rig) -> None:
    rig.server.deployment = ("8", "release-1")
    async with rig.running():
        await until(lambda: rig.port.hints)
        for number, phase in enumerate(("downloading", "staged", "trial", "idle")):
            rig.port.tell(sample_report(number, phase))
            await until(lambda number=number: len(rig.server.feedback) == number + 2)
    assert rig.port.hints == [Hint()]
    assert rig.server.said("deploymentBase/8") == [
        ("proceeding", "none"),
        ("download", "none"),
        ("downloaded", "none"),
        ("proceeding", "none"),
        ("closed", "success"),
    ]


async def test_nothing_is_ever_downloaded_and_no_foreign_link_followed(rig: Rig) -> None:
    rig.server.deployment = ("8", "release-1")
    rig.server.elsewhere = "http://192.0.2.1"
    async with rig.running():
        await until(lambda: rig.port.hints)
        rig.port.tell(sample_report(1, "idle"))
        await until(lambda: rig.server.said("deploymentBase/8")[-1:] == [("closed", "success")])
    base = "/DEFAULT/controller/v1/gateway-7"
    feedback = f"{base}/deploymentBase/8/feedback"
    assert set(rig.server.asked) == {base, f"{base}/deploymentBase/8", feedback}


async def test_same_state_is_told_once(rig: Rig) -> None:
    rig.server.deployment = ("8", "release-1")
    async with rig.running():
        for serial in range(5):
            rig.port.tell(sample_report(serial, "trial"))
            await asyncio.sleep(0)
        await until(lambda: len(rig.server.feedback) == 2)
        rig.port.tell(sample_report(9, "idle"))
        await until(lambda: len(rig.server.feedback) == 3)
    assert [execution for execution, _ in rig.server.said("deploymentBase/8")] == ["proceeding", "proceeding", "closed"]


async def test_what_was_told_is_known_after_a_failure(rig: Rig) -> None:
    rig.server.deployment = ("8", "release-1")
    for lives in (1, 2):
        async with rig.running():
            rig.port.tell(sample_report(1, "trial"))
            await until(lambda lives=lives: len(rig.server.feedback) == 2 and len(rig.port.hints) == lives)
    assert len(rig.server.feedback) == 2


@pytest.mark.parametrize(
    ("phase", "answer"), [("trial", ("rejected", "none")), ("idle", ("closed", "success"))], ids=["worked on", "idle"]
)
async def test_cancellation_is_answered_by_what_is_true(rig: Rig, phase: str, answer: tuple[str, str]) -> None:
    rig.server.cancel = "8"
    async with rig.running():
        assert rig.server.feedback == []  # not before it is known what is worked on
        rig.port.tell(sample_report(1, phase))
        await until(lambda: rig.server.feedback)
    assert rig.server.said("cancelAction/8") == [answer]


async def test_attributes_are_sent_when_asked_for(rig: Rig) -> None:
    rig.server.wants_attributes = True
    async with rig.running():
        rig.port.tell(sample_report(1))
        await until(lambda: rig.server.attributes)
    data = {"agent_version": "1.0.0", "fleet": "plant-4", "ring": "canary", "hardware": "rpi4", "model": ""}
    assert rig.server.attributes == [{"mode": "merge", "data": data}]


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"target_token": "t0ken"}, "TargetToken t0ken"),
        ({"gateway_token": "t0ken"}, "GatewayToken t0ken"),
        ({}, ""),
    ],
)
async def test_token_is_sent_with_everything(rig: Rig, options: dict[str, str], header: str) -> None:
    rig.server.deployment = ("8", "release-1")
    async with rig.running(**options):
        await until(lambda: rig.server.feedback)
    assert rig.server.tokens == {header}


@pytest.mark.parametrize(
    "broken",
    [b"", b"[" * 100_000, b"{}[]", b'{"_links": 5}', b'{"_links": {"deploymentBase": {"href": "x"}}}', b"\xff\xfe"],
    ids=lambda broken: repr(broken[:30]),
)
async def test_answer_that_cannot_be_understood_is_counted(rig: Rig, broken: bytes) -> None:
    rig.server.broken = broken
    async with rig.running() as task:
        await until(lambda: rig.rejected("malformed"))
        assert not task.done()
    assert rig.port.hints == []


async def test_endless_answer_is_not_read(rig: Rig) -> None:
    rig.server.broken = b'{"a": "' + b"x" * 400_000
    async with rig.running() as task:
        with pytest.raises(RetryableAdapterError, match="more than 262144 bytes"):
            await task


async def test_answer_without_a_deployment_in_it_is_counted(rig: Rig) -> None:
    rig.server.deployment = ("8", "")
    async with rig.running():
        await until(lambda: rig.rejected("malformed"))
    assert rig.port.hints == []


@pytest.mark.parametrize(
    ("status", "kind"), [(401, RetryableAdapterError), (503, RetryableAdapterError), (400, AdapterError)]
)
async def test_refusal_does_not_show_the_token(rig: Rig, status: int, kind: type[AdapterError]) -> None:
    rig.server.status = status
    async with rig.running(target_token="very-secret-token") as task:
        with pytest.raises(kind, match=f"HTTP {status}") as caught:
            await task
    assert "very-secret-token" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_token": "a", "gateway_token": "b"}, "gateway_token: given beside `target_token`"),
        ({"target_token": "a\nb"}, "expected letters, digits and signs"),
        ({"url": "ftp://x"}, "expected a URL such as"),
        ({"url": "https://u:p@x"}, "user and password do not belong in the URL"),
        ({"url": "https://x/?a=1"}, "without a query"),
        ({"tenant": "../x"}, "tenant"),
        ({"poll_every": "1s"}, "poll_every"),
    ],
    ids=str,
)
def test_options_are_checked(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UPLINK.options.model_validate({"type": "hawkbit", "url": "https://x"} | options)


def test_controller_is_quoted() -> None:
    options = UPLINK.options.model_validate({"type": "hawkbit", "url": "https://x/", "controller": "a/../b c"})
    assert options.base("g") == "https://x/DEFAULT/controller/v1/a%2F..%2Fb%20c"
    assert Secret("x") == Secret("x")
