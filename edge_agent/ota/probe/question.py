"""What the agent asks its probing child, as one line of JSON. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

GATE, PROBE = "gate", "probe"
MAX_LINE = 65_536
"""Longest question and longest answer, in bytes."""


@dataclass(frozen=True, slots=True)
class Question:
    """``action``: gate or probe. ``p99_ms``, ``rss_mb``: instead of what the bundle itself says, if not None.

    ``memory_bytes``: address space beyond what the child has when it begins, to which four times the size of the file
    is added; None: not limited. ``cpu_s``: processor time from then on.
    """

    action: str
    path: str
    memory_bytes: int | None
    cpu_s: float
    p99_ms: float | None = None
    rss_mb: float | None = None

    def to_json(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, line: str) -> Question:
        """Read what :meth:`to_json` gave. :raises ValueError: it is none, the parent went away while it asked."""
        plain = json.loads(line)
        if not isinstance(plain, dict):
            raise ValueError(f"got {line[:64]!r}, expected a question")
        return cls(**plain)
