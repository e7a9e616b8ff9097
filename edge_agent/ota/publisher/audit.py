"""The publisher's audit log: what :mod:`edge_agent.ota.chain` describes, with every action of the publisher.

An entry is written along with what it is about (:mod:`edge_agent.ota.publisher.journal`), and its hash is in the
signed timestamp metadata; so the end of the log cannot be cut off unnoticed either. The log is never cut here.
"""

from __future__ import annotations

import getpass
import hashlib
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from edge_agent.errors import OtaError
from edge_agent.ota.chain import NOTHING_BEFORE, entries, verify

AUDIT = "audit.jsonl"


def entry(path: Path, now: datetime, by: str, action: str, details: Mapping[str, Any], anchor: str | None) -> bytes:
    """The next line of the log at ``path``, ended by a line feed; it is not written here.

    ``anchor``: hash of the entry that was signed last. A new log, after one that was put aside, ``follows`` it.

    :raises OtaError: reason ``audit``, the log is not whole.
    """
    count = check(path, anchor)
    plain = {"seq": count, "time": now.isoformat(timespec="seconds"), "by": by, "action": action, **details}
    if count == 0 and anchor is not None:
        plain["follows"] = anchor
    return orjson.dumps({**plain, "prev": _newest(path)}) + b"\n"


def actor() -> str:
    """Who acts: user and machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # no name for this user id, as in a container
        return f"unknown@{socket.gethostname()}"


def digest(line: bytes) -> str:
    """What the next entry and the timestamp metadata know an entry by."""
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def check(path: Path, anchor: str | None) -> int:
    """Read the whole log; how many entries it has. ``anchor``: the hash of an entry that must be in it.

    :raises OtaError: reason ``audit``; the line and what is wrong with it are named.
    """
    if not path.exists():
        return 0
    found = verify(path, anchor)
    if found is not None:
        raise OtaError(
            "audit",
            f"{path}: line {found.line}: {found.why}, so it was tampered with; take it back from a back-up, or put it"
            " aside to begin a new one",
        )
    return sum(1 for _ in entries(path))


def _newest(path: Path) -> str:
    lines = path.read_bytes().splitlines() if path.exists() else []
    return digest(lines[-1]) if lines else NOTHING_BEFORE
