"""What operators order: sensors that are to disturb nobody for a while. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any

from edge_agent.verdict import rfc3339


@dataclass(frozen=True, slots=True)
class Order:
    """Suppress incidents of these sensors. ``sensors``, ``areas``: shell-style patterns, one at least; wall times."""

    id: str
    sensors: tuple[str, ...]
    areas: tuple[str, ...]
    created_ns: int
    until_ns: int
    by: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times as RFC 3339 UTC text."""
        return {
            "id": self.id,
            "sensors": list(self.sensors),
            "areas": list(self.areas),
            "created": rfc3339(self.created_ns),
            "until": rfc3339(self.until_ns),
            "by": self.by,
            "note": self.note,
        }


class Orders:
    """The orders in force. They end by pipeline time: a wall clock that is set neither ends nor prolongs one."""

    def __init__(self) -> None:
        self._ends_ns: dict[str, int] = {}
        self._orders: dict[str, Order] = {}

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def __len__(self) -> int:
        return len(self._orders)

    def give(self, order: Order, now_ns: int) -> None:
        """Have ``order`` in force from pipeline time ``now_ns`` on, for as long as it says."""
        self._orders[order.id] = order
        self._ends_ns[order.id] = now_ns + order.until_ns - order.created_ns

    def lift(self, order_id: str) -> Order | None:
        """End an order; None: there is none such."""
        self._ends_ns.pop(order_id, None)
        return self._orders.pop(order_id, None)

    def left(self, now_ns: int) -> tuple[tuple[Order, int], ...]:
        """Each order and for how many ns it is still in force."""
        return tuple((order, self._ends_ns[order.id] - now_ns) for order in self)

    def restore(self, left: Iterable[tuple[Order, int]], now_ns: int) -> None:
        """Take over what :meth:`left` gave, less the time that has passed since."""
        for order, left_ns in left:
            if left_ns > 0:
                self._orders[order.id] = order
                self._ends_ns[order.id] = now_ns + left_ns

    def expire(self, now_ns: int) -> list[Order]:
        """Orders whose time is over; they are in force no more."""
        over = [order for order_id, order in self._orders.items() if now_ns >= self._ends_ns[order_id]]
        for order in over:
            self.lift(order.id)
        return over


def covers(
    sensors: Collection[str], areas: Collection[str], involved: Collection[str], area_of: Callable[[str], str | None]
) -> bool:
    """Whether patterns of ``sensors`` and ``areas`` cover all that is ``involved``; no patterns at all cover anything.

    All of it, because work on one pump must not hide what happens elsewhere.
    """
    if not sensors and not areas:
        return True
    named, placed = _matcher(tuple(sensors)), _matcher(tuple(areas))
    return bool(involved) and all(
        named(name) or ((area := area_of(name)) is not None and placed(area)) for name in involved
    )


@lru_cache(maxsize=4_096)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], Any]:
    """One test for all of them: with 1,000 orders and 300 open incidents every pattern on its own takes seconds."""
    return re.compile("|".join(map(translate, patterns)) or r"(?!)").match
