"""The webhook sink against a real aiohttp server, plain and over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from pydantic import ValidationError

from edge_adapters.webhook import SINK
from edge_agent.clock import VirtualClock
from edge_agent.contract import AdapterContext, Sink
from edge_agent.errors import AdapterError, RetryableAdapterError
from edge_agent.metrics import Metrics
from edge_agent.testing import check_sink
from edge_agent.verdict import Event, EventKind

NOW_NS = 1_800_000_000 * 10**9


@dataclass
class Receiver:
    """A server whose answers are scripted: status for the next requests, then 204."""

    answers: list[int] = field(default_factory=list)
    refuse_id: str | None = None
    delay_s: float = 0.0
    text: str = "sorry"
    headers: dict[str, str] = field(default_factory=dict)
    posts: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    url: str = ""
    runner: web.AppRunner | None = None

    async def stop(self) -> None:
        assert self.runner is not None
        await self.runner.cleanup()

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.posts.append((dict(request.headers), body))
        self.methods.append(request.method)
        await asyncio.sleep(self.delay_s)
        if self.refuse_id is not None and self.refuse_id.encode() in body:
            return web.Response(status=422, text="no such field")
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers=self.headers, text="" if status == 204 else self.text)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(body) for _, body in self.posts]


@contextlib.asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None, **script: Any) -> AsyncIterator[Receiver]:
    server = Receiver(**script)
    app = web.Application()
    app.router.add_route("*", "/hook/secret-path", server.handle)
    runner = server.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook/secret-path?token=abc"
    try:
        yield server
    finally:
        await runner.cleanup()


def context() -> AdapterContext:
    return AdapterContext("hook", VirtualClock(NOW_NS), random.Random(1), Metrics(), kind="sink")


@contextlib.asynccontextmanager
async def opened(url: str, given: AdapterContext | None = None, **options: Any) -> AsyncIterator[Sink]:
    parsed = SINK.options.model_validate({"type": "webhook", "url": url, **options})
    sink = SINK.build(parsed, given or context())
    try:
        await sink.open()
        yield sink
    finally:
        await sink.close()


def event(name: str) -> Event:
    return Event(name, EventKind.INCIDENT, NOW_NS, {"id": f"incident of {name}", "state": "open"})


async def test_each_event_is_one_post_that_carries_its_id() -> None:
    async with receiver() as server, opened(server.url, headers={"Authorization": "Bearer t"}) as sink:
        await sink.deliver([event("a"), event("b")])
    assert server.documents[0] == {
        "id": "a",
        "kind": "incident",
        "time": "2027-01-15T08:00:00.000Z",
        "body": {"id": "incident of a", "state": "open"},
    }
    headers = [headers for headers, _ in server.posts]
    assert [h["Idempotency-Key"] for h in headers] == ["a", "b"]
    assert headers[0]["Authorization"] == "Bearer t"
    assert headers[0]["Content-Type"] == "application/json"


async def test_array_is_one_post_for_all_events() -> None:
    async with receiver() as server, opened(server.url, body="array") as sink:
        await sink.deliver([event("a"), event("b")])
        await sink.deliver([event("c")])
    assert [[e["id"] for e in array] for array in server.documents] == [["a", "b"], ["c"]]


async def test_signature_covers_timestamp_and_body() -> None:
    async with receiver() as server, opened(server.url, signing_key="k3y") as sink:
        await sink.deliver([event("a")])
    headers, body = server.posts[0]
    assert headers["X-Edge-Agent-Timestamp"] == "1800000000"
    assert headers["X-Edge-Agent-Signature"].startswith("sha256=")
    openssl = subprocess.run(  # an implementation that is not ours
        ["openssl", "dgst", "-sha256", "-hmac", "k3y", "-r"],
        input=b"1800000000." + body,
        capture_output=True,
        check=True,
    )
    assert headers["X-Edge-Agent-Signature"] == "sha256=" + openssl.stdout.split()[0].decode()
    assert not hmac.compare_digest(hashlib.sha256(body).hexdigest(), openssl.stdout.split()[0].decode())


async def test_the_check_in_the_readme_takes_what_is_genuine_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (resources.files("edge_adapters.webhook") / "README.md").read_text()
    scope: dict[str, Any] = {}
    exec(readme.partition("```python\n")[2].partition("```")[0], scope)
    monkeypatch.setattr("time.time", lambda: NOW_NS / 1e9 + 60)
    async with receiver() as server, opened(server.url, signing_key="k3y") as sink:
        await sink.deliver([event("a")])
    [(headers, body)] = server.posts
    timestamp, signature = headers["X-Edge-Agent-Timestamp"], headers["X-Edge-Agent-Signature"]
    assert scope["genuine"](b"k3y", timestamp, signature, body)
    assert not scope["genuine"](b"k3y", timestamp, signature, body + b" ")
    assert not scope["genuine"](b"other", timestamp, signature, body)
    assert not scope["genuine"](b"k3y", str(int(timestamp) - 1000), signature, body)


def test_sample_is_accepted() -> None:
    sample = yaml.safe_load((resources.files("edge_adapters.webhook") / "sample.yaml").read_text())
    SINK.options.model_validate(sample["sinks"]["hooks"])


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 408, 421, 425, 429, 500, 502, 503, 504])
async def test_receiver_in_trouble_is_tried_again(status: int) -> None:
    async with receiver(answers=[status], headers={"Retry-After": "30"}) as server, opened(server.url) as sink:
        with pytest.raises(RetryableAdapterError, match=rf"127\.0\.0\.1:\d+: HTTP {status} .*Retry-After: '30'"):
            await sink.deliver([event("a")])
        await sink.deliver([event("a")])
    assert [d["id"] for d in server.documents] == ["a", "a"]


async def test_call_that_failed_half_way_goes_on_where_it_failed() -> None:
    async with receiver(answers=[204, 500]) as server, opened(server.url) as sink:
        with pytest.raises(RetryableAdapterError):
            await sink.deliver([event("a"), event("b"), event("c")])
        await sink.deliver([event("a"), event("b"), event("c")])
    assert [d["id"] for d in server.documents] == ["a", "b", "b", "c"]


async def test_sink_built_anew_after_a_failure_repeats_nothing_that_arrived() -> None:
    given = context()
    events = [event("a"), event("b")]
    async with receiver(answers=[204, 500]) as server:
        async with opened(server.url, given) as sink:
            with pytest.raises(RetryableAdapterError):
                await sink.deliver(events)
        async with opened(server.url, given) as sink:
            await sink.deliver(events)
    assert [d["id"] for d in server.documents] == ["a", "b", "b"]


@pytest.mark.parametrize("status", [400, 410, 413, 422])
async def test_refusal_is_final(status: int) -> None:
    async with receiver(answers=[status]) as server, opened(server.url) as sink:
        with pytest.raises(AdapterError, match=rf"event a: http://.*: HTTP {status} .*: 'sorry'") as caught:
            await sink.deliver([event("a")])
    assert not isinstance(caught.value, RetryableAdapterError)
    assert "secret-path" not in str(caught.value)
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("body", ["event", "array"])
async def test_refused_event_does_not_hold_up_the_others(body: str) -> None:
    async with receiver(refuse_id="poison") as server, opened(server.url, body=body) as sink:
        with pytest.raises(AdapterError, match=r"event poison: .*422.*no such field"):
            await sink.deliver([event("a"), event("poison"), event("c")])
        alone = server.documents[-3:]
        assert [(d[0] if body == "array" else d)["id"] for d in alone] == ["a", "poison", "c"]
        sent = len(server.posts)
        for name in "ac":  # delivery now tries one by one: these two are known as delivered
            await sink.deliver([event(name)])
        assert len(server.posts) == sent


async def test_redirect_is_not_followed() -> None:
    async with (
        receiver(answers=[302], headers={"Location": "http://127.0.0.1:1/"}) as server,
        opened(server.url) as sink,
    ):
        with pytest.raises(RetryableAdapterError, match="302 Found: redirects are not followed; correct the URL"):
            await sink.deliver([event("a")])


@pytest.mark.parametrize("status", [404, 503])
async def test_answer_that_repeats_what_it_was_sent_gives_no_secret_away(status: int) -> None:
    page = "Cannot POST /hook/secret-path?token=abc; X-Own: Key s3cr3t-of-mine, and so on; no such field 'level'"
    headers = {"X-Own": "Key s3cr3t-of-mine"}
    async with (
        receiver(answers=[status], text=page, headers={"Retry-After": "s3cr3t-of-mine"}) as server,
        opened(server.url, headers=headers) as sink,
    ):
        with pytest.raises(AdapterError, match=r"Cannot POST \*\*\*.*no such field 'level'") as caught:
            await sink.deliver([event("a")])
    assert not any(secret in str(caught.value) for secret in ("secret-path", "abc", "s3cr3t"))


@pytest.mark.parametrize("date", ["yesterday", "Mon, 01 Jan 2020 00:00:00 +99999999999999"])
async def test_answer_with_a_senseless_date_counts_all_the_same(date: str) -> None:
    async with receiver(headers={"Date": date}) as server, opened(server.url) as sink:
        await sink.deliver([event("a")])
        assert len(server.posts) == 1


async def test_slow_receiver_times_out_and_is_tried_again() -> None:
    async with receiver(delay_s=0.5) as server, opened(server.url, timeout="100ms") as sink:
        with pytest.raises(RetryableAdapterError, match=r"no answer within 0\.1 s"):
            await sink.deliver([event("a")])


async def test_receiver_that_is_down_is_tried_again(unused_tcp_port: int) -> None:
    with pytest.raises(RetryableAdapterError, match="cannot connect: Connection refused"):
        async with opened(f"http://127.0.0.1:{unused_tcp_port}/"):
            pass
    async with receiver() as server, opened(server.url) as sink:
        await server.stop()
        with pytest.raises(RetryableAdapterError, match="cannot connect: Connection refused"):
            await sink.deliver([event("a")])


async def test_garbage_instead_of_an_answer_is_tried_again() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"\x00\xff lalala\r\n\r\n" * 1000)
        writer.close()

    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server, opened(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret?token=abc") as sink:
        with pytest.raises(
            RetryableAdapterError, match="it answers something that is no HTTP: Bad status line"
        ) as caught:
            await sink.deliver([event("a")])
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 500])
async def test_huge_answer_is_not_read(status: int) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while sent < 10**9:
                await response.write(b"x" * 65536)
                sent += 65536
        return response

    app = web.Application()
    app.router.add_post("/", flood)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with opened(f"http://127.0.0.1:{runner.addresses[0][1]}/") as sink:
            expected = (
                contextlib.nullcontext() if status == 200 else pytest.raises(RetryableAdapterError, match="HTTP 500")
            )
            with expected:
                await sink.deliver([event("a")])
    finally:
        await runner.cleanup()
    assert sent < 50_000_000


async def test_nobody_answers_while_connecting_is_noticed_in_time() -> None:
    """A listener whose queue is full lets nobody in."""
    import socket

    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(address)
        try:
            with pytest.raises(RetryableAdapterError, match=r"no answer within 0\.2 s"):
                async with opened(f"http://127.0.0.1:{address[1]}/", timeout="200ms"):
                    pass
        finally:
            for client in clients:
                client.close()


# -- what is sent, and what counts as delivered


async def test_template_makes_the_body() -> None:
    options = {"template": '{"text": {{ title | tojson }}}', "method": "PUT"}
    async with receiver() as server, opened(server.url, **options) as sink:
        await sink.deliver([event("a")])
    assert server.documents == [{"text": "[?] incident opened:"}]
    assert server.methods == ["PUT"]
    assert server.posts[0][0]["Content-Type"] == "application/json"


async def test_template_of_another_content_type_is_signed_as_sent() -> None:
    options = {"template": "{{ id }}: käse", "content_type": "text/plain; charset=utf-8", "signing_key": "k"}
    async with receiver() as server, opened(server.url, **options) as sink:
        await sink.deliver([event("a")])
    [(headers, body)] = server.posts
    assert body.decode() == "a: käse"
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Edge-Agent-Signature"].startswith("sha256=")


@pytest.mark.parametrize(
    "template", ["{% if id == 'odd' %}{{ body.oops }}{% endif %}{}", "{% if id == 'odd' %}:{% endif %}{}"]
)
async def test_template_that_fails_or_makes_no_json_leaves_the_event_as_it_is(template: str) -> None:
    async with receiver() as server, opened(server.url, template=template) as sink:
        await sink.deliver([event("fine"), event("odd")])
    assert server.documents[0] == {}
    assert server.documents[1]["body"]["id"] == "incident of odd"


async def test_replayed_event_says_so() -> None:
    late = replace(event("a"), replayed=True)
    async with receiver() as server, opened(server.url) as sink:
        await sink.deliver([late, event("b")])
    assert [document.get("replayed") for document in server.documents] == [True, None]


async def test_only_accepted_statuses_count_as_delivered() -> None:
    async with receiver(answers=[200, 409]) as server, opened(server.url, accept_status=[202, 409]) as sink:
        with pytest.raises(AdapterError, match="HTTP 200"):
            await sink.deliver([event("a")])
        await sink.deliver([event("a")])
    assert len(server.posts) == 2


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=hook", "-addext", "subjectAltName=DNS:hook.example", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


async def test_untrusted_certificate_is_refused_and_nothing_sent(certificate: tuple[Path, Path]) -> None:
    async with receiver(tls=server_tls(certificate)) as server:
        with pytest.raises(RetryableAdapterError, match=r"its certificate is not trusted: .*; see `tls\.ca_file`"):
            async with opened(server.url):
                pass
    assert server.posts == []


async def test_certificate_of_another_name_is_refused(certificate: tuple[Path, Path]) -> None:
    tls = {"ca_file": str(certificate[0])}
    async with receiver(tls=server_tls(certificate)) as server:
        with pytest.raises(RetryableAdapterError, match="its certificate is not trusted"):
            async with opened(server.url, tls=tls):
                pass
    assert server.posts == []


async def test_trusted_certificate_with_the_expected_name_is_taken(certificate: tuple[Path, Path]) -> None:
    tls = {"ca_file": str(certificate[0]), "server_name": "hook.example"}
    async with receiver(tls=server_tls(certificate)) as server, opened(server.url, tls=tls) as sink:
        await sink.deliver([event("a")])
    assert [d["id"] for d in server.documents] == ["a"]


async def test_client_certificate_is_presented(certificate: tuple[Path, Path]) -> None:
    cert, key = map(str, certificate)
    mutual = server_tls(certificate)
    mutual.verify_mode = ssl.CERT_REQUIRED
    mutual.load_verify_locations(cert)
    tls = {"ca_file": cert, "cert_file": cert, "key_file": key, "server_name": "hook.example"}
    async with receiver(tls=mutual) as server, opened(server.url, tls=tls) as sink:
        await sink.deliver([event("a")])
    assert len(server.posts) == 1


async def test_missing_certificate_file_is_named() -> None:
    with pytest.raises(AdapterError, match=r"tls\.ca_file: cannot use '/nowhere/ca\.pem'"):
        async with opened("https://127.0.0.1:1/", tls={"ca_file": "/nowhere/ca.pem"}):
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://x/"}, "got 'ftp://x', expected a URL such as https://hooks.example.com/edge"),
        ({"url": "https://u:p@x/"}, "user and password do not belong in the URL"),
        ({"headers": {"a b": "c"}}, "got header name 'a b'"),
        ({"headers": {"Content-Type": "c"}}, "Content-Type: this header is set by the sink itself"),
        ({"headers": {"A": "b\r\nC: d"}}, "A: the value has line breaks"),
        ({"tls": {"key_file": "k.pem"}}, "key_file: needs `cert_file` too"),
        ({"timeout": "0s"}, "greater than 0"),
        ({"body": "both"}, "'event' or 'array'"),
        ({"template": "{{ oops }}"}, "line 1: there is no variable 'oops'"),
        ({"template": "{{ title }}"}, "template: fails for the open process incident: makes no JSON"),
        ({"template": "{}", "body": "array"}, "template: makes the body of one event"),
        ({"content_type": "text/plain"}, "content_type: has no meaning without `template`"),
        ({"content_type": "text\r\nX: y", "template": "x"}, "expected a type such as application/json"),
        ({"accept_status": [500]}, "got 500, expected status codes from 200 to 499"),
        ({"method": "GET"}, "'POST', 'PUT' or 'PATCH'"),
        ({"url": "http://x:port/"}, "expected a URL such as"),
        ({"tls": {"verify": False}}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SINK.options.model_validate({"type": "webhook", "url": "https://x/", **options})
    assert message in str(caught.value)


def test_announcing_the_sink_does_not_import_the_http_library() -> None:
    code = "import sys, edge_adapters.webhook; sys.exit('aiohttp' in sys.modules)"
    import sys

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_shared_rules_for_sinks_hold(unused_tcp_port: int) -> None:
    async with receiver() as server:

        async def received() -> list[str]:
            return [document["id"] for document in server.documents]

        await check_sink(
            SINK,
            {"type": "webhook", "url": server.url},
            received=received,
            unreachable={"type": "webhook", "url": f"http://127.0.0.1:{unused_tcp_port}/"},
        )
