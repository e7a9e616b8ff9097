"""Earlier incidents that looked alike: cosine similarity of what stood out, and how. In memory, bounded.

An incident is a vector with one place for each sensor and one for each sensor with what it did, weighted by share; so
the same sensors doing something else resemble it less. G. Salton, A. Wong, C. S. Yang, "A vector space model for
automatic indexing", Communications of the ACM 18 (1975).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_agent.verdict import SimilarIncident

MOST_KEPT = 500
"""Closed incidents that are compared with; the newest ones."""
_MOST_TOLD = 3
_LEAST = 0.5  # less is not alike
_MOST_SENSORS = 16
_MOST_TEXT = 300
_WHAT_IT_DID = 0.5  # weight of what a sensor did, beside that it took part at all

Signature = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class _Kept:
    kind: str
    opened_ns: int
    summary: str
    signature: Signature


class SimilarIncidents:
    """The signatures of closed incidents, found again by what they share with a new one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._having: dict[tuple[str, str], set[str]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, opened_ns: int, body: Mapping[str, Any]) -> None:
        """Remember an incident (as the API gives it) that has closed; the one kept longest makes room."""
        signature = signature_of(body)
        self.forget(body["id"])
        if not signature:
            return
        self._kept[body["id"]] = _Kept(body["kind"], opened_ns, str(body["summary"])[:_MOST_TEXT], signature)
        for place in signature:
            self._having.setdefault(place, set()).add(body["id"])
        while len(self._kept) > MOST_KEPT:
            self.forget(next(iter(self._kept)))

    def forget(self, incident_id: str) -> None:
        """It is not compared with any more, if it was."""
        kept = self._kept.pop(incident_id, None)
        for place in kept.signature if kept is not None else ():
            having = self._having[place]
            having.discard(incident_id)
            if not having:
                del self._having[place]

    def alike(
        self, body: Mapping[str, Any], verdict: Callable[[str], str | None] = lambda _id: None
    ) -> tuple[SimilarIncident, ...]:
        """The most similar incidents of its kind, the most similar first, of equally similar ones the newest.

        ``verdict``: what people said of an incident.
        """
        signature = signature_of(body)
        products: dict[str, float] = {}
        for place, weight in signature.items():
            for other in self._having.get(place, ()):
                products[other] = products.get(other, 0.0) + weight * self._kept[other].signature[place]
        found = [
            (round(min(product, 1.0), 3), self._kept[other].opened_ns, other)
            for other, product in products.items()
            if product >= _LEAST and other != body["id"] and self._kept[other].kind == body["kind"]
        ]
        return tuple(
            SimilarIncident(other, opened_ns, similarity, self._kept[other].summary, verdict(other))
            for similarity, opened_ns, other in sorted(found, reverse=True)[:_MOST_TOLD]
        )


def signature_of(body: Mapping[str, Any]) -> Signature:
    """Unit vector by (sensor, what it did); empty for an incident without sensors."""
    weights: dict[tuple[str, str], float] = {}
    for part in body["sensors"][:_MOST_SENSORS]:
        name, share, finding = str(part["sensor"]), float(part["share"]), part.get("finding")
        weights[name, ""] = share
        if finding is not None:
            weights[name, str(finding)] = _WHAT_IT_DID * share
    for rule in body.get("rules", ()):
        weights["", str(rule)] = 1.0
    length = math.sqrt(sum(weight**2 for weight in weights.values()))
    return {place: weight / length for place, weight in weights.items()} if length > 0.0 else {}
