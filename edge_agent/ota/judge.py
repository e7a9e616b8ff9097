"""Whether the release that a ring file names is for this gateway, and what follows from it. Pure.

::

    smaller counter, or the same with other bytes     refuse    rollback, equivocation
    a counter beyond the seconds since 1970           refuse    counter
    metadata expired                                  refuse    expired
    what is being worked on was denied or halted      give up   denied, halted
    what is in use was denied                         roll back denied
    halted                                            refuse    halted
    the same model and configuration, new counter     adopt     (for example: stage becomes now)
    in use already                                    already
    something else is being worked on                 give up   superseded
    ended here before                                 nothing
    not for this gateway                              refuse    hardware, agent_too_old, denied, remote_config_off,
                                                                quota, time_unconfirmed
    otherwise                                         fetch

Floors and the time floor are what TUF lacks: its rollback protection is in files that a power cut may truncate, and its
freeze protection needs a clock that is right (TUF specification, section 5.6.3 and 5.4.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edge_agent.ota.ports import Checked, Facts
from edge_agent.ota.ring import MAX_DENIED, Activation, ModelTarget, Ring, Target, parse_ring
from edge_agent.ota.state import MAX_FLOORS, MAX_OWN_DENIED, Denied, Floor, InForce, OtaState, Phase, Result

DENIED = "denied"
_SHARE_OF_FREE = 0.25


class Verdict(StrEnum):
    """What is to be done about a ring file."""

    NOTHING = "nothing"
    REFUSE = "refuse"
    FETCH = "fetch"
    ADOPT = "adopt"
    ALREADY = "already"
    GIVE_UP = "give_up"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason``: a fixed word; ``message``: a sentence for people."""

    verdict: Verdict
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """A verified ring file, read. ``sha256``: of its bytes; the moments are those of ``Checked``."""

    ring: Ring
    sha256: str
    signed_s: float
    expires_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """``now_s``: the larger of the clock and of what is known to have passed. ``unconfirmed``: the clock is behind."""

    now_s: float
    unconfirmed: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What the gateway's own configuration says: its ring, and whether releases may change its configuration."""

    ring: str
    remote_config: bool = True


def read_news(checked: Checked, ring: str) -> News:
    """Read what trust has found. :raises OtaError: reason ``ring_file``."""
    digest = hashlib.sha256(checked.ring_file).hexdigest()
    return News(parse_ring(checked.ring_file, ring), digest, checked.signed_s, checked.expires_s)


def judge(
    news: News, state: OtaState, facts: Facts, policy: Policy, moment: Moment, held: Collection[str] = ()
) -> Judgement:
    """What follows from ``news``. ``held``: sha256 of target files that need not be fetched any more.

    After ``GIVE_UP`` and ``ROLL_BACK`` it is asked again, with the state and facts as they are then.
    """
    for rule in (_not_newest, _forbidden, _known):
        judgement = rule(news, state, facts, policy, moment)
        if judgement is not None:
            return judgement
    return _unfit(news.ring, state, facts, policy, held) or Judgement(Verdict.FETCH)


def seen(news: News, state: OtaState) -> dict[str, Any]:
    """What changes in the state because ``news`` was seen: floors, and denied bundles for good."""
    floors = {name: floor for name, floor in state.floors.items() if name != news.ring.ring}
    floors = dict(list(floors.items())[-(MAX_FLOORS - 1) :])
    floors[news.ring.ring] = Floor(counter=news.ring.counter, sha256=news.sha256)
    return {
        "floors": floors,
        "time_floor_s": max(state.time_floor_s, news.signed_s),
        "expires_s": news.expires_s,
        "image": _image(news.ring) or state.image,
        "denied": deny(state.denied, ((sha256, DENIED) for sha256 in news.ring.denied)),
    }


def _image(ring: Ring) -> str | None:
    """The container image that may be used now. Whatever updates containers looks at it; the agent does not."""
    return None if ring.halt or ring.activate.mode is Activation.STAGE else ring.image


def deny(denied: tuple[Denied, ...], more: Iterable[tuple[str, str]]) -> tuple[Denied, ...]:
    """``denied`` and ``more`` (sha256 and reason), the newest last. The publisher's never push out our own."""
    found = {item.sha256: item for item in denied}
    for sha256, reason in more:
        if sha256 not in found:
            found[sha256] = Denied(sha256=sha256, reason=reason)
    own = [item for item in found.values() if item.reason != DENIED]
    told = [item for item in found.values() if item.reason == DENIED]
    return (*own[-MAX_OWN_DENIED:], *told[-MAX_DENIED:])


def wanted(ring: Ring, base: InForce) -> InForce:
    """What is in force with ``ring``, where ``base`` was before it."""
    model = base.model if ring.model is None else None if isinstance(ring.model, str) else ring.model.bundle
    return InForce(model=model, config=base.config if ring.config is None else ring.config.sha256)


def targets(ring: Ring) -> list[Target]:
    """The files that a release needs."""
    return [target for target in (ring.model, ring.config) if isinstance(target, Target)]


def configurations(state: OtaState) -> frozenset[str]:
    """The verified configurations that the state may still need; they are nowhere else."""
    release = state.release.config.sha256 if state.release is not None and state.release.config is not None else None
    before = state.before.config if state.before is not None else None
    return frozenset(config for config in (release, before, state.config) if config is not None)


def same_content(one: Ring, other: Ring) -> bool:
    """Whether both name the same model and configuration, for the same gateways at the same cost."""
    return (one.model, one.config, one.limits, one.hardware, one.min_agent) == (
        other.model,
        other.config,
        other.limits,
        other.hardware,
        other.min_agent,
    )


