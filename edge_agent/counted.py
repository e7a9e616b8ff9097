"""Numbers with their noun, for people. Pure."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 incident``, ``2 incidents``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
