"""The file of the history, read by somebody else than the daemon: while it runs, after it has stopped, or a copy.

Nothing is changed, and no reading transaction lasts longer than one page: a long one would keep the daemon from
emptying its write-ahead log.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from edge_agent.errors import DataFileError, StoreError
from edge_agent.history.readings import ReadingRows, decode
from edge_agent.history.scores import ScoreRows, decode_scores

FILE = "history.db"
_PAGE = 50  # incidents or events at a time: an incident can hold a megabyte
_TABLES = ("incident", "event")  # without them it is no history; the others came later
_FIRST_NS, _LAST_NS = -(2**63), 2**63 - 1
R = TypeVar("R", ReadingRows, ScoreRows)


@dataclass(frozen=True, slots=True)
class Between:
    """From ``since_ns`` until before ``until_ns``, wall time."""

    since_ns: int = _FIRST_NS
    until_ns: int = _LAST_NS


ALWAYS = Between()


class Archive:
    """The open file. Every method may raise :class:`sqlite3.Error`; :func:`opened` makes it a ``DataFileError``."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        missing = [name for name in _TABLES if name not in names]
        if missing:
            raise StoreError(f"it has no table {missing[0]!r}")
        self._tables = names

    def incidents(self, between: Between = ALWAYS) -> Iterator[list[dict[str, Any]]]:
        """Incidents that were open at some time in ``between``, as the API gives them, in the order they opened."""
        verdicts = self._verdicts()
        after: tuple[int, str] = (_FIRST_NS, "")
        while rows := self._database.execute(
            "SELECT opened_ns, id, body FROM incident WHERE (opened_ns, id) > (?, ?) AND opened_ns < ? "
            "AND (closed = 0 OR updated_ns >= ?) ORDER BY opened_ns, id LIMIT ?",
            (*after, between.until_ns, between.since_ns, _PAGE),
        ).fetchall():
            after = rows[-1][:2]
            yield [{**orjson.loads(body), "feedback": verdicts.get(name)} for _, name, body in rows]

    def openings(self) -> Iterator[tuple[str, int, int | None, dict[str, Any], str | None]]:
        """Of each incident in the order they opened: id, when it opened and closed (wall ns; None: it has not), body,
        and what a person said of it."""
        verdicts = self._verdicts()
        rows = self._database.execute(
            "SELECT id, opened_ns, updated_ns, closed, body FROM incident ORDER BY opened_ns"
        ).fetchall()
        for name, opened_ns, updated_ns, closed, body in rows:
            verdict = verdicts.get(name)
            said = None if verdict is None else verdict["verdict"]
            yield name, opened_ns, updated_ns if closed else None, orjson.loads(body), said

    def events(self, between: Between = ALWAYS) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Wall time and body of status events, in the order of time."""
        after: tuple[int, str] = (between.since_ns, "")
        while rows := self._database.execute(
            "SELECT time_ns, id, body FROM event WHERE (time_ns, id) > (?, ?) AND time_ns < ? "
            "ORDER BY time_ns, id LIMIT ?",
            (*after, between.until_ns, _PAGE),
        ).fetchall():
            after = rows[-1][:2]
            yield [(time_ns, orjson.loads(body)) for time_ns, _, body in rows]

    def readings(self, between: Between = ALWAYS) -> Iterator[ReadingRows]:
        """Blocks of readings that have a part in ``between``, in the order they began."""
        for layout, count, body in self._blocks("reading", between):
            yield decode(body, self._sensors(layout), count)

    def scores(self, between: Between = ALWAYS) -> Iterator[ScoreRows]:
        """Blocks of scores that have a part in ``between``, in the order they began."""
        for layout, count, body in self._blocks("score", between):
            yield decode_scores(body, self._sensors(layout), count)

    def most_top(self, between: Between = ALWAYS) -> int:
        """How many sensors the blocks of scores in ``between`` name at most."""
        if "score" not in self._tables:
            return 0
        (most,) = self._database.execute(
            "SELECT max(hex(substr(body, 1, 1))) FROM score WHERE first_ns < ? AND last_ns >= ?",
            (between.until_ns, between.since_ns),
        ).fetchone()
        return int(most or "0", 16)

    def newest_readings(self, most_rows: int) -> list[ReadingRows]:
        """Blocks that hold the newest ``most_rows`` rows (and some more), in the order of time."""
        found: list[ReadingRows] = []
        rows, before = 0, _LAST_NS
        while "reading" in self._tables and rows < most_rows:
            row = self._database.execute(
                "SELECT first_ns, layout, count, body FROM reading WHERE first_ns < ? ORDER BY first_ns DESC LIMIT 1",
                (before,),
            ).fetchone()
            if row is None:
                break
            before, layout, count, body = row
            found.append(decode(body, self._sensors(layout), count))
            rows += count
        return found[::-1]

    def sensors(self, table: str, between: Between = ALWAYS) -> tuple[str, ...]:
        """Every sensor that the blocks of ``table`` (``reading`` or ``score``) in ``between`` know."""
        if table not in self._tables:
            return ()
        rows = self._database.execute(
            f"SELECT layout FROM {table} WHERE first_ns < ? AND last_ns >= ? "  # noqa: S608 - one of two names
            "GROUP BY layout ORDER BY max(first_ns) DESC",
            (between.until_ns, between.since_ns),
        ).fetchall()
        return tuple(dict.fromkeys(name for (layout,) in rows for name in self._sensors(layout)))

    def _blocks(self, table: str, between: Between) -> Iterator[tuple[str, int, bytes]]:
        after = _FIRST_NS
        while table in self._tables:
            row = self._database.execute(
                f"SELECT first_ns, layout, count, body FROM {table} "  # noqa: S608 - one of two names
                "WHERE first_ns > ? AND first_ns < ? AND last_ns >= ? ORDER BY first_ns LIMIT 1",
                (after, between.until_ns, between.since_ns),
            ).fetchone()
            if row is None:
                return
            after = row[0]
            yield row[1:]

    def _sensors(self, layout: str) -> tuple[str, ...]:
        row = self._database.execute("SELECT sensors FROM layout WHERE id = ?", (layout,)).fetchone()
        if row is None:
            raise StoreError(f"the names of the sensors of a block ({layout}) are missing")
        return tuple(orjson.loads(zlib.decompress(row[0])))

    def _verdicts(self) -> dict[str, dict[str, Any]]:
        if "feedback" not in self._tables:
            return {}
        rows = self._database.execute("SELECT incident, verdict, note, actor FROM feedback").fetchall()
        return {row[0]: dict(zip(("verdict", "note", "by"), row[1:], strict=True)) for row in rows}


def history_file(path: Path | str) -> Path:
    """The file of the history at ``path``: that file, or the data folder it is in. :raises DataFileError: not found."""
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise DataFileError(f"{path}: not found, expected a history of the daemon ({FILE} in its data folder)")
    return path


@contextmanager
def opened(path: Path | str) -> Iterator[Archive]:
    """The history at ``path``, as :func:`history_file` finds it.

    :raises DataFileError: it is not there, is no history, or is damaged; also for what happens inside the block.
    """
    path = history_file(path)
    database: sqlite3.Connection | None = None
    try:
        database = _connect(path)
        yield Archive(database)
    except (sqlite3.Error, StoreError, zlib.error, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read as a history of the daemon: {error}") from error
    finally:
        if database is not None:
            database.close()


def _connect(path: Path) -> sqlite3.Connection:
    uri = path.resolve().as_uri()
    database = sqlite3.connect(f"{uri}?mode=ro", uri=True)
    try:
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        # A copy in a folder that we may not write to: SQLite wants its helper files beside it, unless it is told that
        # nobody else has the file open.
        database.close()
        if path.with_name(path.name + "-wal").exists():
            raise
        database = sqlite3.connect(f"{uri}?mode=ro&immutable=1", uri=True)
    return database
