"""Numbers and names in sentences, for people. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping


def counted(count: int, noun: str) -> str:
    """``1 incident``, ``2 incidents``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(details: Mapping[str, object]) -> str:
    """``order 01K, sensors pump.* tank.*, note "pump test"``; what is empty is left out."""
    return ", ".join(f"{name} {_worded(value)}" for name, value in details.items() if value)


def _worded(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_worded(item) for item in value)
    text = str(value)
    # Quoted: what people typed may hold a comma, or a line end that would begin a line of its own.
    printable = text.isprintable()
    return text if printable and not {" ", ",", '"'} & set(text) else json.dumps(text, ensure_ascii=not printable)
