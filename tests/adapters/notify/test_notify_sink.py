"""The notify sink: real Apprise, a real SMTP server, and HTTP servers that take what ntfy and json:// send."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.header import decode_header, make_header
from importlib import resources
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiosmtpd.smtp import SMTP
from pydantic import ValidationError

from edge_adapters.notify import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.templates import plain_text, title
from edge_agent.templates.samples import sample_events
from edge_agent.verdict import Event, EventKind

FULL, BARE, *_ = sample_events([EventKind.INCIDENT])
[STATUS] = sample_events([EventKind.STATUS])


def event(name: str, **body: Any) -> Event:
    return replace(BARE, id=name, body={**BARE.body, "summary": f"summary of {name}", **body})


def context() -> AdapterContext:
    return AdapterContext("shift", VirtualClock(0), random.Random(1), Metrics(), kind="sink")


@contextlib.asynccontextmanager
async def opened(url: str, given: AdapterContext | None = None, **options: Any) -> AsyncIterator[Sink]:
    parsed = SINK.options.model_validate({"type": "notify", "url": url, **options})
    sink = SINK.build(parsed, given or context())
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


@dataclass
class Receiver:
    """Takes every request; ``answers`` are the statuses of the next ones, then 200."""

    answers: list[int] = field(default_factory=list)
    refuse: str = "\0"
    requests: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    silent: bool = False
    port: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        self.requests.append((request.path, dict(request.headers), text))
        if self.silent:
            await asyncio.Event().wait()
        if self.refuse in text:
            return web.Response(status=400, text="I do not like this")
        status = self.answers.pop(0) if self.answers else 200
        headers = {"Location": f"http://127.0.0.1:{self.port}/elsewhere"} if status == 302 else {}
        return web.Response(status=status, headers=headers, text="sorry" * 100_000)


@contextlib.asynccontextmanager
async def receiver(**script: Any) -> AsyncIterator[Receiver]:
    server = Receiver(**script)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()


class Mailbox:
    """Handler of aiosmtpd."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, envelope.content))
        return "250 taken"


@contextlib.asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[Mailbox, int]]:
    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(box), "127.0.0.1", 0)
    async with server:
        yield box, server.sockets[0].getsockname()[1]


async def test_mail_has_title_and_text() -> None:
    async with mail_server() as (box, port):
        url = f"mailto://127.0.0.1:{port}?from=gateway@example.com&to=anna@example.com,ben@example.com"
        async with opened(url) as sink:
            await sink.deliver([FULL])
    assert sorted(rcpt for rcpts, _ in box.mails for rcpt in rcpts) == ["anna@example.com", "ben@example.com"]
    mail = message_from_bytes(box.mails[0][1])
    assert str(make_header(decode_header(mail["Subject"].replace("\n", "")))) == title(FULL)
    text = mail.get_payload(decode=True)
    assert isinstance(text, bytes)
    assert text.decode().split() == plain_text(FULL).split()


async def test_several_mails_are_sent_without_a_pause() -> None:
    async with (
        mail_server() as (box, port),
        opened(f"mailto://127.0.0.1:{port}?from=g@example.com&to=a@example.com") as sink,
    ):
        began = time.monotonic()
        await sink.deliver([event(name) for name in "abcd"])
        assert time.monotonic() - began < 5.5  # what Apprise would wait after the first
    assert len(box.mails) == 4


async def test_templates_make_title_and_body() -> None:
    options = {"title": "{{ severity | upper }}\n{{ agent }}", "body": "*{{ incident.summary }}*", "format": "markdown"}
    async with (
        receiver() as server,
        opened(f"ntfy://127.0.0.1:{server.port}/plant", events=["incident"], **options) as sink,
    ):
        await sink.deliver([event("a")])
    [(path, headers, text)] = server.requests
    assert path == "/"
    assert "LOW gateway-7" in headers.get("X-Title", text)
    assert "*summary of a*" in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [({"severity": "low"}, "info"), ({"severity": "medium"}, "warning"), ({"severity": "critical"}, "failure"),
     ({"severity": "critical", "state": "closed"}, "success")],
)  # fmt: skip
async def test_severity_is_the_colour(body: dict[str, str], kind: str) -> None:
    async with receiver() as server, opened(f"json://127.0.0.1:{server.port}/") as sink:
        await sink.deliver([event("a", **body)])
    assert f'"type": "{kind}"' in server.requests[0][2]


async def test_status_event_is_told() -> None:
    async with receiver() as server, opened(f"json://127.0.0.1:{server.port}/") as sink:
        await sink.deliver([STATUS])
    assert "enough normal data was seen" in server.requests[0][2]


async def test_what_failed_half_way_goes_on_where_it_failed() -> None:
    given, events = context(), [event(name) for name in "abc"]
    async with receiver(answers=[200, 503]) as server:
        async with opened(f"json://127.0.0.1:{server.port}/", given) as sink:
            with pytest.raises(RetryableAdapterError, match=r"json: .*error=503"):
                await sink.deliver(events)
            assert len(server.requests) == 2
        async with opened(f"json://127.0.0.1:{server.port}/", given) as sink:  # as the agent does after a failure
            await sink.deliver(events)
    sent = [next(name for name in "abc" if f"summary of {name}" in text) for _, _, text in server.requests]
    assert sent == ["a", "b", "b", "c"]


