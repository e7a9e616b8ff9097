"""The HTTP session given to the SDK's exporters: it says what they keep to themselves.

An exporter answers only yes or no. This session remembers why a request was not taken, and what a taken one was
answered. It also never lets the SDK retry: an exporter would sleep inside ``export`` for up to the whole timeout, by
the wall clock, which a gateway without a battery clock may see jump. What may be sent again waits in the backlog.
"""

from __future__ import annotations

from typing import Any

import requests

from edge_agent.errors import EdgeAgentError

_RETRYABLE = frozenset({408, 429, 502, 503, 504})
_MAX_ANSWER_BYTES = 65_536


class CollectorError(EdgeAgentError):
    """The collector did not take a request. ``retryable``: the same request may be taken later."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class CollectorSession(requests.Session):
    """``answer`` and ``failure`` are those of the last request; :meth:`forget` clears both. For one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = True  # the answer is read by us, and no further than we need
        self.auth = _as_it_is  # otherwise requests puts the password of ~/.netrc over the header of the configuration
        self.answer = b""
        self.failure: CollectorError | None = None

    def forget(self) -> None:
        """To be called before each export, so that what is found afterwards belongs to it."""
        self.answer, self.failure = b"", None

    def request(self, method: str, url: str | bytes, *args: Any, **more: Any) -> requests.Response:
        """As in requests.

        :raises CollectorError: for whatever is not a 2xx. It is no error of the network to the SDK, so it gives up.
        """
        # Said here, since REQUESTS_CA_BUNDLE in the environment wins over what is only said of the session.
        more["verify"] = self.verify
        where = url if isinstance(url, str) else url.decode()
        self.forget()
        try:
            response = super().request(method, url, *args, **more)
            with response:
                self.answer = next(response.iter_content(_MAX_ANSWER_BYTES), b"")
        except requests.RequestException as error:
            self.failure = CollectorError(f"{where}: {_reason(error)}", retryable=True)
            raise self.failure from error
        if not 200 <= response.status_code < 300:
            said = f"{where}: answered {response.status_code} {response.reason}"
            self.failure = CollectorError(said, retryable=response.status_code in _RETRYABLE)
            raise self.failure
        return response


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _reason(error: BaseException) -> str:
    """The innermost cause: requests and urllib3 each wrap it into a sentence of their own."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__
