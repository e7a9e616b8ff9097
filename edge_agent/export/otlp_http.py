"""One POST to an OTLP collector (OTLP specification 1.x, section OTLP/HTTP), from a thread that may wait."""

from __future__ import annotations

import gzip
import http.client
import ssl
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.export.options import TelemetryOptions

_RETRYABLE = frozenset({408, 429, 502, 503, 504})
_MAX_ANSWER_BYTES = 65_536


class CollectorError(EdgeAgentError):
    """The collector did not take a request. ``retryable``: the same request may be taken later."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the POST into a GET and carry our secret headers to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class Collector:
    """Speaks to the collector of ``options``; proxies are taken from the environment as usual.

    :raises ConfigError: when ``ca_file`` cannot be read.
    """

    def __init__(self, options: TelemetryOptions, version: str) -> None:
        self._endpoint = options.endpoint or ""
        self._timeout_s = options.timeout
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "User-Agent": f"edge-agent/{version}",
            **{name: secret.reveal() for name, secret in options.headers.items()},
        }
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if urlsplit(self._endpoint).scheme == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_trust(options.ca_file)))
        self._opener = urllib.request.build_opener(*handlers)

    def post(self, signal: str, body: bytes) -> bytes:
        """Send one request to ``/v1/<signal>`` and return the answer's body.

        :raises CollectorError: not taken; the message names the address and what was answered, no secret.
        """
        url = f"{self._endpoint}/v1/{signal}"
        request = urllib.request.Request(url, gzip.compress(body, 1), self._headers, method="POST")  # noqa: S310  # options allow http and https only
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                taken: bytes = answer.read(_MAX_ANSWER_BYTES)
                return taken
        except urllib.error.HTTPError as error:
            error.close()
            retryable = error.code in _RETRYABLE
            raise CollectorError(f"{url}: answered {error.code} {error.reason}", retryable=retryable) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise CollectorError(f"{url}: {reason or type(error).__name__}", retryable=True) from error


def _trust(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"telemetry.ca_file: cannot read certificates from {ca_file!r}: {error}") from error
