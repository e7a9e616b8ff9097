"""The Alertmanager sink against the Alertmanager of Debian, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from alertmanager_rig import Alertmanager, free_port
from pydantic import ValidationError

from edge_adapters.alertmanager import SINK
from edge_agent.clock import NS_PER_S, SystemClock, VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.verdict import Event, EventKind, rfc3339


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Alertmanager]]:
    running: list[Alertmanager] = []

    def run(*arguments: str) -> Alertmanager:
        running.append(Alertmanager(tmp_path, *arguments))
        return running[-1].start()

    yield run
    for server in running:
        server.stop()


@pytest.fixture
def alertmanager(start: Callable[..., Alertmanager]) -> Alertmanager:
    return start()


def context(**changes: Any) -> AdapterContext:
    made = AdapterContext("alerts", changes.pop("clock", SystemClock()), random.Random(1), Metrics(), kind="sink")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def build(urls: str | list[str], given: AdapterContext | None = None, **options: Any) -> Sink:
    urls = [urls] if isinstance(urls, str) else urls
    parsed = SINK.options.model_validate({"type": "alertmanager", "urls": urls, **options})
    return SINK.build(parsed, given or context())


@contextlib.asynccontextmanager
async def opened(urls: str | list[str], given: AdapterContext | None = None, **options: Any) -> AsyncIterator[Sink]:
    sink = build(urls, given, **options)
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def incident(
    name: str = "01A",
    state: str = "open",
    severity: str = "high",
    *,
    at_s: float = 0.0,
    late: bool = False,
    **more: Any,
) -> Event:
    """An incident that opened a minute ago; its event is ``at_s`` seconds after that."""
    opened_ns = time.time_ns() - 60 * 10**9
    time_ns = opened_ns + round(at_s * 1e9)
    body = {
        "id": name,
        "kind": "process",
        "state": state,
        "severity": severity,
        "opened": rfc3339(opened_ns),
        "updated": rfc3339(time_ns),
        "closed": rfc3339(time_ns) if state == "closed" else None,
        "summary": f"{name} is off",
        "areas": ["tanks"],
        "sensors": [],
        "agent": "gateway-7",
        **more,
    }
    return Event(f"{name}-{state}-{at_s}", EventKind.INCIDENT, time_ns, body, replayed=late)


async def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


# -- the real one


@pytest.mark.counterpart
async def test_incident_fires_and_resolves(alertmanager: Alertmanager) -> None:
    options = {
        "labels": {"site": "vienna"},
        "link": "https://grafana.example.com/d/1?var-gateway={{ agent | urlencode }}",
        "annotations": {"runbook_url": "https://wiki.example.com/{{ kind }}"},
        "severities": {"high": "page"},
    }
    async with opened(alertmanager.url, **options) as sink:
        event = incident()
        await sink.deliver([event])
        [alert] = await asyncio.to_thread(alertmanager.amtool, "alertname=EdgeAgentIncident", "site=vienna")
        assert alert["labels"] == {
            "alertname": "EdgeAgentIncident",
            "area": "tanks",
            "gateway": "gateway-7",
            "incident": "01A",
            "kind": "process",
            "severity": "page",
            "site": "vienna",
        }
        assert alert["annotations"]["summary"] == "[HIGH] gateway-7: incident opened: 01A is off"
        assert alert["annotations"]["description"].startswith("01A is off\n\nIncident 01A on gateway-7: high, process")
        assert alert["annotations"]["runbook_url"] == "https://wiki.example.com/incident"
        assert alert["annotations"]["link"] == "https://grafana.example.com/d/1?var-gateway=gateway-7"
        assert alert["generatorURL"] == alert["annotations"]["link"]
        assert alert["startsAt"] == event.body["opened"]
        await sink.deliver([incident(state="closed", at_s=30)])
    assert await asyncio.to_thread(alertmanager.alerts) == []


@pytest.mark.counterpart
async def test_change_of_severity_leaves_one_alert(alertmanager: Alertmanager) -> None:
    async with opened(alertmanager.url) as sink:
        await sink.deliver([incident(severity="low")])
        await sink.deliver([incident(state="updated", severity="critical", at_s=5)])
        alerts = await asyncio.to_thread(alertmanager.alerts)
        assert [alert["labels"]["severity"] for alert in alerts] == ["critical"]
        await sink.deliver([incident(state="closed", severity="critical", at_s=9)])
    assert await asyncio.to_thread(alertmanager.alerts) == []


@pytest.mark.counterpart
async def test_open_incident_outlives_the_resolve_timeout_and_no_longer(start: Callable[..., Alertmanager]) -> None:
    server = start("1s")
    async with opened(server.url, repeat="100ms") as sink:
        await sink.deliver([incident()])
        [first] = await asyncio.to_thread(server.alerts)

        def later() -> bool:
            [alert] = server.alerts()  # it never goes meanwhile
            return bool(alert["updatedAt"] > first["endsAt"])

        await until(later)
    await until(lambda: server.alerts() == [])


@pytest.mark.counterpart
async def test_restarted_alertmanager_hears_of_open_incidents_again(alertmanager: Alertmanager) -> None:
    given = context()
    async with opened(alertmanager.url, given, repeat="50ms") as sink:
        await sink.deliver([incident()])
        alertmanager.stop()
        await until(lambda: given.state.startswith("disconnected"))
        alertmanager.start()
        await until(lambda: len(alertmanager.alerts()) == 1)
        await until(lambda: given.state == "connected")


@pytest.mark.counterpart
async def test_sink_built_anew_goes_on_repeating(alertmanager: Alertmanager) -> None:
    given = context()
    async with opened(alertmanager.url, given) as sink:
        await sink.deliver([incident()])
    alertmanager.stop()
    alertmanager.start()
    async with opened(alertmanager.url, given, repeat="50ms"):
        await until(lambda: len(alertmanager.alerts()) == 1)


@pytest.mark.counterpart
async def test_incident_of_before_a_restart_is_repeated_until_it_closes(alertmanager: Alertmanager) -> None:
    given = context()
    given.open_incidents = lambda: [incident()]
    async with opened(alertmanager.url, given, repeat="50ms") as sink:
        await until(lambda: len(alertmanager.alerts()) == 1)
        await sink.deliver([incident(state="closed", at_s=30)])
        await asyncio.sleep(0.15)  # what the agent says of it is behind
        assert await asyncio.to_thread(alertmanager.alerts) == []


@pytest.mark.counterpart
async def test_replayed_event_does_not_reopen_what_is_closed(alertmanager: Alertmanager) -> None:
    async with opened(alertmanager.url) as sink:
        await sink.deliver([incident(state="closed", at_s=30)])
        await sink.deliver([incident(at_s=0, late=True), incident(state="updated", at_s=10, late=True)])
        assert await asyncio.to_thread(alertmanager.alerts) == []
        await sink.deliver([incident("01B", late=True)])
    [alert] = await asyncio.to_thread(alertmanager.alerts)
    assert alert["labels"]["incident"] == "01B"


@pytest.mark.counterpart
@pytest.mark.parametrize("ahead_s", [3600, -10 * 365 * 86400])
async def test_wrong_clock_of_the_gateway_neither_hides_nor_keeps_an_alert(
    alertmanager: Alertmanager, ahead_s: float
) -> None:
    wall_ns = time.time_ns() + round(ahead_s * 1e9)
    opened_text = rfc3339(wall_ns)
    async with opened(alertmanager.url, context(clock=VirtualClock(wall_ns))) as sink:
        event = incident(opened=opened_text, updated=opened_text)
        await sink.deliver([event])
        assert len(await asyncio.to_thread(alertmanager.alerts)) == 1
        body = {"opened": opened_text, "updated": opened_text, "closed": rfc3339(wall_ns + 10**9)}
        await sink.deliver([incident(state="closed", **body)])
        await until(lambda: alertmanager.alerts() == [], 3)


@pytest.mark.counterpart
async def test_alert_after_a_quiet_time_has_its_own_times(alertmanager: Alertmanager) -> None:
    clock = VirtualClock(time.time_ns())
    async with opened(alertmanager.url, context(clock=clock), repeat="1h") as sink:
        clock.advance(60 * NS_PER_S)  # the last answer is a minute old
        said = rfc3339(clock.wall_ns())
        await sink.deliver([incident(opened=said, updated=said)])
    [alert] = await asyncio.to_thread(alertmanager.alerts)
    assert alert["startsAt"] == said


@pytest.mark.counterpart
async def test_refused_alert_is_told_in_the_words_of_alertmanager(alertmanager: Alertmanager) -> None:
    async with opened(alertmanager.url) as sink:
        with pytest.raises(AdapterError, match=r"127\.0\.0\.1:\d+: HTTP 400 .*cannot parse") as caught:
            await sink.deliver([incident(), incident("01B", opened="yesterday", updated="yesterday")])
        assert not isinstance(caught.value, RetryableAdapterError)
        await sink.deliver([incident()])  # the others go on, one by one
    assert len(await asyncio.to_thread(alertmanager.alerts)) == 1


@pytest.mark.counterpart
async def test_status_event_is_an_alert_that_is_not_repeated(alertmanager: Alertmanager) -> None:
    body = {"what": "degraded", "message": "the model failed", "agent": "gateway-7"}
    status = Event("s", EventKind.STATUS, time.time_ns(), body)
    async with opened(alertmanager.url, events=["incident", "status"], repeat="20ms") as sink:
        await sink.deliver([status])
        [alert] = await asyncio.to_thread(alertmanager.amtool, "alertname=EdgeAgentStatus", "what=degraded")
        assert alert["annotations"]["summary"] == "gateway-7: the model failed"
        await asyncio.sleep(0.1)
        [again] = await asyncio.to_thread(alertmanager.alerts)
        assert again["updatedAt"] == alert["updatedAt"]


@pytest.mark.counterpart
async def test_every_member_of_a_cluster_gets_every_alert_and_one_is_enough(
    start: Callable[..., Alertmanager], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = start(), start()
    given = context()
    async with opened([first.url, second.url], given, repeat="50ms") as sink:
        await sink.deliver([incident("01A")])
        assert [len(server.alerts()) for server in (first, second)] == [1, 1]
        second.stop()
        with caplog.at_level(logging.WARNING):
            await sink.deliver([incident("01B")])
        assert "1 of 2 Alertmanagers do not take alerts" in caplog.text
        assert given.state == "connected"
        second.start()
        await until(lambda: len(second.alerts()) == 2)


@pytest.mark.counterpart
async def test_all_means_all(start: Callable[..., Alertmanager]) -> None:
    first, second = start(), start()
    async with opened([first.url, second.url], require="all") as sink:
        second.stop()
        with pytest.raises(RetryableAdapterError, match=f"127.0.0.1:{second.port}: "):
            await sink.deliver([incident()])
        second.start()
        await sink.deliver([incident()])
        assert len(await asyncio.to_thread(second.alerts)) == 1


@pytest.mark.counterpart
async def test_path_prefix_of_alertmanager(tmp_path: Path) -> None:
    server = Alertmanager(tmp_path, "5m", "--web.route-prefix=/am")
    server._get = lambda path, get=server._get: get("/am" + path)  # type: ignore[method-assign,misc]
    try:
        await asyncio.to_thread(server.start)
        async with opened(f"{server.url}/am/") as sink:
            await sink.deliver([incident()])
        assert len(await asyncio.to_thread(server.alerts)) == 1
        with pytest.raises(AdapterError, match="HTTP 404"):
            async with opened(server.url):
                pass
    finally:
        server.stop()


# -- servers that misbehave


@contextlib.asynccontextmanager
async def pretender(handle: Callable[[web.Request], Any]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/api/v2/status", _ok)
    application.router.add_post("/api/v2/alerts", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _ok(request: web.Request) -> web.Response:
    return web.Response()


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, RetryableAdapterError), (429, RetryableAdapterError), (401, RetryableAdapterError), (422, AdapterError)],
)  # fmt: skip
async def test_answer_decides_whether_to_try_again(status: int, kind: type[AdapterError]) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, text="no thanks" * 100_000)

    async with pretender(handle) as url, opened(url) as sink:
        with pytest.raises(AdapterError, match=f"HTTP {status} .*no thanks") as caught:
            await sink.deliver([incident()])
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 500


async def test_server_that_never_answers_is_given_up_in_time() -> None:
    async def handle(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with pretender(handle) as url, opened(url, timeout="100ms") as sink:
        with pytest.raises(RetryableAdapterError, match=r"no answer within 0\.1 s"):
            await sink.deliver([incident()])


async def test_garbage_instead_of_http_is_tried_again() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff lalala\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server:
        with pytest.raises(RetryableAdapterError, match=r"127\.0\.0\.1:\d+: "):
            async with opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"):
                pass


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"bearer_token": "t0ken"}, "Bearer t0ken"),
        ({"username": "ä", "password": "p:w"}, "Basic w6Q6cDp3"),
    ],
)
async def test_credentials_are_sent(options: dict[str, str], header: str) -> None:
    seen: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    async with pretender(handle) as url, opened(url, **options) as sink:
        await sink.deliver([incident()])
    assert seen == [header]


async def test_nothing_is_sent_for_no_events() -> None:
    async def handle(request: web.Request) -> web.Response:
        raise AssertionError

    async with pretender(handle) as url, opened(url) as sink:
        await sink.deliver([])


async def test_template_that_fails_at_run_time_leaves_the_built_in_text() -> None:
    sent: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        sent.extend(await request.json())
        return web.Response()

    given = context()
    options = {"summary": "{{ 1 / (incident.score - 7) }}", "link": "{% if incident.score == 7 %}/{% endif %}http://x/"}
    async with pretender(handle) as url, opened(url, given, **options) as sink:
        await sink.deliver([incident(score=7)])
    assert sent[0]["annotations"]["summary"] == "[HIGH] gateway-7: incident opened: 01A is off"
    assert "generatorURL" not in sent[0]
    assert given.metrics.template_failures.labels("alerts", "summary").value == 1


async def test_nobody_there() -> None:
    with pytest.raises(RetryableAdapterError, match="cannot connect: Connection refused"):
        async with opened(f"http://127.0.0.1:{free_port()}"):
            pass


def test_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.alertmanager") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["alerts"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"urls": []}, "at least 1 item"),
        ({"urls": ["am:9093"]}, "expected a URL such as http://alertmanager:9093"),
        ({"urls": ["http://am:9093/api/v2/alerts"]}, "leave out what follows the address of Alertmanager"),
        ({"urls": ["http://am:9093", "http://am:9093/"]}, "the same Alertmanager is named twice"),
        ({"urls": ["http://u:p@am:9093"]}, "user and password do not belong in the URL; use `username`"),
        ({"events": ["scores"]}, "got scores, expected incident or status"),
        ({"labels": {"a-b": "c"}}, "got the name 'a-b', expected letters, digits and underscores"),
        ({"labels": {"severity": "c"}}, "severity: is set by the sink itself"),
        ({"labels": {"team": ""}}, "team: is empty"),
        ({"annotations": {"summary": "c"}}, "summary: is set by the sink itself"),
        (
            {"annotations": {"x": "{{ incident.y }}"}},
            "annotations.x: fails for the open process incident: line 1: there is",
        ),
        ({"link": "/d/1"}, "link: fails for the open process incident: makes '/d/1', expected a link that begins with"),
        ({"summary": "{% if %}"}, "line 1: Expected an expression"),
        ({"username": "u"}, "username, password: expected both or neither"),
        ({"username": "u", "password": "p", "bearer_token": "t"}, "bearer_token: expected either this or"),
        ({"digest": {"every": "1h"}}, "digest: an Alertmanager holds what is open now"),
        ({"require": "most"}, "'one' or 'all'"),
        ({"repeat": "0s"}, "greater than 0"),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SINK.options.model_validate({"type": "alertmanager", "urls": ["http://am:9093"], **options})
    assert message in str(caught.value)
