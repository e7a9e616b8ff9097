"""Sortable unique ids for incidents and events (ULID specification: 48 bits of ms since 1970, 80 random bits)."""

from __future__ import annotations

import random

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class UlidMaker:
    """Makes ids from a wall time; randomness comes in as an argument so that replay is repeatable."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._latest = -1

    def __call__(self, wall_ns: int) -> str:
        """A new id of 26 characters for ``wall_ns``, always after the one before.

        Within a millisecond, and while the wall clock is set back, it is the next number (the specification's monotonic
        ids): ids must not bring the order of events into disorder.
        """
        number = wall_ns // 1_000_000 << 80 | self._rng.getrandbits(80)
        self._latest = number = (number if number >> 80 > self._latest >> 80 else self._latest + 1) % (1 << 128)
        return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def derived_ulid(wall_ns: int, what: str) -> str:
    """The id of ``what`` at ``wall_ns``: always the same for the same, so that repeating an event is seen as such."""
    return UlidMaker(random.Random(what))(wall_ns)
