"""The state of updates on the disk: twice, each copy whole, checksummed and durable.

``state`` counts. ``state.copy`` is written right after it and read only when ``state`` is damaged or gone: so one bad
sector does not lose the floors and re-open old releases. When both are gone, floors and time floor are taken from the
audit log (:func:`remembered`), which has every release that was ever taken up.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_agent.clock import Clock
from edge_agent.durable import quarantine
from edge_agent.errors import StoreError
from edge_agent.history import StateFile
from edge_agent.ota.judge import deny
from edge_agent.ota.state import MAX_FLOORS, Denied, Floor, OtaState

_MOST_BYTES = 4_000_000
_log = logging.getLogger("edge_agent.ota")


class Found(StrEnum):
    """Where the state came from: the file itself, its copy, what could be saved of them, or nowhere."""

    WHOLE = "whole"
    COPY = "copy"
    SALVAGED = "salvaged"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Loaded:
    """``damaged``: a file was there and could not be used."""

    state: OtaState
    found: Found
    damaged: bool = False


class StateStore:
    """``<folder>/state`` and ``<folder>/state.copy``. Blocking: one thread at a time."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._clock = clock
        self._folder = folder
        self._files = [StateFile(folder / name, clock, _MOST_BYTES) for name in ("state", "state.copy")]

    def load(self) -> Loaded:
        """The state that was saved last. Never fails: what is damaged is put aside, and the next best is taken."""
        damaged, salvaged = False, OtaState()
        for file, found in zip(self._files, (Found.WHOLE, Found.COPY), strict=True):
            there = file.path.exists()
            raw = file.load()
            if raw is None:
                damaged |= there
                continue
            try:
                return Loaded(OtaState.model_validate_json(raw), found, damaged)
            except ValidationError as error:
                # As after a downgrade: a newer agent knew a phase or field that this one does not.
                damaged, salvaged = True, merge_floors(salvaged, _salvage(raw))
                with suppress(OSError):
                    quarantine(file.path, f"not a state of this version: {error.error_count()} mistakes", self._now())
        return Loaded(salvaged, Found.SALVAGED if salvaged.floors else Found.NOTHING, damaged)

    def save(self, state: OtaState) -> int:
        """Replace the state; durable on return. Returns the bytes written. :raises StoreError: nothing changed."""
        payload = state.model_dump_json(by_alias=True).encode()
        written = self._files[0].save(payload)
        try:
            written += self._files[1].save(payload)
        except StoreError as error:
            _log.warning("%s; only the first copy of the state of updates is new", error)
        return written

    def _now(self) -> int:
        return self._clock.wall_ns()


def merge_floors(state: OtaState, other: OtaState) -> OtaState:
    """``state`` with the higher of both floors, ring by ring, and what either denies."""
    floors = dict(state.floors)
    for ring, floor in other.floors.items():
        if ring not in floors or floors[ring].counter < floor.counter:
            floors[ring] = floor
    changes = {
        "floors": dict(list(floors.items())[-MAX_FLOORS:]),
        "time_floor_s": max(state.time_floor_s, other.time_floor_s),
        "denied": deny(state.denied, ((denied.sha256, denied.reason) for denied in other.denied)),
    }
    return state.model_copy(update=changes)


def remembered(entries: Iterable[Mapping[str, Any]]) -> OtaState:
    """Floors, time floor and denials from entries of the audit log, oldest first; what does not fit is passed over."""
    state = OtaState()
    for entry in entries:
        with suppress(KeyError, TypeError, ValueError):
            if entry["action"] == "release":
                floor = Floor(counter=entry["counter"], sha256=entry["ring_sha256"])
                other = OtaState(floors={entry["ring"]: floor}, time_floor_s=entry["signed_s"])
                state = merge_floors(state, other)
            elif entry["action"] == "deny":
                other = OtaState(denied=(Denied(sha256=entry["sha256"], reason=entry["reason"]),))
                state = merge_floors(state, other)
    return state


def _salvage(raw: bytes) -> OtaState:
    """What keeps old releases out, from a state that is whole but not understood."""
    with suppress(ValueError, TypeError, AttributeError):
        content = json.loads(raw)
        state = OtaState()
        for name in ("floors", "time_floor_s", "denied"):
            with suppress(ValidationError):
                state = merge_floors(state, OtaState.model_validate({name: content.get(name)}))
        return state
    return OtaState()
