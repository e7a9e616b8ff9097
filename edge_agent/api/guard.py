"""What stands between the network and the handlers: who may call, for how long, and what an error looks like."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from edge_agent.api.bursts import Bursts, Onset
from edge_agent.api.handlers import TOKEN_NAME, Handlers, actor, as_json
from edge_agent.api.options import ApiOptions, Scope
from edge_agent.api.routes import Route
from edge_agent.api.tokens import Keyring
from edge_agent.errors import BundleError, ConfigError, ControlError, EdgeAgentError, StoreError
from edge_agent.metrics import Metrics

_log = logging.getLogger(__name__)
REFILL_S = 2.0
"""After so long one more call of a route with a burst limit is possible."""
_LOGGED_EVERY_S = 60.0
_QUIET_S = 600.0
"""Without a refusal for so long, the next one is a new burst. Whoever is refused must not fill the audit log."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_TOO_LONG = (
    "took too long (options api.timeout, api.change_timeout); a change that has begun is made all the same, "
    "/api/v1/status tells more"
)
_NONE_CONFIGURED = (
    "no token is configured: set the option api.token, or give the token that the agent keeps in its data directory, "
    "as 'Authorization: Bearer TOKEN'"
)
_UNAUTHORIZED = (
    "this needs the token of option api.token, or the one that the agent keeps in its data directory, "
    "as 'Authorization: Bearer TOKEN'; commands find it by the configuration (`-c FILE`), or in EDGE_AGENT_TOKEN"
)
_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def set_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Security headers on every answer, unless the handler has set its own. There is no CORS on purpose."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "edge-agent"  # aiohttp would tell its version and Python's


