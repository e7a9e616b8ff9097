"""A bounded queue between the threads that make telemetry and the one thread that sends it."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from edge_agent.metrics import Counter

T = TypeVar("T")


class Backlog(Generic[T]):
    """First in, first out; when full the oldest item goes and is counted in ``dropped``. Never waits for a reader.

    (:class:`~edge_agent.channel.Channel` serves one event loop only; log records come from any thread.)
    """

    def __init__(self, capacity: int, dropped: Counter) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._dropped = dropped
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Take ``item``."""
        with self._lock:
            if len(self._items) >= self._capacity:
                self._items.popleft()
                self._dropped.inc()
            self._items.append(item)

    def take(self, limit: int) -> list[T]:
        """At most ``limit`` items, oldest first."""
        with self._lock:
            return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    def put_back(self, items: list[T]) -> None:
        """Return what could not be sent to the front; what has no room any more is dropped, oldest first."""
        with self._lock:
            room = self._capacity - len(self._items)
            lost = max(0, len(items) - room)
            self._items.extendleft(reversed(items[lost:]))
            self._dropped.inc(lost)

    def lose(self, count: int) -> None:
        """Count ``count`` items that were taken and will not arrive."""
        with self._lock:
            self._dropped.inc(count)
