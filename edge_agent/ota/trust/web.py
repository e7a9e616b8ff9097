"""A repository on a web server, object store or CDN: HTTP by urllib3, which python-tuf needs anyway.

The server is not trusted with content, only with bytes that are checked later. What is guarded here is the way: TLS is
always verified, nothing is decompressed, a redirect never leaves TLS, and no environment variable (proxies) has a say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import SplitResult, urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, SSLError, TimeoutError
from urllib3.response import BaseHTTPResponse

from edge_agent.errors import AdapterError, OtaError
from edge_agent.ota.trust.settings import Settings
from edge_agent.ota.trust.transport import CHUNK_BYTES, AbsentError, RangeRefusedError, Reply
from edge_agent.tls_files import verifying_context

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ABSENT = frozenset({403, 404, 410})  # object stores say 403 for what is not there
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)")
_HEADERS = {"User-Agent": "edge-agent", "Accept-Encoding": "identity"}


class Web:
    """Reads files by HTTP (RFC 9110) from ``origin``, resuming by byte ranges (section 14)."""

    def __init__(self, origin: str, settings: Settings) -> None:
        self._host = urlsplit(origin).hostname
        timeout = urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s)
        self._own, self._others = _pools(origin, settings, timeout)

    @contextmanager
    def read(self, url: str, start: int = 0) -> Iterator[Reply]:
        """As of :class:`~edge_agent.ota.trust.transport.Transport`."""
        response = self._response(url, start)
        try:
            yield _reply(url, start, response)
        finally:
            # Read to its end, its connection is in the pool again already. Ended early, it is of no more use.
            response.close()

    def _response(self, url: str, start: int) -> BaseHTTPResponse:
        """The answer that is no redirect."""
        at = url
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._ask(at, start)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            place = urljoin(at, response.headers.get("Location", ""))
            if not _may_follow(urlsplit(at), urlsplit(place)):
                raise OtaError(
                    "unreachable", f"{at}: is redirected to {place[:200]!r}, expected https or the same host"
                )
            at = place
        raise OtaError("unreachable", f"{url}: is redirected more than {_MOST_REDIRECTS} times")

    def _ask(self, url: str, start: int) -> BaseHTTPResponse:
        pool = self._own if urlsplit(url).hostname == self._host else self._others
        headers = {**_HEADERS, "Range": f"bytes={start}-"} if start else _HEADERS
        try:
            return pool.request(
                "GET", url, headers=headers, redirect=False, retries=False, preload_content=False, decode_content=False
            )
        except (HTTPError, ValueError, OSError) as error:  # ValueError: what the address or a header is made of
            raise _unreachable(url, error) from error


def _pools(
    origin: str, settings: Settings, timeout: urllib3.Timeout
) -> tuple[urllib3.PoolManager, urllib3.PoolManager]:
    """For the origin's host; and for others that it redirects to: these are never shown the client certificate."""
    if urlsplit(origin).scheme == "http" and settings.tls is None:
        others = urllib3.PoolManager(timeout=timeout)
        return others, others
    tls = settings.tls or {}
    ca_file = tls.get("ca_file")
    try:
        context = verifying_context(ca_file, tls.get("cert_file"), tls.get("key_file"), tls.get("key_password"))
        context_of_others = verifying_context(ca_file, None, None, None)
    except AdapterError as error:
        raise OtaError("unreachable", f"ota.{error}") from error
    own = urllib3.PoolManager(timeout=timeout, ssl_context=context, server_hostname=tls.get("server_name"))
    return own, urllib3.PoolManager(timeout=timeout, ssl_context=context_of_others)


def _may_follow(source: SplitResult, place: SplitResult) -> bool:
    if place.scheme == "https":
        return bool(place.hostname)
    return place.scheme == source.scheme == "http" and place.hostname == source.hostname


def _reply(url: str, start: int, response: BaseHTTPResponse) -> Reply:
    """What an answer means. :raises OtaError: it has no usable body."""
    status = response.status
    if status in _ABSENT:
        _finish(response)
        raise AbsentError(f"{url}: the server answers {status}, it has no such file", status)
    if status == 416:
        raise RangeRefusedError(f"{url}: the server refuses to begin at byte {start}")
    if status not in (200, 206):
        raise OtaError("unreachable", f"{url}: the server answers {status}, expected 200; tried again later")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        raise OtaError("mismatch", f"{url}: comes with Content-Encoding {encoding[:40]!r}, expected none")
    if status == 206:
        return Reply(start, _total_of_range(url, start, response.headers), _chunks(url, response))
    said = response.headers.get("Content-Length", "")
    return Reply(0, int(said) if re.fullmatch("[0-9]{1,15}", said) else None, _chunks(url, response))


def _finish(response: BaseHTTPResponse) -> None:
    """Read the few words that come with a refusal, so that the connection serves for the next file: TLS is dear."""
    said = response.headers.get("Content-Length", "")
    if re.fullmatch("[0-9]{1,4}", said):
        response.drain_conn()


def _total_of_range(url: str, start: int, headers: urllib3.HTTPHeaderDict) -> int | None:
    """Length of the whole file by ``Content-Range`` (RFC 9110 section 14.4)."""
    said = headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None or not start or int(match[1]) != start:
        raise RangeRefusedError(f"{url}: got Content-Range {said[:80]!r}, expected one that begins at byte {start}")
    return None if match[3] == "*" else int(match[3])


def _chunks(url: str, response: BaseHTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            # One read of the socket at most: a server that sends a byte now and then is noticed by whoever counts.
            chunk = response.read1(CHUNK_BYTES, decode_content=False)
        except (HTTPError, ValueError, OSError) as error:
            raise _unreachable(url, error) from error
        if not chunk:
            return
        yield chunk


def _unreachable(url: str, error: Exception) -> OtaError:
    if isinstance(error, TimeoutError):
        return OtaError("unreachable", f"{url}: no answer in time; tried again later")
    if isinstance(error, SSLError):
        return OtaError("unreachable", f"{url}: TLS failed: {error}; expected a certificate that `ota.tls` trusts")
    return OtaError("unreachable", f"{url}: {type(error).__name__}: {str(error)[:200]}; tried again later")