class Guard:
    """Wraps all handlers; ``keys`` open what changes something."""

    def __init__(self, options: ApiOptions, keys: Keyring, metrics: Metrics, handlers: Handlers) -> None:
        self._options = options
        self._keys = keys
        self._bursts: dict[str, Bursts] = {}
        self._metrics = metrics
        self._handlers = handlers
        self._changing = asyncio.Lock()
        self._quiet_until = 0.0
        self._refusals = {status: Onset(_QUIET_S) for status in (401, 403, 429)}

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        """Check the host, run the handler, turn what it raises into JSON, count, and send within the time."""
        try:
            _check_host(request, self._options.hosts)
            response = await handler(request)
        except web.HTTPException as error:
            response = _http_error(request, error)
        except TimeoutError:
            response = failed(504, _TOO_LONG)
        except EdgeAgentError as error:
            response = failed(_status(error), str(error))
        except (ConnectionError, web.RequestPayloadError):
            response = failed(400, "the connection ended before the request was complete")
        except Exception:
            # The boundary to the network: a defect in one answer must not look like a dead agent.
            _log.exception("%s %s: internal error", request.method, request.path)
            response = failed(500, "internal error; the agent's log has the details")
        self._count(request, response.status)
        return await self._sent(request, response)

    async def serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        """Call the handler of ``route`` under its rules."""
        _check_query(request, route)
        if route.streams:
            return await route.handler(self._handlers, request)
        if route.scope is None:
            async with asyncio.timeout(self._options.timeout):
                return await route.handler(self._handlers, request)
        await self._authorize(request, route.scope)
        _check_content_type(request, route)
        await self._limit(request, route)
        if not route.exclusive:
            async with asyncio.timeout(self._options.change_timeout):
                return await route.handler(self._handlers, request)
        if self._changing.locked():
            raise ControlError("another change is in progress; try again when it is done", status=409)
        async with self._changing, asyncio.timeout(self._options.change_timeout):
            return await route.handler(self._handlers, request)

    async def _authorize(self, request: web.Request, scope: Scope) -> None:
        if not self._keys:
            await self._tell_refused(request, 403, "no token is configured")
            raise ControlError(_NONE_CONFIGURED, status=403)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        key = self._keys.find(given.strip().encode("utf-8", "surrogateescape"))
        if scheme.lower() == "bearer" and key is not None:
            if key.name is not None:
                request[TOKEN_NAME] = key.name
            if key.opens(scope):
                return
            await self._tell_refused(request, 403, f"token {key.name} does not open {scope}")
            raise web.HTTPForbidden(
                text=f"token {key.name} does not open {scope}, expected one that does (option api.tokens)",
                # RFC 6750, section 3.1
                headers={"WWW-Authenticate": f'Bearer realm="edge-agent", error="insufficient_scope", scope="{scope}"'},
            )
        await self._tell_refused(request, 401, "wrong or no token")
        raise web.HTTPUnauthorized(text=_UNAUTHORIZED, headers={"WWW-Authenticate": 'Bearer realm="edge-agent"'})

    async def _tell_refused(self, request: web.Request, status: int, why: str) -> None:
        """In the log now and then, and at the beginning of a burst in the audit log."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _LOGGED_EVERY_S
            _log.warning("%s %s from %s refused: %s", request.method, request.path, request.remote, why)
        if self._refusals[status].begins(now):
            await self._handlers.control.note_refused(f"{request.method} {request.path[:200]}", why, actor(request))

    async def _limit(self, request: web.Request, route: Route) -> None:
        if route.burst is None:
            return
        wait_s = self._bursts.setdefault(route.path, Bursts(route.burst, REFILL_S)).take(time.monotonic())
        if wait_s:
            await self._tell_refused(request, 429, f"more than {route.burst} at once")
            raise web.HTTPTooManyRequests(
                text=f"asked more often than {route.burst} times at once; once is enough, try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )

    def _count(self, request: web.Request, status: int) -> None:
        method = request.method if request.method in _METHODS else "other"
        self._metrics.api_requests.labels(method, str(status)).inc()

    async def _sent(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """Send here rather than after the return, where no time limit would hold for a client that does not read."""
        try:
            async with asyncio.timeout(self._options.timeout):
                await response.prepare(request)
                await response.write_eof()
        except ConnectionError:
            pass  # the client is gone; nobody is left to tell
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response


def failed(status: int, message: str) -> web.Response:
    """The one form of all errors."""
    return as_json({"error": message}, status=status)


def _status(error: EdgeAgentError) -> int:
    if isinstance(error, ControlError):
        return error.status
    if isinstance(error, BundleError | ConfigError):
        return 422
    return 507 if isinstance(error, StoreError) else 500


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status == 404:
        message = f"nothing is at {request.path[:200]!r}; /api/v1/openapi.json lists what there is"
    elif isinstance(error, web.HTTPMethodNotAllowed):
        message = f"{request.method[:20]!r} is not possible here, expected {' or '.join(sorted(error.allowed_methods))}"
    else:
        message = error.text or error.reason
    response = failed(error.status, message)
    for name in ("Allow", "WWW-Authenticate", "Retry-After"):
        if name in error.headers:
            response.headers[name] = error.headers[name]
    return response


def _check_host(request: web.Request, allowed: Sequence[str]) -> None:
    """Refuse names that are not ours: a hostile page may point its own name at 127.0.0.1 (DNS rebinding).

    An address cannot be rebound, and on a unix socket there is no browser.
    """
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is not None and sock.family == socket.AF_UNIX:
        return
    for value in request.headers.getall("Host", []):
        name = _without_port(value).lower().rstrip(".")
        if name != "localhost" and not _is_ip(name) and name not in map(str.lower, allowed):
            raise ControlError(
                f"Host: got {value[:200]!r}, expected localhost, an IP address or a name listed in option api.hosts",
                status=421,
            )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_query(request: web.Request, route: Route) -> None:
    known = [parameter.name for parameter in route.query]
    for name in request.query:
        if name not in known:
            expected = ", ".join(known) if known else "none"
            raise ControlError(f"unknown parameter {name[:50]!r}, expected: {expected}", status=400)
        if len(request.query.getall(name)) > 1:
            raise ControlError(f"parameter {name!r}: given more than once", status=400)


def _check_content_type(request: web.Request, route: Route) -> None:
    """Types that a web form cannot send: one more lock against requests forged by a page in the user's browser."""
    expected = [content_type for content_type, _ in route.bodies]
    if request.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in expected:
        found = request.headers.get("Content-Type")
        raise ControlError(f"Content-Type: got {found and found[:100]!r}, expected {' or '.join(expected)}", status=415)
