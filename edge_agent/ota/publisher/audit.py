"""The publisher's audit log: one JSON line for each action, each with the hash of the line before it.

A line that is changed, removed or put in between breaks the chain; a log that is cut off at the end lacks the entry
whose hash is in the signed timestamp metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_agent.errors import OtaError

AUDIT = "audit.jsonl"
START = "0" * 64


def entry(path: Path, now: datetime, who: str, action: str, details: Mapping[str, Any], anchor: str | None) -> bytes:
    """The next line of the log at ``path``, ended by a line feed; it is not written here.

    ``anchor``: hash of the entry that was signed last. A log that was put aside is followed by one that begins there.

    :raises OtaError: reason ``audit``, the log is not whole.
    """
    number = check(path, anchor)
    head = next((own for _, own in reversed(list(_walk(path)))), anchor or START)
    plain = {"n": number + 1, "time": now.isoformat(timespec="seconds"), "who": who, "action": action}
    return json.dumps({**plain, "details": dict(details), "prev": head}, ensure_ascii=False).encode() + b"\n"


def digest(line: bytes) -> str:
    """What the next entry and the timestamp metadata know an entry by."""
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def check(path: Path, anchor: str | None) -> int:
    """Read the whole log; how many entries it has. ``anchor``: the hash of an entry that must be in it.

    :raises OtaError: reason ``audit``; the line and what is wrong with it are named.
    """
    entries = list(_walk(path))
    if anchor not in (None, START) and path.exists() and not any(anchor in entry for entry in entries):
        raise OtaError(
            "audit",
            f"{path}: the entry that was signed last is not in it: its end was cut off, or it was written anew;"
            " take it back from a back-up, or put it aside to begin a new one",
        )
    return len(entries)


def _walk(path: Path) -> Iterator[tuple[str, str]]:
    """For each entry the hash of the one before it, and its own."""
    if not path.exists():
        return
    head = None
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        try:
            plain = json.loads(line)
            before = str(plain["prev"])
            whole = plain["n"] == number and head in (None, before) and line.endswith(b"\n")
        except (ValueError, KeyError, TypeError):
            before, whole = "", False
        if not whole:
            raise OtaError(
                "audit",
                f"{path}: line {number}: does not follow from the line before it, so the log was tampered with;"
                " take it back from a back-up, or put it aside to begin a new one",
            )
        head = digest(line)
        yield before, head
