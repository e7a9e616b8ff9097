"""What each end point does. Who may call it, how long it may take and what an error looks like: see ``guard``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from edge_agent.api.control import AgentControl
from edge_agent.api.options import ApiOptions
from edge_agent.api.page import CONTENT_SECURITY_POLICY, HTML
from edge_agent.api.stream import EventStream, missed
from edge_agent.api.upload import received_bundle
from edge_agent.channel import Channel
from edge_agent.errors import ControlError
from edge_agent.options import parse_duration
from edge_agent.verdict import EventKind, Feedback

RenderMetrics = Callable[[str], tuple[bytes, str]]
"""From the ``Accept`` header to body and content type; called in a thread."""

MOST_NOTE = 1000
"""Characters in the note that comes with feedback, an acknowledgement or an order."""
MOST_NAME = 100
"""Characters in the name of who asks, and in a pattern."""
MOST_PATTERNS = 100
LONGEST_ORDER_S = 31 * 86_400.0
ORDER_EXAMPLE = '{"sensors": ["pump.*"], "for": "2h"}'
TOKEN_NAME: web.RequestKey[str] = web.RequestKey("token", str)
"""Of a request: the name of the token that opened it, when it is one of option ``api.tokens``."""
_OR_UPLOAD = ", or the bundle itself as application/octet-stream"
_HEARTBEAT_S = 15.0
_FRAMES = 64


class Handlers:
    """One method for each end point in ``routes``."""

    def __init__(
        self,
        options: ApiOptions,
        control: AgentControl,
        stream: EventStream,
        render_metrics: RenderMetrics,
        upload_dir: Path,
        document: dict[str, Any],
    ) -> None:
        self._options = options
        self.control = control
        self._stream = stream
        self._render_metrics = render_metrics
        self._upload_dir = upload_dir
        self._document = document

    async def page(self, request: web.Request) -> web.StreamResponse:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        return web.Response(body=HTML, content_type="text/html", charset="utf-8", headers=headers)

    async def livez(self, request: web.Request) -> web.StreamResponse:
        return _health(*self.control.liveness())

    async def readyz(self, request: web.Request) -> web.StreamResponse:
        return _health(*self.control.readiness())

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        if not self._options.metrics:
            raise ControlError("metrics are switched off (option api.metrics)", status=404)
        body, content_type = await asyncio.to_thread(self._render_metrics, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def status(self, request: web.Request) -> web.StreamResponse:
        return as_json(self.control.status())

    async def sensors(self, request: web.Request) -> web.StreamResponse:
        return as_json({"sensors": self.control.sensors()})

    async def sensor(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        found = self.control.sensor(name)
        if found is None:
            raise ControlError(f"no sensor is named {name!r}; /api/v1/sensors lists all", status=404)
        return as_json(found)

    async def graph(self, request: web.Request) -> web.StreamResponse:
        return as_json(self.control.graph())

    async def incidents(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        found = await self.control.incidents(_limit(query.get("limit")), _state(query), _since_ns(query.get("since")))
        return as_json({"incidents": found})

    async def incident(self, request: web.Request) -> web.StreamResponse:
        incident_id = request.match_info["id"]
        found = await self.control.incident(incident_id)
        if found is None:
            raise ControlError(f"no incident has the id {incident_id!r}; /api/v1/incidents lists all", status=404)
        return as_json(found)

    async def judge_incident(self, request: web.Request) -> web.StreamResponse:
        incident_id = request.match_info["id"]
        body = await json_object(request)
        verdict, note = _feedback(body)
        found = await self.control.judge_incident(incident_id, verdict, note, operator(request, body))
        if found is None:
            raise ControlError(f"no incident has the id {incident_id!r}; /api/v1/incidents lists all", status=404)
        return as_json(found)

    async def acknowledge_incident(self, request: web.Request) -> web.StreamResponse:
        incident_id = request.match_info["id"]
        body = await json_object(request)
        _only_keys(body, "note", "by")
        found = await self.control.acknowledge_incident(incident_id, _note(body), operator(request, body))
        if found is None:
            raise ControlError(f"no incident has the id {incident_id!r}; /api/v1/incidents lists all", status=404)
        return as_json(found)

    async def orders(self, request: web.Request) -> web.StreamResponse:
        return as_json({"orders": self.control.orders()})

    async def suppress(self, request: web.Request) -> web.StreamResponse:
        body = await json_object(request)
        _only_keys(body, "sensors", "areas", "for", "note", "by")
        sensors, areas = _patterns(body, "sensors"), _patterns(body, "areas")
        if not sensors and not areas:
            raise ControlError(f"body: expected sensors or areas, as in {ORDER_EXAMPLE}", status=400)
        duration_s = _for(body)
        return as_json(await self.control.suppress(sensors, areas, duration_s, _note(body), operator(request, body)))

    async def lift_order(self, request: web.Request) -> web.StreamResponse:
        order_id = request.match_info["id"]
        body = await json_object(request)
        _only_keys(body, "by")
        found = await self.control.lift_order(order_id, operator(request, body))
        if found is None:
            raise ControlError(f"no order has the id {order_id!r}; /api/v1/orders lists all", status=404)
        return as_json(found)

    async def audit(self, request: web.Request) -> web.StreamResponse:
        return as_json({"entries": await self.control.audit(_limit(request.query.get("limit")))})

    async def model(self, request: web.Request) -> web.StreamResponse:
        return as_json(self.control.model())

    async def swap_model(self, request: web.Request) -> web.StreamResponse:
        if request.content_type == "application/json":
            path = path_on_gateway(await json_object(request), "a bundle", _OR_UPLOAD)
            return as_json(await self.control.swap_model(path, actor(request)))
        async with received_bundle(request, self._upload_dir, self._options.max_bundle) as uploaded:
            return as_json(await self.control.swap_model(uploaded, actor(request)))

    async def rollback_model(self, request: web.Request) -> web.StreamResponse:
        no_keys(await json_object(request))
        return as_json(await self.control.rollback_model(actor(request)))

    async def reload(self, request: web.Request) -> web.StreamResponse:
        no_keys(await json_object(request))
        return as_json(await self.control.reload(actor(request)))

    async def events(self, request: web.Request) -> web.StreamResponse:
        with self._stream.subscribe(_kinds(request.query.get("kinds"))) as channel:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
            try:
                await response.prepare(request)
                await self._pump(channel, response)
            except (TimeoutError, ConnectionError):
                # Gone, or not reading: the client connects again when it can.
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def openapi(self, request: web.Request) -> web.StreamResponse:
        return as_json(self._document)

    async def _pump(self, channel: Channel[bytes], response: web.StreamResponse) -> None:
        told = 0
        await response.write(b"retry: 3000\n\n")
        while True:
            frames = await _next_frames(channel)
            if not frames:
                return
            if channel.dropped > told:
                frames.insert(0, missed(channel.dropped - told))
                told = channel.dropped
            async with asyncio.timeout(self._options.timeout):
                await response.write(b"".join(frames))


async def _next_frames(channel: Channel[bytes]) -> list[bytes]:
    """What to send next; a comment when nothing has happened for long; empty at the end."""
    try:
        async with asyncio.timeout(_HEARTBEAT_S):
            await channel.wait()
    except TimeoutError:
        return [b": still here\n\n"]
    return channel.drain(_FRAMES)


def as_json(body: Any, status: int = 200) -> web.Response:
    """An answer in JSON; NaN and infinities become null, which JSON lacks."""
    data = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return web.Response(body=data, status=status, content_type="application/json")


def actor(request: web.Request) -> str:
    """Who asks, for the log of the daemon."""
    client = f"api client {request.remote}" if request.remote else "api client on the unix socket"
    return f"{client} with token {request[TOKEN_NAME]}" if TOKEN_NAME in request else client


def operator(request: web.Request, body: dict[str, Any]) -> str:
    """Who acts: the name given in the body (``by``), and from where."""
    name = body.get("by", "")
    if not isinstance(name, str) or len(name) > MOST_NAME or not (name.isprintable() and name == name.strip()):
        raise ControlError(f"by: expected a name of at most {MOST_NAME} characters on one line", status=400)
    return f"{name} ({actor(request)})" if name else actor(request)


def _health(ok: bool, reasons: list[str]) -> web.Response:
    return as_json({"ok": ok, "reasons": reasons}, status=200 if ok else 503)


def _limit(text: str | None) -> int:
    if text is None:
        return 100
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 4 and 1 <= int(text) <= 1000):
        raise ControlError(f"limit: got {text[:50]!r}, expected 1 to 1000", status=400)
    return int(text)


def _state(query: Any) -> str | None:
    state: str | None = query.get("state")
    if state not in (None, "open", "closed"):
        raise ControlError(f"state: got {state[:50]!r}, expected open or closed", status=400)
    return state


def _since_ns(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    except (ValueError, OverflowError):
        pass
    raise ControlError(
        f"since: got {text[:50]!r}, expected a time with its zone such as 2026-11-20T10:42:07Z (RFC 3339; "
        "a plus sign has to be written %2B)",
        status=400,
    )


def _kinds(text: str | None) -> frozenset[EventKind]:
    if text is None:
        return frozenset(EventKind)
    try:
        return frozenset(map(EventKind, text.split(",")))
    except ValueError:
        expected = ", ".join(EventKind)
        raise ControlError(f"kinds: got {text[:50]!r}, expected some of {expected}", status=400) from None


async def json_object(request: web.Request) -> dict[str, Any]:
    """The body. :raises ControlError: 400, it is no JSON object."""
    body = await request.read()
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise ControlError(f"body: not valid JSON: {error}", status=400) from error
    if not isinstance(found, dict):
        raise ControlError(f"body: got {type(found).__name__}, expected a JSON object", status=400)
    return found


def no_keys(body: dict[str, Any]) -> None:
    """:raises ControlError: 400, the body is not empty."""
    if body:
        raise ControlError(f"body: got key {next(iter(body))[:50]!r}, expected an empty JSON object", status=400)


def _feedback(body: dict[str, Any]) -> tuple[Feedback, str]:
    verdict = body.get("verdict")
    if not set(body) <= {"verdict", "note", "by"} or verdict not in tuple(Feedback):
        expected = " or ".join(f'{{"verdict": "{one}"}}' for one in Feedback)
        raise ControlError(f"body: expected {expected}, with a note if you like", status=400)
    return Feedback(verdict), _note(body)


def _note(body: dict[str, Any]) -> str:
    note = body.get("note", "")
    if not isinstance(note, str) or len(note) > MOST_NOTE:
        raise ControlError(f"note: expected text of at most {MOST_NOTE} characters", status=400)
    return note


def _only_keys(body: dict[str, Any], *known: str) -> None:
    for key in body:
        if key not in known:
            raise ControlError(f"body: got key {key[:50]!r}, expected some of {', '.join(known)}", status=400)


def _patterns(body: dict[str, Any], key: str) -> tuple[str, ...]:
    found = body.get(key, [])
    usable = isinstance(found, list) and len(found) <= MOST_PATTERNS
    if not usable or not all(isinstance(one, str) and 0 < len(one) <= MOST_NAME for one in found):
        raise ControlError(
            f"{key}: expected at most {MOST_PATTERNS} shell-style patterns of 1 to {MOST_NAME} characters in a list, "
            f"as in {ORDER_EXAMPLE}",
            status=400,
        )
    return tuple(found)


def _for(body: dict[str, Any]) -> float:
    try:
        duration_s = parse_duration(body.get("for"))
    except ValueError as error:
        raise ControlError(f"for: {error}", status=400) from error
    if not 0 < duration_s <= LONGEST_ORDER_S:
        raise ControlError(f"for: got {body['for']!r}, expected more than 0s and at most 31d", status=400)
    return duration_s


def path_on_gateway(body: dict[str, Any], what: str, otherwise: str = "") -> Path:
    """The path in a body that has nothing else. :raises ControlError: 400, it has something else."""
    path = body.get("path")
    usable = isinstance(path, str) and path.startswith("/") and len(path) <= 4096 and "\0" not in path
    if len(body) != 1 or not usable:
        raise ControlError(
            f'body: expected {{"path": "/absolute/path"}}, where {what} is on the gateway{otherwise}', status=400
        )
    return Path(str(path))
