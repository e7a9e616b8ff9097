"""The audit log of updates: each entry carries the hash of the one before it, so that no entry can be changed unseen.

An entry is one line of JSON with ``seq`` (0, 1, …), ``time``, ``action``, who acted (``by``) and ``prev``: sha256 of
the whole line before it, without its end. Whoever changes, removes or inserts a line breaks the chain right after it.
The end of the log can still be cut off; therefore status reports carry the head, and :func:`verify` takes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from edge_agent.durable import make_folder
from edge_agent.errors import StoreError
from edge_agent.history.audit import KEPT, AuditLog

NOTHING_BEFORE = "0" * 64
"""``prev`` of the very first entry."""

_MOST_ENTRIES = 2**53


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold: ``line`` (from 1) of ``file``, and the ``seq`` that is expected there."""

    file: str
    line: int
    seq: int | None
    why: str


class ChainedLog(AuditLog):
    """An :class:`~edge_agent.history.audit.AuditLog` whose entries are chained, also over its files.

    A line that was torn by a power loss is cut off before the next one is added: it was never acknowledged.
    """

    def __init__(self, path: Path, max_bytes: int = 1_000_000) -> None:
        super().__init__(path, max_bytes)
        self._end: tuple[int, str] | None = None

    def append(self, entry: Mapping[str, Any]) -> int:
        """Add ``entry`` with its place in the chain; as :meth:`AuditLog.append`."""
        with self._lock:
            try:
                seq, prev = self._end or self._repaired()
                line = orjson.dumps({"seq": seq, **entry, "prev": prev})
                self._end = None  # if writing fails half-way, the torn line is found again
                self._rotate(len(line) + 1)
                written = self._write(line + b"\n")
            except OSError as error:
                raise StoreError(f"{self.path}: cannot be written: {error.strerror or error}") from error
            self._end = (seq + 1, hashlib.sha256(line).hexdigest())
            return written

    def head(self) -> str | None:
        """Hash of the newest entry, None when there is none. :raises StoreError: the files cannot be read."""
        with self._lock:
            try:
                self._end = self._end or self._repaired()
            except OSError as error:
                raise StoreError(f"{self.path}: cannot be used: {error.strerror or error}") from error
            return None if self._end[1] == NOTHING_BEFORE else self._end[1]

    def _repaired(self) -> tuple[int, str]:
        """Number of the next entry and hash of the newest, after the torn end was cut off."""
        make_folder(self.path.parent)
        self._cut_torn_end()
        for path in files(self.path)[::-1]:
            for line in reversed(path.read_bytes().splitlines()):
                entry = _entry(line)
                if entry is not None:
                    return entry["seq"] + 1, hashlib.sha256(line).hexdigest()
        return 0, NOTHING_BEFORE

    def _cut_torn_end(self) -> None:
        """Only what is no entry goes: an entry that was changed by somebody stays, for :func:`verify` to find."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        end = content.rfind(b"\n") + 1
        while end:
            begin = content.rfind(b"\n", 0, end - 1) + 1
            if _entry(content[begin : end - 1]) is not None:
                break
            end = begin
        if end < len(content):
            with self.path.open("r+b") as file:
                file.truncate(end)


def files(path: Path) -> list[Path]:
    """The files of the log, oldest first."""
    candidates = [*(path.with_name(f"{path.name}.{number}") for number in range(KEPT, 0, -1)), path]
    return [file for file in candidates if file.exists()]


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """Every entry that can be read, oldest first; whether the chain holds is not looked at."""
    for file in files(path):
        for line in file.read_bytes().splitlines():
            entry = _entry(line)
            if entry is not None:
                yield entry


def verify(path: Path, head: str | None = None) -> Break | None:
    """The first place where the log was tampered with, None when it holds.

    ``head``: hash of an entry that was reported lately; it must be among those kept. Without it, a change of the newest
    entry and a cut after it are not seen. :raises StoreError: a file cannot be read.
    """
    kept = files(path)
    walk = _Walk(complete=len(kept) <= KEPT, head=head)
    for file in kept:
        try:
            lines = file.read_bytes().split(b"\n")
        except OSError as error:
            raise StoreError(f"{file}: cannot be read: {error.strerror or error}") from error
        if lines[-1] and file != path:
            return Break(file.name, len(lines), walk.seq, "torn, expected a line that ends")
        for number, line in enumerate(lines[:-1], 1):
            found = walk.step(file.name, number, line)
            if found is not None:
                return found
    if head is not None and not walk.head_seen:
        seq = None if walk.seq is None else walk.seq - 1
        return Break(*walk.at, seq, "not what was reported: it was changed, or what came after it was cut off")
    return None


class _Walk:
    """Goes along a chain. ``seq``: number of the entry that is expected next; ``at``: file and line of the newest."""

    def __init__(self, *, complete: bool, head: str | None) -> None:
        self.seq: int | None = 0 if complete else None
        self.at = ("", 0)
        self.head_seen = False
        self._head = head
        self._prev = NOTHING_BEFORE if complete else None

    def step(self, file: str, number: int, line: bytes) -> Break | None:
        """Why ``line`` does not follow, None when it does."""
        entry = _entry(line)
        if entry is None:
            return Break(file, number, self.seq, "not an entry")
        if self.seq is not None and entry["seq"] != self.seq:
            return Break(file, number, self.seq, f"got entry {entry['seq']}, expected {self.seq}")
        if self._prev is not None and entry["prev"] != self._prev:
            if self.seq == 0:
                return Break(file, number, 0, "not the first entry")
            return Break(*self.at, entry["seq"] - 1, "changed after the entry that follows it was written")
        self._prev = hashlib.sha256(line).hexdigest()
        self.seq, self.at = entry["seq"] + 1, (file, number)
        self.head_seen |= self._head in (self._prev, entry["prev"])
        return None


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("prev"), str):
        return None
    seq = found.get("seq")
    return found if type(seq) is int and 0 <= seq < _MOST_ENTRIES else None
