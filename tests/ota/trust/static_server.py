"""A static web server in this process, with byte ranges, that can be told to misbehave for one path."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StaticServer

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.asked.append((path, self.headers.get("Range")))
        special = next((answer for end, answer in self.server.answers.items() if path.endswith(end)), None)
        with suppress(ConnectionError, ssl.SSLError):
            (special or Handler.serve)(self)

    def content(self) -> bytes | None:
        file = self.server.folder / unquote(self.path).lstrip("/")
        return file.read_bytes() if file.is_file() else None

    def serve(self) -> None:
        """As a good server does."""
        content = self.content()
        if content is None:
            self.answer(404, b"not here")
            return
        wanted = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        if wanted is None:
            self.answer(200, content)
        elif int(wanted[1]) >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        else:
            start = int(wanted[1])
            self.answer(206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, said: int | None = None) -> None:
        """``said``: the Content-Length when it is not that of the body; negative: none, the end is where it closes."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if said is not None and said < 0:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body) if said is None else said))
        self.end_headers()
        for at in range(0, len(body), 16_384):
            self.wfile.write(body[at : at + 16_384])
            self.server.sent += len(body[at : at + 16_384])
        if said is not None and said > len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class StaticServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.folder = folder
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        self.answers: dict[str, Callable[[Handler], None]] = {}
        self.origin = f"{'http' if context is None else 'https'}://127.0.0.1:{self.server_port}"
        self._open: set[socket.socket] = set()

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that went away, on purpose

    def close_all(self) -> None:
        for request in list(self._open):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[StaticServer]:
    server = StaticServer(folder, context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.close_all()
        server.server_close()
        thread.join()
