"""The local HTTP server. Importing this module loads aiohttp: do it only when the API is enabled.

::

    connection ─▶ ConnectionLimit ─▶ aiohttp ─▶ Guard (host, token, time, errors) ─▶ Handlers ─▶ AgentControl
    pipeline ── publish(event) ────▶ EventStream ─▶ one bounded channel for each watcher of /api/v1/events
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aiohttp import http_exceptions, web

import edge_agent
from edge_agent.api.address import Address, TcpAddress, UnixAddress
from edge_agent.api.connections import ConnectionLimit
from edge_agent.api.control import AgentControl
from edge_agent.api.guard import Guard, set_headers
from edge_agent.api.handlers import Handlers, RenderMetrics
from edge_agent.api.openapi import openapi_document
from edge_agent.api.options import ApiOptions
from edge_agent.api.routes import ROUTES
from edge_agent.api.stream import EventStream
from edge_agent.api.tokens import Keyring
from edge_agent.api.upload import remove_leftovers
from edge_agent.errors import ConfigError
from edge_agent.options import Secret
from edge_agent.verdict import Event

_MAX_JSON = 65_536
_STOP_S = 3.0
_LINGER_S = 2.0
_SOCKET_MODE = 0o660


class ApiServer:
    """Serves ``control``. Order of calls: :meth:`start` once, :meth:`publish` at will, :meth:`stop` once.

    ``render_metrics`` answers ``/metrics``; uploads go to ``upload_dir``; ``local_token`` is accepted besides the
    token of the options (see :func:`~edge_agent.api.token.load_or_create_token`).
    """

    def __init__(
        self,
        options: ApiOptions,
        control: AgentControl,
        *,
        render_metrics: RenderMetrics,
        upload_dir: Path,
        local_token: Secret | None = None,
    ) -> None:
        self._options = options
        self._metrics = control.metrics
        self._stream = EventStream(options.max_streams, control.metrics.stream_dropped.labels())
        document = openapi_document(ROUTES, edge_agent.__version__)
        handlers = Handlers(options, control, self._stream, render_metrics, upload_dir, document)
        self._guard = Guard(options, Keyring.of(options, local_token), control.metrics, handlers)
        self._upload_dir = upload_dir
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self.address: Address = options.address
        """Where the server listens; the real port after :meth:`start`."""

    async def start(self) -> None:
        """Listen. :raises ConfigError: the address is taken or cannot be used."""
        sock = _listening_socket(self.address)
        try:
            await asyncio.to_thread(remove_leftovers, self._upload_dir)
            self._runner = _runner(self._guard, self._options, partial(self._refused, "400"))
            await self._runner.setup()
            if self._runner.server is None:
                raise RuntimeError("the HTTP runner is set up but has no server")
            limit = ConnectionLimit(self._runner.server, self._options.max_connections, partial(self._refused, "503"))
            loop = asyncio.get_running_loop()
            if isinstance(self.address, UnixAddress):
                self._listener = await loop.create_unix_server(limit, sock=sock)
            else:
                self._listener = await loop.create_server(limit, sock=sock)
                self.address = TcpAddress(self.address.host, sock.getsockname()[1])
        except BaseException:
            sock.close()
            raise

    async def stop(self) -> None:
        """Take no more connections, end the live streams, give running requests a moment, close."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._stream.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            if isinstance(self.address, UnixAddress):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.address.path)

    def publish(self, event: Event) -> None:
        """Show ``event`` to whoever watches ``/api/v1/events``; never waits."""
        self._stream.publish(event)

    def _refused(self, status: str) -> None:
        self._metrics.api_requests.labels("other", status).inc()


def _runner(guard: Guard, options: ApiOptions, malformed: Callable[[], None]) -> web.AppRunner:
    app = web.Application(middlewares=[guard.middleware], client_max_size=_MAX_JSON)
    app.on_response_prepare.append(set_headers)
    for route in ROUTES:
        # Sensor names may hold slashes, as MQTT topics do.
        app.router.add_route(route.method, route.path.replace("{name}", "{name:.+}"), partial(guard.serve, route))
    return web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        logger=_http_logger(malformed),
        # Also the time for a client to send its first request line and headers.
        keepalive_timeout=options.timeout,
        # How long the rest of a refused upload is read and thrown away, so that the client sees our answer.
        lingering_time=min(options.timeout, _LINGER_S),
        shutdown_timeout=_STOP_S,
    )


def _http_logger(malformed: Callable[[], None]) -> logging.Logger:
    """aiohttp logs a stack for each request that is not HTTP; count those instead: a port scan is no error of ours."""

    def wanted(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            malformed()
            return False
        return True

    logger = logging.getLogger("edge_agent.api.http")
    logger.filters[:] = [wanted]
    return logger


def _listening_socket(address: Address) -> socket.socket:
    try:
        if isinstance(address, UnixAddress):
            return _unix_socket(address.path)
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        sock = socket.create_server((address.host, address.port), family=family)
    except OSError as error:
        raise ConfigError(f"api.listen: cannot listen on {address}: {_explained(error)}") from error
    sock.setblocking(False)
    return sock


def _unix_socket(path: str) -> socket.socket:
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        # Nobody can connect before `listen`, so there is no moment with a wider mode.
        os.chmod(path, _SOCKET_MODE)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    """Delete a socket file that nobody serves any more; raise EADDRINUSE if somebody does, or if it is no socket."""
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_socket:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
    raise OSError(errno.EADDRINUSE, "in use")


def _explained(error: OSError) -> str:
    advice: dict[int | None, str] = {
        errno.EADDRINUSE: "it is in use, perhaps by another edge-agent; stop that one or choose another address",
        errno.EADDRNOTAVAIL: "this machine has no such address; choose one that `ip address` shows",
        errno.EACCES: "no permission; choose a port above 1023, or a folder that the agent may write to",
        errno.ENOENT: "the folder does not exist; create it or choose another",
    }
    return advice.get(error.errno, error.strerror or str(error))
