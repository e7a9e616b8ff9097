"""The steps of an update, each from one state to the next. Pure; :mod:`edge_agent.ota.record` makes them durable.

::

    IDLE ─▶ DOWNLOADING ─▶ VERIFIED ─▶ PROBED ─▶ STAGED ─▶ [SHADOW] ─▶ TRIAL ─▶ COMMITTED ──▶ IDLE
                 │             │          │         ▲          │          └───▶ ROLLED_BACK ─▶ IDLE
                 ▼             └──────────┴─ QUARANTINED ◀─────┤
            IDLE (given up)                         └──────────┘ (crash)
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from edge_agent.ota.judge import News, deny, seen, wanted
from edge_agent.ota.ring import ModelTarget, Ring
from edge_agent.ota.state import Denied, InForce, OtaState, Outcome, Phase, Result

_LATEST_S = 253_402_300_799.0  # end of the year 9999, the last that RFC 3339 can write


def step(state: OtaState, **changes: Any) -> OtaState:
    """``state`` with ``changes`` and the next serial."""
    return state.model_copy(update={**changes, "serial": state.serial + 1})


def ended(name: str, counter: int, result: Result, reason: str, message: str, now_s: float) -> Outcome:
    """The end of a release; what is too long for a report is cut."""
    time = datetime.fromtimestamp(min(max(now_s, 0.0), _LATEST_S), UTC)
    return Outcome(release=name, counter=counter, result=result, reason=reason[:64], message=message[:1_000], time=time)


def noted(state: OtaState, news: News) -> OtaState:
    """``news`` was seen: its floors hold from now on."""
    return step(state, **seen(news, state))


def taken_up(state: OtaState, news: News, origin: str | None) -> OtaState:
    """The release is worked on from now on. ``origin``: of a sideload, else None."""
    return step(
        state,
        **seen(news, state),
        phase=Phase.DOWNLOADING,
        release=news.ring,
        origin=origin,
        activate_at_s=None,
        starts=0,
    )


def adopted(state: OtaState, news: News) -> OtaState:
    """A newer ring file says something else of the same content; what was done with it still holds."""
    return step(state, **seen(news, state), release=news.ring, activate_at_s=None)


def already(state: OtaState, news: News, now_s: float) -> OtaState:
    """What the release wants is in force."""
    outcome = ended(news.ring.release, news.ring.counter, Result.COMMITTED, "", "it was in use already", now_s)
    return step(state, **seen(news, state), outcome=outcome, last_success_s=now_s)


def refused(state: OtaState, news: News, reason: str, message: str, now_s: float) -> OtaState:
    """A genuine release is not for this gateway."""
    outcome = ended(news.ring.release, news.ring.counter, Result.REFUSED, reason, message, now_s)
    return step(state, **seen(news, state), outcome=outcome)


def moved(state: OtaState, phase: Phase) -> OtaState:
    """The release got to ``phase`` (VERIFIED, PROBED, STAGED or SHADOW)."""
    return step(state, phase=phase)


def given_up(state: OtaState, result: Result, reason: str, message: str, now_s: float) -> OtaState:
    """The release ends before it was ever in force; a quarantined one is not tried again."""
    release = _release(state)
    quarantine = result is Result.QUARANTINED
    return step(
        state,
        phase=Phase.QUARANTINED if quarantine else Phase.IDLE,
        release=None,
        origin=None,
        activate_at_s=None,
        starts=0,
        denied=_denied(state, release, InForce(), reason) if quarantine else state.denied,
        outcome=ended(release.release, release.counter, result, reason, message, now_s),
    )


def on_trial(state: OtaState, in_force: InForce) -> OtaState:
    """The release is in force from now on, ``in_force`` is what a rollback brings back."""
    config = wanted(_release(state), in_force).config
    return step(state, phase=Phase.TRIAL, before=in_force, config=config, starts=0, activate_at_s=None)


def committed(state: OtaState, now_s: float) -> OtaState:
    """The release stays."""
    release = _release(state)
    outcome = ended(release.release, release.counter, Result.COMMITTED, "", "", now_s)
    return step(
        state, phase=Phase.COMMITTED, release=None, origin=None, starts=0, outcome=outcome, last_success_s=now_s
    )


def taken_back(
    state: OtaState, result: Result, reason: str, message: str, now_s: float, target: InForce | None = None
) -> OtaState:
    """A release on trial ends, and ``target`` (what was before it) comes back, but nothing that is denied.

    ``result``: rolled back (then it is not tried again), halted, or refused (the disk did not take it).
    """
    release, before = _release(state), state.before or InForce()
    blameless = result in (Result.HALTED, Result.REFUSED)
    denied = state.denied if blameless else _denied(state, release, before, reason)
    target = _allowed(target or before, denied)
    return step(
        state,
        phase=Phase.ROLLED_BACK,
        release=None,
        origin=None,
        starts=0,
        before=target,
        config=target.config,
        denied=denied,
        outcome=ended(release.release, release.counter, result, reason, message, now_s),
    )


def replaced(
    state: OtaState, target: InForce, denied: Iterable[str], reason: str, message: str, now_s: float
) -> OtaState:
    """What is in force (long committed) goes, and ``target`` comes instead, but nothing that is denied."""
    last = state.outcome
    barred = deny(state.denied, ((sha256, reason) for sha256 in denied))
    target = _allowed(target, barred)
    name, counter = ("installed", 0) if last is None else (last.release, last.counter)
    return step(
        state,
        phase=Phase.ROLLED_BACK,
        before=target,
        config=target.config,
        denied=barred,
        outcome=ended(name, counter, Result.ROLLED_BACK, reason, message, now_s),
    )


def idle(state: OtaState) -> OtaState:
    """The effects of the end (COMMITTED, ROLLED_BACK, QUARANTINED) are done."""
    before = None if state.phase is Phase.ROLLED_BACK else state.before
    return step(state, phase=Phase.IDLE, before=before)


def _release(state: OtaState) -> Ring:
    if state.release is None:
        raise ValueError(f"phase {state.phase} without a release")
    return state.release


def _denied(state: OtaState, release: Ring, before: InForce, reason: str) -> tuple[Denied, ...]:
    """What the release would have changed is not tried again; nobody knows which part of it was at fault."""
    parts = []
    if isinstance(release.model, ModelTarget) and release.model.bundle != before.model:
        parts.append((release.model.bundle, reason))
    if release.config is not None and release.config.sha256 != before.config:
        parts.append((release.config.sha256, reason))
    return deny(state.denied, parts)


def _allowed(target: InForce, denied: Iterable[Denied]) -> InForce:
    """``target`` without what is denied."""
    barred = {item.sha256 for item in denied}
    return InForce(
        model=None if target.model in barred else target.model,
        config=None if target.config in barred else target.config,
    )
