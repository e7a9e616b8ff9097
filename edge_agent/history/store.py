"""Incidents, events, feedback, scores, readings in SQLite: a ring with a hard size cap. Blocking; for one thread.

WAL and ``synchronous=FULL``: what is committed survives power loss. Checkpoints are made here and not by SQLite, so
that every byte written is known, and database and WAL together stay below the cap.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from edge_agent.history.readings import ReadingRows, encode
from edge_agent.history.scores import ScoreRows, encode_scores

PAGE = 4096
_FRAME = PAGE + 24
COMPANIONS = ("-wal", "-shm")
_VERSION = 1
_SCHEMA = """
CREATE TABLE incident (
    id TEXT PRIMARY KEY, opened_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, closed INTEGER NOT NULL,
    state TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX incident_by_age ON incident (closed, updated_ns);
CREATE INDEX incident_by_time ON incident (opened_ns);
CREATE TABLE event (id TEXT PRIMARY KEY, time_ns INTEGER NOT NULL, body BLOB NOT NULL);
CREATE INDEX event_by_time ON event (time_ns);
"""
# Came later; an older agent does not look at them, so the version stays.
_ADDED = """
CREATE TABLE IF NOT EXISTS feedback (
    incident TEXT PRIMARY KEY, verdict TEXT NOT NULL, note TEXT NOT NULL, actor TEXT NOT NULL, time_ns INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS layout (id TEXT PRIMARY KEY, sensors BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS reading (
    first_ns INTEGER PRIMARY KEY, last_ns INTEGER NOT NULL, layout TEXT NOT NULL, count INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS score (
    first_ns INTEGER PRIMARY KEY, last_ns INTEGER NOT NULL, layout TEXT NOT NULL, count INTEGER NOT NULL,
    body BLOB NOT NULL
);
"""
_MOST_FEEDBACK = 10_000
_MOST_TOLD = 100  # damaged rows
_INCIDENT_KEYS = ("id", "state", "opened", "updated")
_EVENT_KEYS = ("id",)
_log = logging.getLogger("edge_agent.history")


_OLDEST_READINGS = ("reading", "1", "first_ns")
_OLDEST_SCORES = ("score", "1", "first_ns")
_VICTIMS = (
    _OLDEST_READINGS,
    _OLDEST_SCORES,
    ("incident", "closed = 1", "updated_ns"),
    ("event", "1", "time_ns"),
    ("incident", "1", "updated_ns"),
)
"""What makes room for incidents and events, in this order: table, condition, and the column by which it is old."""


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """One incident as it stands; ``body`` is the JSON that the API gives out."""

    id: str
    opened_ns: int
    updated_ns: int
    closed: bool
    state: str
    body: bytes


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event; ``body`` is JSON."""

    id: str
    time_ns: int
    body: bytes


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """What ``actor`` said of an incident at ``time_ns``."""

    incident: str
    verdict: str
    note: str
    actor: str
    time_ns: int


class RingStore:
    """The open database. Every method may raise :class:`sqlite3.Error`."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.bytes_written = 0
        self._wal = path.with_name(path.name + "-wal")
        # A quarter for the WAL: half of it between two checkpoints, the rest for the transaction that goes beyond.
        self._wal_limit = max_bytes // 8
        self._max_pages = max_bytes * 3 // 4 // PAGE
        self._path = path
        self._unreadable: set[str] = set()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.text_factory = _text
        try:
            self._prepare()
        except BaseException:
            self._database.close()
            raise

    def _prepare(self) -> None:
        run = self._database.execute
        run(f"PRAGMA page_size={PAGE}")
        run("PRAGMA auto_vacuum=INCREMENTAL")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run("PRAGMA wal_autocheckpoint=0")
        run("PRAGMA cache_size=-512")
        (version,) = run("PRAGMA user_version").fetchone()
        if version == 0:
            before = self._wal_size()
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
            self.bytes_written += max(0, self._wal_size() - before)
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"made by another version (schema {version}, expected {_VERSION})")
        before = self._wal_size()
        self._database.executescript(_ADDED)
        self.bytes_written += max(0, self._wal_size() - before)
        run("SELECT count(*) FROM incident WHERE closed = 0").fetchone()
        self._shrink()
        run(f"PRAGMA max_page_count={self._max_pages}")

    def write(self, incidents: Sequence[IncidentRow], events: Sequence[EventRow], forget_before_ns: int | None) -> None:
        """Insert or replace in one transaction, after making room. Returned means durable.

        Closed incidents and events older than ``forget_before_ns`` go; beyond the cap the oldest closed ones go first.
        """
        self._make_room(_size(incidents) + _size(events))
        with self._transaction() as run:
            if forget_before_ns is not None:
                run("DELETE FROM incident WHERE closed = 1 AND updated_ns < ?", (forget_before_ns,))
                run("DELETE FROM event WHERE time_ns < ?", (forget_before_ns,))
                self._forget_blocks(forget_before_ns)
            self._database.executemany(
                "INSERT OR REPLACE INTO incident VALUES (?, ?, ?, ?, ?, ?)",
                [(r.id, r.opened_ns, r.updated_ns, int(r.closed), r.state, r.body) for r in incidents],
            )
            self._database.executemany(
                "INSERT OR REPLACE INTO event VALUES (?, ?, ?)",
                [(row.id, row.time_ns, row.body) for row in events],
            )

    def write_block(self, rows: ReadingRows | ScoreRows, forget_before_ns: int | None) -> bool:
        """Append a block of readings or scores; older blocks make room for it, incidents and events never do, and
        scores never for readings. Blocks that end before ``forget_before_ns`` go. False: there is no room."""
        scores = isinstance(rows, ScoreRows)
        table, victims = ("score", (_OLDEST_READINGS, _OLDEST_SCORES)) if scores else ("reading", (_OLDEST_READINGS,))
        body = encode_scores(rows) if isinstance(rows, ScoreRows) else encode(rows)
        names = zlib.compress(orjson.dumps(rows.sensors))
        if not self._make_room(len(body) + len(names), victims):
            return False
        with self._transaction() as run:
            if forget_before_ns is not None:
                self._forget_blocks(forget_before_ns)
            run("INSERT OR IGNORE INTO layout VALUES (?, ?)", (rows.layout, names))
            span = int(rows.time_ns[0]), int(rows.time_ns[-1])
            run(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?)",  # noqa: S608 - one of two constants
                (*span, rows.layout, len(rows), body),
            )
        return True

    def _forget_blocks(self, before_ns: int) -> None:
        for table in ("reading", "score"):
            self._database.execute(f"DELETE FROM {table} WHERE last_ns < ?", (before_ns,))  # noqa: S608 - constants

    def write_feedback(self, row: FeedbackRow) -> bool:
        """Insert or replace, durable on return; the newest 10,000 are kept. Always True."""
        self._make_room(len(row.note) + 200)
        with self._transaction() as run:
            values = (row.incident, row.verdict, row.note, row.actor, row.time_ns)
            run("INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?)", values)
            run(
                "DELETE FROM feedback WHERE rowid IN "
                "(SELECT rowid FROM feedback ORDER BY time_ns DESC LIMIT -1 OFFSET ?)",
                (_MOST_FEEDBACK,),
            )
        return True

    def try_to_write(self) -> bool:
        """Write one page that changes nothing, durable on return. Always True."""
        before = self._wal_size()
        self._database.execute(f"PRAGMA user_version={_VERSION}")
        self._wrote_since(before)
        return True

    def feedback(self) -> dict[str, FeedbackRow]:
        """What was said, by incident."""
        rows = self._database.execute(
            "SELECT CAST(incident AS TEXT), verdict, CAST(note AS TEXT), CAST(actor AS TEXT), CAST(time_ns AS INTEGER) "
            "FROM feedback"
        )
        return {row[0]: FeedbackRow(*row) for row in rows}

    def checkpoint(self) -> None:
        """Move the WAL into the database and empty it."""
        _, _, pages = self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self.bytes_written += max(0, pages) * PAGE
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def incidents(self, limit: int, states: Sequence[str], since_ns: int) -> list[tuple[int, dict[str, Any]]]:
        """Opening time and body, latest opened first; only those in ``states`` and updated at ``since_ns`` or later."""
        marks = ",".join("?" * len(states))
        rows = self._database.execute(
            f"SELECT CAST(opened_ns AS INTEGER), id, body FROM incident WHERE state IN ({marks}) AND updated_ns >= ? "  # noqa: S608 - only question marks are put in
            "ORDER BY opened_ns DESC LIMIT ?",
            (*states, since_ns, limit),
        )
        return self._readable(rows, _INCIDENT_KEYS)

    def closed_incidents(self, most: int) -> Iterator[tuple[int, bytes]]:
        """Opening time and body (JSON) of the ``most`` closed last, the oldest first; one at a time in memory."""
        rows = self._database.execute(
            "SELECT rowid FROM incident WHERE closed = 1 ORDER BY updated_ns DESC LIMIT ?", (most,)
        ).fetchall()
        for (row,) in reversed(rows):
            yield from self._database.execute("SELECT opened_ns, body FROM incident WHERE rowid = ?", (row,))

    def incident(self, incident_id: str) -> dict[str, Any] | None:
        """Body of one incident."""
        rows = self._database.execute("SELECT opened_ns, id, body FROM incident WHERE id = ?", (incident_id,))
        return next((body for _, body in self._readable(rows, _INCIDENT_KEYS)), None)

    def events(self, limit: int, since_ns: int) -> list[tuple[int, dict[str, Any]]]:
        """Time and body, latest first."""
        rows = self._database.execute(
            "SELECT CAST(time_ns AS INTEGER), id, body FROM event WHERE time_ns >= ? ORDER BY time_ns DESC LIMIT ?",
            (since_ns, limit),
        )
        return self._readable(rows, _EVENT_KEYS)

    def close(self) -> None:
        """Checkpoint and close."""
        try:
            self.checkpoint()
        finally:
            self._database.close()

    def abandon(self) -> None:
        """Close without writing: the file is damaged."""
        self._database.close()

    def _readable(self, rows: Iterable[tuple[int, Any, Any]], keys: Sequence[str]) -> list[tuple[int, dict[str, Any]]]:
        """Times and bodies. SQLite has no checksums: a row that is damaged is passed over and told once."""
        found = []
        for time_ns, row_id, raw in rows:
            with suppress(orjson.JSONDecodeError):
                body = orjson.loads(raw)
                if isinstance(body, dict) and all(isinstance(body.get(key), str) for key in keys):
                    found.append((time_ns, body))
                    continue
            if row_id not in self._unreadable and len(self._unreadable) < _MOST_TOLD:
                self._unreadable.add(row_id)
                _log.error("%s: %r in it is damaged and passed over", self._path, row_id)
        return found

    @contextmanager
    def _transaction(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """All that is executed by what this gives, or nothing of it; durable, and its bytes counted, on leaving."""
        before = self._wal_size()
        run = self._database.execute
        run("BEGIN IMMEDIATE")
        try:
            yield run
            run("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                run("ROLLBACK")
            raise
        self._wrote_since(before)

    def _wrote_since(self, wal_bytes: int) -> None:
        self.bytes_written += max(0, self._wal_size() - wal_bytes)
        if self._wal_size() > self._wal_limit:
            self.checkpoint()

    def _make_room(self, coming_bytes: int, victims: Sequence[tuple[str, str, str]] = _VICTIMS) -> bool:
        """Delete from ``victims``, the oldest first, until ``coming_bytes`` fit; False when they do not even then."""
        needed = coming_bytes // PAGE * 5 // 4 + 8 + self._max_pages // 20
        for table, condition, order in victims:
            while self._max_pages - self._used_pages() < needed:
                if not self._delete_oldest(table, condition, order):
                    break
        return self._max_pages - self._used_pages() >= needed

    def _shrink(self) -> None:
        """Meet a cap that has been made smaller."""
        excess = self._pages()[0] - self._max_pages
        if excess > 0:
            self._make_room(0)
            # A script, because `execute` takes one step only, and that frees one page.
            self._database.executescript(f"PRAGMA incremental_vacuum({excess})")
            self.checkpoint()

    def _delete_oldest(self, table: str, condition: str, order: str) -> int:
        before = self._wal_size()
        cursor = self._database.execute(
            f"DELETE FROM {table} WHERE rowid IN "  # noqa: S608 - constants of this module
            f"(SELECT rowid FROM {table} WHERE {condition} ORDER BY {order} LIMIT "
            f"(SELECT 1 + count(*) / 20 FROM {table}))"
        )
        self._wrote_since(before)
        return cursor.rowcount

    def _used_pages(self) -> int:
        total, free = self._pages()
        return total - free

    def _pages(self) -> tuple[int, int]:
        (total,) = self._database.execute("PRAGMA page_count").fetchone()
        (free,) = self._database.execute("PRAGMA freelist_count").fetchone()
        return total, free

    def _wal_size(self) -> int:
        try:
            return self._wal.stat().st_size
        except FileNotFoundError:
            return 0


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def split_by_size(rows: Iterable[IncidentRow | EventRow], max_bytes: int) -> list[list[IncidentRow | EventRow]]:
    """Rows in parts of about ``max_bytes``, so that one transaction does not outgrow the WAL's share."""
    parts: list[list[IncidentRow | EventRow]] = []
    size = max_bytes
    for row in rows:
        size += _size([row])
        if size > max_bytes:
            parts.append([])
            size = _size([row])
        parts[-1].append(row)
    return parts


def _size(rows: Sequence[IncidentRow | EventRow]) -> int:
    return sum(len(row.body) + 200 for row in rows)
