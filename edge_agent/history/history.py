"""The history as the daemon sees it: recording never waits for the disk, and a bad disk never stops the daemon."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import Field

from edge_agent.clock import NS_PER_S, Clock
from edge_agent.durable import quarantine
from edge_agent.errors import StoreError
from edge_agent.graph.snapshot import Snapshot
from edge_agent.history.readings import ReadingRows, ReadingSampler, ReadingsOptions
from edge_agent.history.scores import ScoreRows, ScoreSampler, ScoresOptions
from edge_agent.history.similar import MOST_KEPT, SimilarIncidents
from edge_agent.history.store import COMPANIONS, EventRow, FeedbackRow, IncidentRow, RingStore, split_by_size
from edge_agent.metrics import Metrics
from edge_agent.options import ByteSize, Duration, Options
from edge_agent.verdict import Event, Feedback, Incident, IncidentState, Scores, rfc3339

T = TypeVar("T")

_WAITING = 1_000
"""Incidents, and as many events, kept in memory while they cannot be written."""
_WAITING_BLOCKS = 4
_RETRY_MAX_S = 300.0
_CORRUPT = ("malformed", "not a database", "another version", "no such table", "no such column", "disk image")


class HistoryOptions(Options):
    """Options of the history."""

    enabled: bool = Field(default=True, description="Keep incidents and events across restarts.")
    path: str = Field(default="history.db", min_length=1, description="File, relative to the data directory.")
    max_bytes: ByteSize = Field(
        default=50_000_000, ge=1_000_000, description="Most disk space; beyond it the oldest closed incidents go first."
    )
    retention: Duration | None = Field(
        default=None,
        gt=0,
        description="How long closed incidents, events, readings and scores are kept, by the wall clock. "
        "Default: as long as they fit.",
    )
    flush: Duration = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longest time until an incident is on the disk; what comes meanwhile is written with it.",
    )
    readings: ReadingsOptions = Field(
        default=ReadingsOptions(), description="Readings kept in the same file, to train a model of this plant from."
    )
    scores: ScoresOptions = Field(
        default=ScoresOptions(), description="Scores kept in the same file, to look back at and to export."
    )


class History:
    """Incidents and events, durable after at most ``flush``. One instance a file, used from one event loop.

    While the file cannot be written (disk full, read-only) the newest 1,000 incidents and events are kept in memory
    and tried again; failures are counted in ``store_failures``. A damaged file is put aside, and a new one begun.
    """

    def __init__(self, path: Path, options: HistoryOptions, metrics: Metrics, clock: Clock) -> None:
        self._path = path
        self._options = options
        self._clock = clock
        self._bytes = metrics.store_bytes.labels("history")
        self._failures = metrics.store_failures.labels("history")
        self._log = logging.getLogger("edge_agent.history")
        self._incidents: dict[str, IncidentRow] = {}
        self._events: dict[str, EventRow] = {}
        self._something = asyncio.Event()
        self._writing = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._store: RingStore | None = None
        self._largest = options.max_bytes // 16
        every_s = options.readings.every
        self._sampler = None if every_s is None else ReadingSampler(options.readings, every_s, self._largest)
        scores_every_s = options.scores.every
        self._score_sampler = None if scores_every_s is None else ScoreSampler(options.scores, scores_every_s)
        self._blocks: list[ReadingRows | ScoreRows] = []
        self._feedback: dict[str, FeedbackRow] | None = None
        self._similar = SimilarIncidents()
        self.failing = False
        """True while the disk does not take it, or cannot be read; tried again."""
        self._refused = False  # by a write: that something can be read does not say that it can be written
        self._flusher: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, options: HistoryOptions, metrics: Metrics, clock: Clock) -> History:
        """Open or create ``path``. Never fails: without a usable file the history lives in memory and keeps trying."""
        history = cls(path, options, metrics, clock)
        if options.enabled:
            history._similar = await history._on_disk(_closed_ones) or history._similar
            await history._all_feedback()
            history._flusher = asyncio.create_task(history._flush_for_ever(), name="history flush")
        return history

    async def record(self, incident: Incident) -> list[dict[str, Any]]:
        """Remember ``incident`` as it now stands; an earlier state of it is replaced. Does not wait for the disk.

        Which ones looked like it (see :meth:`similar`) is remembered with it, and given back.
        """
        body = incident.to_dict()
        similar = body["similar"] = self.similar(body)
        content = _json(body)
        if len(content) > self._largest:  # an incident must never be too large to be kept
            content = _json({**body, "series": {}, "expected_series": {}})
        closed = incident.state is IncidentState.CLOSED
        if closed:
            self._similar.keep(incident.opened_ns, body)
        row = IncidentRow(incident.id, incident.opened_ns, incident.updated_ns, closed, incident.state.value, content)
        self._incidents.pop(incident.id, None)
        self._incidents[incident.id] = row
        self._added(self._incidents)
        return similar

    async def end_unwatched(self, watched: Collection[str]) -> int:
        """After a start: what is open here but not among ``watched`` ids has ended, and is told so; how many did.

        The agent was killed before their end was on the disk, or has lost what it knew of them.
        """
        states = _states(IncidentState.OPEN)
        found = await self._on_disk(lambda store: store.incidents(_WAITING, states, 0)) or []
        now_ns = self._clock.wall_ns()
        ended = {"state": IncidentState.CLOSED.value, "updated": rfc3339(now_ns), "closed": rfc3339(now_ns)}
        left = [(opened_ns, body) for opened_ns, body in found if body["id"] not in watched]
        for opened_ns, body in left:
            content = _json({**body, **ended})
            row = IncidentRow(body["id"], opened_ns, now_ns, True, IncidentState.CLOSED.value, content)
            self._incidents[row.id] = row
            self._added(self._incidents)
        return len(left)

    def similar(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """Closed incidents that looked like this one (as the API gives it), the most similar first.

        Compared with the newest 500, from memory; what people said of them is told as well.
        """
        return [other.to_dict() for other in self._similar.alike(body, self._verdict)]

    def _verdict(self, incident_id: str) -> str | None:
        row = (self._feedback or {}).get(incident_id)
        return None if row is None else row.verdict

    async def record_event(self, event: Event) -> None:
        """Remember ``event``; does not wait for the disk."""
        content = _json({"id": event.id, "kind": event.kind, **event.body})
        self._events[event.id] = EventRow(event.id, event.time_ns, content)
        self._added(self._events)

    def observe(self, snapshot: Snapshot, *, alarm: bool) -> None:
        """Keep the readings of this tick, if that is wanted and it is time. Does not wait for the disk."""
        rows = None if self._sampler is None else self._sampler.take(snapshot, alarm=alarm)
        if rows is not None:
            self._keep(rows)

    def observe_scores(
        self, snapshot: Snapshot, scores: Scores, plant: float | None, p_value: float | None, *, alarm: bool
    ) -> None:
        """Keep the scores of this tick, if that is wanted and it stands out. Does not wait for the disk.

        ``plant``, ``p_value``: what the decision says of the whole plant.
        """
        if self._score_sampler is None:
            return
        rows = self._score_sampler.take(snapshot.time_ns, snapshot.sensors, scores, plant, p_value, alarm=alarm)
        if rows is not None:
            self._keep(rows)

    async def judge(self, incident_id: str, verdict: Feedback, note: str, actor: str) -> dict[str, Any] | None:
        """Keep what a person says of an incident, durable on return; None: there is no such incident.

        Said again it changes nothing, not even the time; another verdict or note replaces the first.
        :raises StoreError: it could not be written.
        """
        if await self.incident(incident_id) is None:
            return None
        known = (await self._all_feedback()).get(incident_id)
        row = FeedbackRow(incident_id, verdict.value, note, actor, self._clock.wall_ns())
        if known is not None and (known.verdict, known.note) == (row.verdict, row.note):
            return _told(known)
        if not await self._on_disk(lambda store: store.write_feedback(row), writes=True):
            raise StoreError(f"{self._path}: feedback on {incident_id} could not be written; say it again later")
        (await self._all_feedback())[incident_id] = row
        return _told(row)

    async def incidents(
        self, limit: int = 100, state: IncidentState | None = None, since_ns: int | None = None
    ) -> list[dict[str, Any]]:
        """Incidents as :meth:`Incident.to_dict` gives them, latest opened first.

        ``state`` OPEN means not closed (open or updated). ``since_ns``: only those that changed then or later.
        """
        states = _states(state)
        since = 0 if since_ns is None else since_ns
        waiting = dict(self._incidents)
        stored = await self._on_disk(lambda store: store.incidents(limit + len(waiting), states, since)) or []
        fresh = [
            (row.opened_ns, orjson.loads(row.body))
            for row in waiting.values()
            if row.state in states and row.updated_ns >= since
        ]
        known = [(opened_ns, body) for opened_ns, body in stored if body.get("id") not in waiting]
        found = sorted(known + fresh, key=lambda item: item[0], reverse=True)[:limit]
        feedback = await self._all_feedback()
        return [_with_feedback(body, feedback) for _, body in found]

    async def incident(self, incident_id: str) -> dict[str, Any] | None:
        """One incident as it stands, or None."""
        waiting = self._incidents.get(incident_id)
        if waiting is not None:
            body: dict[str, Any] | None = orjson.loads(waiting.body)
        else:
            body = await self._on_disk(lambda store: store.incident(incident_id))
        return None if body is None else _with_feedback(body, await self._all_feedback())

    async def events(self, limit: int = 100, since_ns: int | None = None) -> list[dict[str, Any]]:
        """Bodies of events with their ``id`` and ``kind``, latest first."""
        since = 0 if since_ns is None else since_ns
        waiting = dict(self._events)
        stored = await self._on_disk(lambda store: store.events(limit + len(waiting), since)) or []
        fresh = [(row.time_ns, orjson.loads(row.body)) for row in waiting.values() if row.time_ns >= since]
        known = [(time_ns, body) for time_ns, body in stored if body.get("id") not in waiting]
        return [body for _, body in sorted(known + fresh, key=lambda item: item[0], reverse=True)[:limit]]

    async def flush(self) -> bool:
        """Write what is waiting. False when it could not be written: it stays in memory."""
        if not self._options.enabled:
            return True
        async with self._writing:
            incidents, events = dict(self._incidents), dict(self._events)
            rows: list[IncidentRow | EventRow] = [*incidents.values(), *events.values()]
            if rows and not await self._on_disk(lambda store: self._write(store, rows), writes=True):
                return False
            # What has changed while it was being written stays.
            _remove_written(self._incidents, incidents)
            _remove_written(self._events, events)
            if not await self._flush_blocks():
                return False
            if self.failing and not await self._on_disk(RingStore.try_to_write, writes=True):
                return False
            self._refused = False
            self._usable_again()
            return True

    async def close(self) -> None:
        """Write what is waiting and close the file."""
        if self._flusher is not None:
            self._flusher.cancel()
            with suppress(asyncio.CancelledError):
                await self._flusher
        for sampler in (self._sampler, self._score_sampler):
            rest = None if sampler is None else sampler.finish()
            if rest is not None:
                self._keep(rest)
        if not await self.flush():
            self._log.error(
                "%s: %d incidents and events could not be written and are lost",
                self._path,
                len(self._incidents) + len(self._events),
            )
        if self._store is not None:
            await self._on_disk(RingStore.close)
            self._store = None
        self._thread.shutdown(wait=False)

    def _keep(self, rows: ReadingRows | ScoreRows) -> None:
        self._blocks.append(rows)
        alike = [place for place, block in enumerate(self._blocks) if type(block) is type(rows)]
        if len(alike) > _WAITING_BLOCKS:
            del self._blocks[alike[0]]
            self._failures.inc()
        self._something.set()

    async def _flush_blocks(self) -> bool:
        while self._blocks:
            rows = self._blocks[0]
            forget_before_ns = self._forget_before_ns()
            written = await self._on_disk(
                lambda store, rows=rows, before=forget_before_ns: store.write_block(rows, before),  # type: ignore[misc]
                writes=True,
            )
            if written is None:
                return False
            if not written:
                self._failures.inc()  # incidents and events fill the file
            if self._blocks and self._blocks[0] is rows:
                del self._blocks[0]
        return True

    async def _all_feedback(self) -> dict[str, FeedbackRow]:
        if self._feedback is None:
            self._feedback = await self._on_disk(RingStore.feedback)
        return {} if self._feedback is None else self._feedback

    def _added(self, waiting: dict[str, Any]) -> None:
        while len(waiting) > _WAITING:
            waiting.pop(next(iter(waiting)))
            self._failures.inc()
        self._something.set()

    async def _flush_for_ever(self) -> None:
        """Wait for something, gather for a while, write; after a failure wait longer and longer."""
        pause_s = self._options.flush
        while True:
            await self._something.wait()
            await self._clock.sleep_until(self._clock.monotonic_ns() + int(pause_s * NS_PER_S))
            self._something.clear()
            if await self.flush():
                pause_s = self._options.flush
            else:
                pause_s = min(_RETRY_MAX_S, max(1.0, pause_s * 2))
                self._something.set()

    def _write(self, store: RingStore, rows: list[IncidentRow | EventRow]) -> bool:
        forget_before_ns = self._forget_before_ns()
        for part in split_by_size(rows, self._largest):
            store.write(
                [row for row in part if isinstance(row, IncidentRow)],
                [row for row in part if isinstance(row, EventRow)],
                forget_before_ns,
            )
        return True

    def _forget_before_ns(self) -> int | None:
        retention_s = self._options.retention
        return None if retention_s is None else self._clock.wall_ns() - int(retention_s * NS_PER_S)

    async def _on_disk(self, work: Callable[[RingStore], T], *, writes: bool = False) -> T | None:
        """Do ``work`` in the thread of the store; None when the disk or the file prevents it (counted, logged once)."""
        if not self._options.enabled:
            return None
        loop = asyncio.get_running_loop()
        result, written, failure = await loop.run_in_executor(self._thread, self._attempt, work)
        self._bytes.inc(written)
        if failure is not None:
            self._failures.inc()
            if not self.failing:
                self._log.error("%s: %s; kept in memory and tried again", self._path, failure)
            self.failing = True
            self._something.set()  # to find out when it can be used again
            self._refused = self._refused or writes
        else:
            self._usable_again()
        return result

    def _usable_again(self) -> None:
        if self.failing and not self._refused:
            self._log.info("%s: can be used again", self._path)
            self.failing = False

    def _attempt(self, work: Callable[[RingStore], T], again: bool = True) -> tuple[T | None, int, str | None]:
        """Result, bytes written and failure of ``work``; runs in the thread. A damaged file gets one second chance."""
        before = 0 if self._store is None else self._store.bytes_written
        try:
            store = self._opened()
            return work(store), store.bytes_written - before, None
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            if again and _damaged(error):
                self._put_aside(str(error))
                return self._attempt(work, again=False)
            return None, 0 if self._store is None else self._store.bytes_written - before, str(error)

    def _opened(self) -> RingStore:
        if self._store is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._store = RingStore(self._path, self._options.max_bytes)
        return self._store

    def _put_aside(self, why: str) -> None:
        if self._store is not None:
            self._store.abandon()
            self._store = None
        with suppress(OSError):  # the next attempt says what is wrong
            quarantine(self._path, why, self._clock.wall_ns(), COMPANIONS)


def _closed_ones(store: RingStore) -> SimilarIncidents:
    found = SimilarIncidents()
    for opened_ns, body in store.closed_incidents(MOST_KEPT):
        with suppress(KeyError, TypeError, ValueError):  # one of another form is only not compared with
            found.keep(opened_ns, orjson.loads(body))
    return found


def _damaged(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):  # of the text of SQLite's own complaint, with the damaged part in it
        return True
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _CORRUPT)


def _states(state: IncidentState | None) -> tuple[str, ...]:
    if state is None:
        return tuple(IncidentState)
    return ("open", "updated") if state is IncidentState.OPEN else (state.value,)


def _remove_written(waiting: dict[str, Any], written: dict[str, Any]) -> None:
    for key, row in written.items():
        if waiting.get(key) is row:
            del waiting[key]


def _told(row: FeedbackRow) -> dict[str, Any]:
    """Feedback as the API gives it out."""
    return {
        "incident": row.incident,
        "verdict": row.verdict,
        "note": row.note,
        "by": row.actor,
        "time": rfc3339(row.time_ns),
    }


def _with_feedback(body: dict[str, Any], feedback: dict[str, FeedbackRow]) -> dict[str, Any]:
    row = feedback.get(body["id"])
    body = body if row is None else {**body, "feedback": _told(row)}
    for other in body.get("similar", ()):  # what is known of them by now
        said = feedback.get(other.get("id"))
        other["feedback"] = None if said is None else said.verdict
    return body


def _json(body: dict[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