def safe_before(state: OtaState, in_force: InForce) -> InForce:
    """What to go back to from ``in_force`` that was denied: what was before, unless that is denied too."""
    denied = {item.sha256 for item in state.denied}
    before = state.before or InForce()
    return InForce(
        model=None if before.model in denied or before.model == in_force.model else before.model,
        config=next((config for config in (in_force.config, before.config) if config not in denied), None),
    )


# -- the rules, in their order ---------------------------------------------------------------------------------------


def _not_newest(news: News, state: OtaState, facts: Facts, policy: Policy, moment: Moment) -> Judgement | None:
    ring, floor = news.ring, state.floors.get(news.ring.ring)
    if ring.ring != policy.ring:
        return _refuse("not_for_this_ring", f"got ring {ring.ring!r}, expected {policy.ring!r}")
    if floor is not None and ring.counter < floor.counter:
        return _refuse("rollback", f"got counter {ring.counter}, expected at least {floor.counter}, seen before")
    if floor is not None and ring.counter == floor.counter and news.sha256 != floor.sha256:
        return _refuse("equivocation", f"counter {ring.counter} was seen before with another ring file")
    if ring.counter > moment.now_s:
        # Whoever has stolen keys could otherwise name the last counter there is, and nothing would ever be newer.
        return _refuse("counter", f"got counter {ring.counter}, expected at most the {moment.now_s:.0f} s since 1970")
    if news.expires_s <= moment.now_s:
        return _refuse("expired", "the repository's metadata have expired; its publisher must sign them again")
    grows = floor is None or ring.counter > floor.counter
    if moment.unconfirmed and not grows and state.release is None and not _ended(news, state):
        return _refuse("time_unconfirmed", "the clock is behind what is known to have passed; set it")
    return None


def _forbidden(news: News, state: OtaState, facts: Facts, policy: Policy, moment: Moment) -> Judgement | None:
    ring = news.ring
    denied = {item.sha256 for item in state.denied} | set(ring.denied)
    if state.release is not None and (word := denied_part(state.release, denied)):
        return Judgement(Verdict.GIVE_UP, DENIED, f"{word} of release {state.release.release} was denied")
    if state.release is not None and ring.halt:
        return Judgement(Verdict.GIVE_UP, "halted", f"release {state.release.release} was halted by its publisher")
    if state.phase is not Phase.TRIAL and {facts.in_force.model, facts.in_force.config} & denied:
        if state.release is not None:
            return Judgement(Verdict.GIVE_UP, "superseded", f"release {ring.release} denies what is in use")
        return Judgement(Verdict.ROLL_BACK, DENIED, f"what is in use was denied by release {ring.release}")
    if ring.halt and not _ended(news, state):
        if wanted(ring, facts.in_force) == facts.in_force:
            return Judgement(Verdict.NOTHING)
        return _refuse("halted", f"release {ring.release} was halted by its publisher")
    return None


def _known(news: News, state: OtaState, facts: Facts, policy: Policy, moment: Moment) -> Judgement | None:
    ring, release = news.ring, state.release
    if release is not None:
        if release == ring:
            return Judgement(Verdict.NOTHING)
        if same_content(release, ring):
            return Judgement(Verdict.ADOPT)
        return Judgement(Verdict.GIVE_UP, "superseded", f"release {release.release} was superseded by {ring.release}")
    if _ended(news, state):
        return Judgement(Verdict.NOTHING)
    if wanted(ring, facts.in_force) == facts.in_force:
        return Judgement(Verdict.ALREADY)
    return None


def _unfit(ring: Ring, state: OtaState, facts: Facts, policy: Policy, held: Collection[str]) -> Judgement | None:
    if ring.hardware and not set(ring.hardware) & set(facts.hardware):
        return _refuse("hardware", f"for {', '.join(ring.hardware)}; this gateway is {', '.join(facts.hardware)}")
    if ring.min_agent is not None and _version(facts.agent) < _version(ring.min_agent):
        return _refuse("agent_too_old", f"needs agent {ring.min_agent}, this one is {facts.agent}; update it first")
    if word := denied_part(ring, {item.sha256 for item in state.denied} | set(ring.denied)):
        return _refuse(DENIED, f"{word} was denied, or has failed on this gateway before")
    if ring.config is not None and not policy.remote_config:
        return _refuse("remote_config_off", "it changes the configuration, which `ota.remote_config` forbids")
    need = sum(target.bytes for target in targets(ring) if target.sha256 not in held)
    if need > facts.free_disk_bytes * _SHARE_OF_FREE:
        return _refuse("quota", f"needs {need} bytes, more than a quarter of the {facts.free_disk_bytes} that are free")
    return None


def denied_part(ring: Ring, denied: Collection[str]) -> str | None:
    """The part of a release that is among ``denied``, as people call it."""
    if isinstance(ring.model, ModelTarget) and {ring.model.bundle, ring.model.sha256} & set(denied):
        return "the model"
    return "the configuration" if ring.config is not None and ring.config.sha256 in denied else None


def _ended(news: News, state: OtaState) -> bool:
    """Whether this very ring file has come to its end here; a refusal is none, its cause may be gone."""
    outcome, floor = state.outcome, state.floors.get(news.ring.ring)
    return (
        outcome is not None
        and outcome.result is not Result.REFUSED
        and outcome.counter == news.ring.counter
        and floor is not None
        and floor.sha256 == news.sha256
    )


def _refuse(reason: str, message: str) -> Judgement:
    return Judgement(Verdict.REFUSE, reason, message)


def _version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``1.4.0rc1`` and ``1.4`` are both 1.4.0."""
    numbers = []
    for part in text.split(".")[:3]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return (*numbers, 0, 0, 0)[:3]
