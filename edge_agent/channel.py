"""A bounded queue between two tasks, with a stated policy when it is full and exact counters.

Counts: ``accepted == delivered + dropped + len(channel)`` at every moment. It ends by :meth:`Channel.close`: nothing
more is taken in, and what is buffered can still be read. No sentinel values.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


class Full(StrEnum):
    """What happens to a new item when the channel is full."""

    BLOCK = "block"
    DROP_OLDEST = "drop_oldest"


class ClosedError(Exception):
    """The channel takes no more items, or has none left to give."""


class Channel(Generic[T]):
    """First in, first out; ``capacity`` items at most. Used from one event loop only."""

    def __init__(self, capacity: int, when_full: Full = Full.BLOCK) -> None:
        if capacity < 1:
            raise ValueError(f"channel capacity: got {capacity}, expected at least 1")
        self.capacity = capacity
        self.when_full = when_full
        self.accepted = 0
        self.delivered = 0
        self.dropped = 0
        self._items: deque[T] = deque()
        self._receivers: deque[asyncio.Future[None]] = deque()
        self._senders: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def closed(self) -> bool:
        """True after :meth:`close`, even while items are left to read."""
        return self._closed

    def offer(self, item: T) -> bool:
        """Take ``item`` without waiting; False when full and the policy is ``block``.

        Under ``drop_oldest`` the oldest item is dropped and counted, and the answer is True.
        :raises ClosedError: after :meth:`close`.
        """
        if self._closed:
            raise ClosedError
        if len(self._items) >= self.capacity:
            if self.when_full is Full.BLOCK:
                return False
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self.accepted += 1
        _wake_one(self._receivers)
        return True

    async def send(self, item: T) -> None:
        """Take ``item``, waiting for room under ``block``. Cancelled while waiting, the item was not taken."""
        while not self.offer(item):
            await self._wait(self._senders)

    async def receive(self) -> T:
        """The oldest item; waits for one. :raises ClosedError: when closed and empty."""
        while not self._items:
            if self._closed:
                raise ClosedError
            await self._wait(self._receivers)
        return self._pop()

    def drain(self, limit: int | None = None) -> list[T]:
        """Everything buffered (at most ``limit`` items), oldest first, without waiting."""
        count = len(self._items) if limit is None else min(limit, len(self._items))
        items = [self._items.popleft() for _ in range(count)]
        self.delivered += count
        for _ in range(count):
            if not _wake_one(self._senders):
                break
        return items

    async def wait(self) -> bool:
        """Return True when there is something to read, False when closed and empty."""
        while not self._items:
            if self._closed:
                return False
            await self._wait(self._receivers)
        return True

    def close(self) -> None:
        """Refuse new items; what is buffered can still be read. Waiting senders get :class:`ClosedError`."""
        self._closed = True
        while _wake_one(self._receivers):
            pass
        while _wake_one(self._senders):
            pass

    def _pop(self) -> T:
        item = self._items.popleft()
        self.delivered += 1
        _wake_one(self._senders)
        return item

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters.append(future)
        try:
            await future
        except asyncio.CancelledError:
            # A wake-up that arrived together with the cancellation belongs to the next in line.
            if future.done() and not future.cancelled():
                _wake_one(waiters)
            elif future in waiters:  # else a wake-up has already passed it over
                waiters.remove(future)
            raise


def _wake_one(waiters: deque[asyncio.Future[None]]) -> bool:
    while waiters:
        future = waiters.popleft()
        if not future.done():
            future.set_result(None)
            return True
    return False
