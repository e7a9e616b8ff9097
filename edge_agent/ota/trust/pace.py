"""Says when a download is so slow that somebody may be holding it back (TUF specification, slow retrieval attack)."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge_agent.errors import OtaError

WINDOW_S = 60.0


class Pace:
    """Averages over :data:`WINDOW_S`. A server that sends nothing at all is noticed by the wait for a read, earlier."""

    def __init__(self, slowest: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._slowest = slowest
        self._monotonic = monotonic
        self._since = monotonic()
        self._bytes = 0

    def count(self, new_bytes: int, url: str) -> None:
        """Take note of what has come. :raises OtaError: ``slow``, once a window is over."""
        self._bytes += new_bytes
        passed = self._monotonic() - self._since
        if passed < WINDOW_S:
            return
        rate = self._bytes / passed
        if rate < self._slowest:
            raise OtaError("slow", f"{url}: came at {rate:.0f} bytes/s, expected {self._slowest}; goes on later")
        self._since += passed
        self._bytes = 0