async def test_refused_event_does_not_hold_up_the_others() -> None:
    async with receiver(refuse="poison") as server, opened(f"json://127.0.0.1:{server.port}/") as sink:
        with pytest.raises(AdapterError, match=r"event poison: json: .*error=400") as caught:
            await sink.deliver([event("a"), event("poison"), event("c")])
        assert not isinstance(caught.value, RetryableAdapterError)
        sent = len(server.requests)
        for name in "ac":
            await sink.deliver([event(name)])
        assert len(server.requests) == sent == 3


@pytest.mark.parametrize("status", [401, 404, 429, 500])
async def test_service_in_trouble_is_tried_again(status: int) -> None:
    given = context()
    async with receiver(answers=[status]) as server, opened(f"json://127.0.0.1:{server.port}/", given) as sink:
        with pytest.raises(RetryableAdapterError, match=f"error={status}") as caught:
            await sink.deliver([event("a")])
        assert given.state.startswith("disconnected")
        assert len(str(caught.value)) < 400
        await sink.deliver([event("a")])
        assert given.state == "connected"


async def test_redirect_is_not_followed() -> None:
    async with receiver(answers=[302]) as server, opened(f"json://127.0.0.1:{server.port}/") as sink:
        with pytest.raises(RetryableAdapterError, match="error=302"):
            await sink.deliver([event("a")])
    assert [path for path, _, _ in server.requests] == ["/"]


async def test_service_that_never_answers_is_ended_in_time() -> None:
    async with receiver(silent=True) as server, opened(f"json://127.0.0.1:{server.port}/?rto=60", timeout="1s") as sink:
        began = time.monotonic()
        with pytest.raises(RetryableAdapterError, match="json: no answer within 1 s"):
            await sink.deliver([event("a")])
        assert time.monotonic() - began < 15


async def test_mail_server_that_talks_garbage_is_tried_again() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff lalala\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        url = f"mailto://user:hunter2pass@127.0.0.1:{server.sockets[0].getsockname()[1]}?from=gw@example.com&to=anna@example.com"
        async with opened(url) as sink:
            with pytest.raises(RetryableAdapterError, match="mailto: ") as caught:
                await sink.deliver([event("a")])
    assert "hunter2pass" not in str(caught.value)


async def test_nobody_there_and_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    given = context()
    url = "json://someuser:hunter2pass@127.0.0.1:1/secretpath?+X-Token=tokentoken"
    with caplog.at_level(logging.DEBUG):
        async with opened(url, given) as sink:
            assert given.state == "starting"  # nobody has been met
            with pytest.raises(RetryableAdapterError, match=r"json: A Connection error .*127\.0\.0\.1") as caught:
                await sink.deliver([event("a")])
    for secret in ("someuser", "hunter2pass", "secretpath", "tokentoken"):
        assert secret not in str(caught.value) + caplog.text + given.state + repr(sink) + repr(sink.__dict__)


@pytest.mark.parametrize("url", ["nosuchservice://host/secretpath", "slack://secrettoken", "mailto://:::"])
async def test_url_that_apprise_does_not_take_is_final(url: str) -> None:
    with pytest.raises(AdapterError, match="url: not usable for ") as caught:
        async with opened(url):
            pass
    assert not isinstance(caught.value, RetryableAdapterError)
    assert "secret" not in str(caught.value)


async def test_cancelled_delivery_leaves_no_process() -> None:
    async with receiver(silent=True) as server, opened(f"json://127.0.0.1:{server.port}/") as sink:
        delivering = asyncio.create_task(sink.deliver([event("a")]))
        while not server.requests:
            await asyncio.sleep(0.01)
        delivering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await delivering
        children = await asyncio.to_thread(_children)
    assert children == []


def _children() -> list[str]:
    import psutil

    found = (child.cmdline() for child in psutil.Process().children(recursive=True))
    return [" ".join(line) for line in found if any("notify/child.py" in part for part in line)]


async def test_template_that_fails_at_run_time_is_counted_and_replaced() -> None:
    given = context()
    options = {"title": "{{ agent[7] }}"}
    async with receiver() as server, opened(f"json://127.0.0.1:{server.port}/", given, **options) as sink:
        await sink.deliver([event("a", agent="gw")])
    assert title(event("a", agent="gw")) in server.requests[0][2]
    assert given.metrics.template_failures.labels("shift", "title").value == 1


def test_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.notify") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["shift"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "mail.example.com"}, "expected one URL that begins with the service"),
        ({"url": "json://a b"}, "expected one URL"),
        ({"url": "dbus://"}, "expected one URL"),
        ({"url": "dbus://x"}, "dbus:// shows on the screen of this machine"),
        ({"url": "jsons://secrethost/?verify=no"}, "verify=no would trust any server"),
        ({"url": "jsons://secrethost/?a=b&verify=False"}, "verify=no would trust any server"),
        ({"format": "html"}, "format: the built-in body is text; html needs a template `body`"),
        (
            {"body": "{{ incident.summary }}"},
            "body: fails for a status event: line 1: 'None' has no attribute 'summary'",
        ),
        ({"body": "{{ incident.summary }}"}, "put {% if incident %} … {% endif %} around what only incidents have"),
        (
            {"events": ["incident"], "body": "{{ incident.id }}", "digest": {"every": "1h"}},
            "body: fails for a digest event",
        ),
        ({"title": "{{ oops }}"}, "there is no variable 'oops'"),
        ({"timeout": "0s"}, "greater than or equal to 1"),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SINK.options.model_validate({"type": "notify", "url": "json://x/", **options})
    assert message in str(caught.value)
