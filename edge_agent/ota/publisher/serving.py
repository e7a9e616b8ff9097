"""Plain files over HTTP for a lab, with ranges (RFC 9110, 14.2) so that downloads can be resumed."""

from __future__ import annotations

import os
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_agent.errors import OtaError
from edge_agent.ota.publisher.metadata import REPO

_PARTS = ("metadata", "targets")
_PIECE = 1 << 16
_RANGE = re.compile(r"bytes=([0-9]{1,15})-([0-9]{0,15})")
_TIMEOUT_S = 30


def served_folder(folder: Path) -> Path:
    """The part of ``folder`` that may be seen. :raises OtaError: reason ``name``, there is no repository in it."""
    for candidate in (folder / REPO, folder):
        if (candidate / "metadata" / "timestamp.json").is_file():
            return candidate
    raise OtaError("name", f"{folder}: no metadata/timestamp.json in it, expected a repository")


def server(folder: Path, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """A server that listens; ``serve_forever`` makes it answer. :raises OSError: it cannot listen there."""
    root = folder.resolve()

    class Files(_Files):
        served = root

    return ThreadingHTTPServer((host, port), Files)


class _Files(BaseHTTPRequestHandler):
    served: Path
    protocol_version = "HTTP/1.1"
    server_version = "edge-agent"
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a lab's terminal is for its user."""

    def _answer(self, *, body: bool) -> None:
        path = self._path()
        if path is None:
            self._empty(HTTPStatus.NOT_FOUND)
            return
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = _RANGE.fullmatch(self.headers.get("Range", ""))
            start, end = _bounds(found, size)
            if found is not None and start >= size:
                self._empty(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
                return
            self.send_response(HTTPStatus.PARTIAL_CONTENT if found else HTTPStatus.OK)
            if found:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self._headers(end - start, path)
            file.seek(start)
            left = end - start if body else 0
            while left and (piece := file.read(min(left, _PIECE))):
                self.wfile.write(piece)
                left -= len(piece)

    def _path(self) -> Path | None:
        """The file that is asked for, if it may be seen: nothing beside the two folders, nothing hidden, no links."""
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] not in _PARTS or any(part.startswith(".") or not part or "\0" in part for part in parts):
            return None
        path = self.served.joinpath(*parts)
        return path if path.is_file() and path.resolve() == path else None

    def _headers(self, length: int, path: Path) -> None:
        kept = "no-cache" if path.name == "timestamp.json" else "public, max-age=31536000, immutable"
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/json" if path.suffix == ".json" else "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", kept)
        self.end_headers()

    def _empty(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()


def _bounds(found: re.Match[str] | None, size: int) -> tuple[int, int]:
    if found is None:
        return 0, size
    end = min(int(found[2]) + 1, size) if found[2] else size
    return int(found[1]), max(end, int(found[1]))
