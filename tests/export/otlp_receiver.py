"""A collector for tests: takes OTLP/HTTP on a loopback port and keeps the decoded requests."""

from __future__ import annotations

import gzip
import http.server
import ssl
import threading
import time
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_TYPES = {
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Receiver:
    """Answers ``status`` (and ``body``) to every request; those answered 200 are in ``requests``, by path.

    ``certificate``, a PEM file with its key, makes it speak TLS.
    """

    def __init__(self, port: int = 0, certificate: Path | None = None) -> None:
        self.status = 200
        self.body = b""
        self.requests: dict[str, list[Any]] = {path: [] for path in _TYPES}
        self.headers: list[Message] = []  # names of headers have no case
        self.refused = 0
        self.connections = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps the connection, as collectors do
            timeout = 10

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                receiver._take(self)

            def do_GET(self) -> None:
                raise AssertionError("a collector is never asked by GET")

            def log_message(self, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self.endpoint = f"https://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def _take(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        assert handler.headers["content-type"] == "application/x-protobuf"
        assert handler.headers["content-encoding"] == "gzip"
        request = _TYPES[handler.path]()
        request.ParseFromString(gzip.decompress(body))
        if self.status == 200:
            self.headers.append(handler.headers)
            self.requests[handler.path].append(request)
        else:
            self.refused += 1
        handler.send_response(self.status)
        if self.status in (301, 302, 307):
            handler.send_header("location", self.endpoint + "/elsewhere")
        handler.send_header("content-length", str(len(self.body)))
        handler.end_headers()
        handler.wfile.write(self.body)

    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests["/v1/traces"]
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def logs(self) -> list[tuple[str, Any]]:
        return [
            (scope.scope.name, record)
            for request in self.requests["/v1/logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]

    def metrics(self) -> dict[str, Any]:
        """The newest export, by name."""
        request = self.requests["/v1/metrics"][-1]
        return {metric.name: metric for metric in request.resource_metrics[0].scope_metrics[0].metrics}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = 10.0) -> None:
    """Poll ``condition`` for at most ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.005)
