"""Block-wise request bodies (RFC 7959, Block1), put together within stated limits.

The library's own assembly keeps any number of unfinished bodies of any size, so a careless or hostile device could
fill the memory of the gateway. Here both are bounded: the largest body, and how many may be unfinished.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field


class BodyTooLargeError(Exception):
    """The body is, or announces to be, larger than allowed: answer 4.13."""


class IncompleteBodyError(Exception):
    """A block without its predecessors (lost, evicted, or too late): answer 4.08."""


@dataclass(slots=True)
class _Unfinished:
    started_ns: int
    data: bytearray = field(default_factory=bytearray)


class BlockAssembly:
    """Unfinished bodies by their key (who sends what to where). The oldest one gives way to a new one."""

    def __init__(self, max_unfinished: int = 64, lifetime_ns: int = 93_000_000_000) -> None:
        """``lifetime_ns``: how long an unfinished body is kept; MAX_TRANSMIT_WAIT of RFC 7252 is 93 s."""
        self._max_unfinished = max_unfinished
        self._lifetime_ns = lifetime_ns
        self._unfinished: OrderedDict[Hashable, _Unfinished] = OrderedDict()

    def __len__(self) -> int:
        return len(self._unfinished)

    def feed(self, key: Hashable, start: int, payload: bytes, more: bool, max_body: int, now_ns: int) -> bytes | None:
        """Take the block that begins at byte ``start``: the whole body when it was the last one, else None.

        ``max_body``: most bytes this body may have.
        :raises BodyTooLargeError: more than the allowed bytes; what came before is forgotten.
        :raises IncompleteBodyError: the block does not follow the one before it.
        """
        self._forget_old(now_ns)
        if start == 0:
            self._begin(key, now_ns)
        body = self._unfinished.get(key)
        if body is None or start != len(body.data):
            self._unfinished.pop(key, None)
            raise IncompleteBodyError
        if start + len(payload) + more > max_body:
            del self._unfinished[key]
            raise BodyTooLargeError
        body.data += payload
        return None if more else bytes(self._unfinished.pop(key).data)

    def _begin(self, key: Hashable, now_ns: int) -> None:
        self._unfinished.pop(key, None)
        if len(self._unfinished) >= self._max_unfinished:
            self._unfinished.popitem(last=False)
        self._unfinished[key] = _Unfinished(now_ns)

    def _forget_old(self, now_ns: int) -> None:
        while self._unfinished:
            key, oldest = next(iter(self._unfinished.items()))
            if now_ns - oldest.started_ns < self._lifetime_ns:
                return
            del self._unfinished[key]
