"""What is done about updates at the start of the process, before a model is chosen or an overlay is read. Blocking.

A step that power loss or a crash cut off is done again or taken back; a start on trial is counted before the model that
is on trial is loaded, so that one which kills the process is taken back after a few starts. Nothing here keeps the
agent from starting: what cannot be done is told of in ``problems``.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from edge_agent.bundle import ModelSlots
from edge_agent.clock import Clock
from edge_agent.errors import BundleError, StoreError
from edge_agent.ota import steps
from edge_agent.ota.blobs import Blobs
from edge_agent.ota.chain import ChainedLog, entries
from edge_agent.ota.effects import OVERLAY, find_bundle, put_model, put_overlay, write_overlay
from edge_agent.ota.judge import configurations, wanted
from edge_agent.ota.known_time import KnownTime
from edge_agent.ota.ring import ModelTarget
from edge_agent.ota.state import InForce, OtaState, Phase, Result
from edge_agent.ota.state_store import Found, Loaded, StateStore, merge_floors, remembered
from edge_agent.verdict import rfc3339

AUDIT = "audit.jsonl"
_log = logging.getLogger("edge_agent.ota")


@dataclass(slots=True)
class Booted:
    """``in_force``: what the files say now. ``overlay_changed``: the configuration must be read (again) after this.

    ``ended``: reason why a release was taken back or quarantined in this start. ``problems``: sentences for people.
    """

    state: OtaState
    in_force: InForce
    overlay_changed: bool = False
    ended: str | None = None
    problems: list[str] = field(default_factory=list)


def boot(data_dir: Path, clock: Clock) -> Booted:
    """Read the state, count the start, do effects again. Once in a process, before anything else reads the files."""
    start = _Start(data_dir, clock)
    try:
        start.finish()
    except _CannotError:
        pass
    except Exception as error:  # whatever it is: the agent starts, and says so
        _log.exception("updates: not expected at the start")
        start.problems.append(f"updates: not expected at the start: {error!r}")
    return start.result()


class _CannotError(Exception):
    """A step could not be written; told of in ``problems``."""


class _Start:
    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._store = StateStore(data_dir / "ota", clock)
        self._audit = ChainedLog(data_dir / "ota" / AUDIT)
        self._blobs = Blobs(data_dir / "ota")
        self.problems: list[str] = []
        self._overlay_changed = False
        self._ended: str | None = None
        self._rebuilt = False
        self._state = self._load()
        self._time = KnownTime(clock, self._state.time_floor_s)

    def finish(self) -> None:
        """Do what the phase wants done."""
        if self._rebuilt:
            self._save(steps.step(self._state))
        match self._state.phase:
            case Phase.SHADOW:
                self._after_shadow()
            case Phase.TRIAL:
                self._on_trial()
            case Phase.CHECKING:
                self._save(steps.step(self._state, phase=Phase.IDLE, release=None))
        if self._state.phase is Phase.ROLLED_BACK:
            self._go_back()
        if self._state.phase in (Phase.COMMITTED, Phase.QUARANTINED):
            self._save(steps.idle(self._state))
        self._check_overlay()

    def result(self) -> Booted:
        """What came of it."""
        model = None
        with suppress(StoreError):
            model = ModelSlots(self._data_dir).names[0]
        in_force = InForce(model=model, config=self._state.config)
        return Booted(self._state, in_force, self._overlay_changed, self._ended, self.problems)

    # -- by phase ----------------------------------------------------------------------------------------------

    def _after_shadow(self) -> None:
        """A candidate in shadow may have killed the process, as one on trial may."""
        release, starts = self._state.release, self._state.starts + 1
        if release is not None and starts > release.trial.starts:
            self._end("crashes", f"the process was started {starts} times with the candidate in shadow")
            return
        self._save(steps.step(self._state, phase=Phase.STAGED, starts=starts))

    def _on_trial(self) -> None:
        release, before, starts = self._state.release, self._state.before or InForce(), self._state.starts + 1
        if release is None:
            self._save(steps.step(self._state, phase=Phase.ROLLED_BACK, before=before))
            return
        if starts > release.trial.starts:
            self._end("crashes", f"the process was started {starts} times on trial, expected at most {starts - 1}")
            return
        target = wanted(release, before)
        if self._replaced_by_hand(target, before):
            return
        try:
            self._save(steps.step(self._state, starts=starts))
        except _CannotError:
            # A start that cannot be counted must not be made: go back for as long as the disk is full.
            self._put(before, None)
            return
        blob = release.model.sha256 if isinstance(release.model, ModelTarget) else None
        if not self._put(target, blob):
            self._end("damaged", "what is on trial cannot be read any more")

    def _replaced_by_hand(self, target: InForce, before: InForce) -> bool:
        """Whether the slots have a model that neither this release nor what was before it put there."""
        model = self._current()
        if model in (target.model, before.model):
            return False
        self._save(
            steps.taken_back(
                self._state,
                Result.HALTED,
                "operator",
                "another model was put in its place while it was on trial",
                self._time.now_s(),
                InForce(model=model, config=before.config),
            )
        )
        return True

    def _go_back(self) -> None:
        before = self._state.before or InForce()
        if not self._put(before, None):
            # The last resort: what came with the agent cannot be damaged by an update.
            if not self._put(InForce(), None):
                return
            self._save(steps.step(self._state, config=None, before=InForce()))
        self._save(steps.idle(self._state))

    def _end(self, reason: str, message: str) -> None:
        now_s, on_trial = self._time.now_s(), self._state.phase is Phase.TRIAL
        finish = steps.taken_back if on_trial else steps.given_up
        result = Result.ROLLED_BACK if on_trial else Result.QUARANTINED
        self._save(finish(self._state, result, reason, message, now_s))
        self._ended = reason

    # -- on the disk -------------------------------------------------------------------------------------------

    def _put(self, target: InForce, blob: str | None) -> bool:
        """Make the files say ``target``; False when part of it is not there any more or cannot be written."""
        try:
            bundle = find_bundle(self._data_dir, target.model, blob)
            self._overlay_changed |= put_overlay(self._data_dir, target.config)
            put_model(ModelSlots(self._data_dir), bundle)
        except (BundleError, StoreError) as error:
            self.problems.append(str(error))
            return False
        return True

    def _check_overlay(self) -> None:
        """Have the overlay that was verified, whatever became of the file since; without it none."""
        overlay, config = self._data_dir / "ota" / OVERLAY, self._state.config
        with suppress(OSError):
            if sha256(overlay.read_bytes()).hexdigest() == config:
                return
        try:
            self._overlay_changed |= put_overlay(self._data_dir, config)
        except StoreError as error:
            self.problems.append(str(error))
            with suppress(StoreError):
                self._overlay_changed |= write_overlay(self._data_dir, None)

    def _current(self) -> str | None:
        try:
            return ModelSlots(self._data_dir).names[0]
        except StoreError as error:
            self.problems.append(str(error))
            return None

    def _load(self) -> OtaState:
        loaded = self._store.load()
        state = loaded.state
        if loaded.found in (Found.NOTHING, Found.SALVAGED):
            state = self._rebuild(loaded)
            self._rebuilt = state.floors != {} or loaded.damaged
        if loaded.damaged or (loaded.found is Found.COPY):
            self.problems.append("the state of updates was damaged; it was rebuilt from what else is known")
            self._tell({"action": "state_damaged", "found": loaded.found.value})
        return state

    def _rebuild(self, loaded: Loaded) -> OtaState:
        """Floors from the audit log; the overlay that is there stays, since the models that run stay too."""
        state, folder = loaded.state, self._data_dir / "ota"
        with suppress(OSError):
            state = merge_floors(state, remembered(entries(folder / AUDIT)))
        with suppress(OSError):
            state = steps.step(state, config=sha256((folder / OVERLAY).read_bytes()).hexdigest())
        return state

    def _save(self, state: OtaState) -> None:
        for attempt in (self._store.save, self._save_with_room):
            try:
                attempt(state)
            except StoreError as error:
                problem = str(error)
                continue
            self._note(state)
            return
        self.problems.append(problem)
        raise _CannotError

    def _save_with_room(self, state: OtaState) -> None:
        """Again, without the files that can be fetched again: the disk may be full."""
        self._blobs.collect(configurations(state), free_bytes=0, most=0)
        self._store.save(state)

    def _note(self, state: OtaState) -> None:
        before, self._state = self._state, state
        entry: dict[str, Any] = {"action": "start", "phase": before.phase.value, "to": state.phase.value}
        if state.starts:
            entry["starts"] = state.starts
        if state.outcome is not None and state.outcome != before.outcome:
            entry |= {"release": state.outcome.release, "reason": state.outcome.reason}
        self._tell(entry)

    def _tell(self, entry: dict[str, Any]) -> None:
        try:
            self._audit.append({"time": rfc3339(self._clock.wall_ns()), "by": "agent", **entry})
        except StoreError as error:
            self.problems.append(str(error))
