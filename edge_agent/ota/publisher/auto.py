"""Releases go from ring to ring by themselves, or are stopped, as the gateways' reports say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from edge_agent.ota.publisher.repository import Change, Repository
from edge_agent.ota.publisher.rollout import Decision, Verdict, judge
from edge_agent.ota.publisher.settings import RepoOptions
from edge_agent.ota.publisher.tally import Tally, count, newest
from edge_agent.ota.ring import Activate, Activation, Ring

_ACTIONS = {Decision.HALT: "halt", Decision.PAUSE: "activate", Decision.WIDEN: "activate"}


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with the release of one ring; ``to``: the ring that gets it next, with ``promote``."""

    ring: str
    release: str
    verdict: Verdict
    to: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        tally = self.verdict.tally
        return {
            "ring": self.ring,
            "release": self.release,
            "decision": self.verdict.decision.value,
            "to": self.to,
            "why": self.verdict.why,
            "gateways": tally.gateways,
            "committed": len(tally.commits),
            "failed": tally.failures,
            "trying": tally.trying,
            "waiting": tally.waiting,
            "refused": tally.refused,
            "silent": tally.silent,
        }


def plan(
    rings: Mapping[str, Ring | None], settings: RepoOptions, tally_of: Callable[[Ring], Tally], now: datetime
) -> list[Step]:
    """One step for each ring that has a release. Pure.

    A release that is halted in one ring is halted in all: nobody else is to begin with it.
    """
    steps = []
    before: Ring | None = None
    for name in settings.rings:
        ring = rings.get(name)
        if ring is not None:
            verdict = judge(ring, settings.rings[name], tally_of(ring), now, first=_is_first(ring, before))
            steps.append(_step(ring, verdict, settings, rings))
        before = ring
    return _halted_everywhere(steps, rings)


def _is_first(ring: Ring, before: Ring | None) -> bool:
    """Whether no ring has proven the release before; the one before may have gone on to another since."""
    return before is None or (before.release != ring.release and before.counter < ring.counter)


def _step(ring: Ring, verdict: Verdict, settings: RepoOptions, rings: Mapping[str, Ring | None]) -> Step:
    if verdict.decision is not Decision.PROMOTE:
        return Step(ring.ring, ring.release, verdict)
    to = settings.following(ring.ring)
    there = rings.get(to) if to is not None else None
    if to is None:
        verdict = replace(verdict, decision=Decision.WAIT, why=f"{verdict.why}; all rings have it")
    elif there is not None and there.release == ring.release:
        verdict = replace(verdict, decision=Decision.WAIT, why=f"{verdict.why}; {to} has it")
    elif there is not None and there.counter > ring.counter:
        verdict = replace(verdict, decision=Decision.WAIT, why=f"{verdict.why}; {to} was given another one since")
    else:
        return Step(ring.ring, ring.release, verdict, to)
    return Step(ring.ring, ring.release, verdict)


def _halted_everywhere(steps: list[Step], rings: Mapping[str, Ring | None]) -> list[Step]:
    causes = {step.release: step for step in steps if _is_halted(step, rings)}
    found = []
    for step in steps:
        cause = causes.get(step.release)
        if cause is not None and not _is_halted(step, rings):
            told = f"{step.release} was halted in {cause.ring}: {cause.verdict.why}"
            step = replace(step, to=None, verdict=replace(step.verdict, decision=Decision.HALT, why=told))
        found.append(step)
    return found


def _is_halted(step: Step, rings: Mapping[str, Ring | None]) -> bool:
    """Now, or before: by hand, or by one who was cut off before all rings were told."""
    ring = rings[step.ring]
    return step.verdict.decision is Decision.HALT or (ring is not None and ring.halt)


def look(repository: Repository, reports: Iterable[bytes]) -> tuple[list[Step], int]:
    """What should be done now; and how many of ``reports`` were none."""
    settings = repository.settings
    found, bad = newest(reports, settings.fleet)
    now = repository.time()
    rings = {name: repository.ring(name) for name in settings.rings}

    def tally(ring: Ring) -> Tally:
        return count(ring, found.values(), settings.rings[ring.ring].gateways, now)

    return plan(rings, settings, tally, now), bad


def act(repository: Repository, step: Step) -> Change | None:
    """Do what a step says; None: nothing is to be done.

    :raises OtaError: it cannot be done, as with keys that are not here.
    """
    decision, ring, waiting = step.verdict.decision, repository.ring(step.ring), repository.waiting
    if (
        waiting is not None
        and step.ring in waiting.details.get("rings", {})
        and waiting.action == _ACTIONS.get(decision)
    ):
        return None  # it was done already, and waits for the signature of somebody else
    if decision is Decision.HALT:
        return repository.halt(step.ring, step.verdict.why)
    if decision is Decision.PAUSE:
        return repository.activate(step.ring, Activate())
    if decision is Decision.WIDEN:
        return repository.activate(step.ring, Activate(mode=Activation.NOW, spread_s=step.verdict.spread_s))
    if decision is Decision.PROMOTE and step.to is not None and ring is not None:
        begun = ring.activate.mode is not Activation.STAGE
        return repository.promote(
            step.release, step.ring, step.to, Activate(mode=Activation.NOW) if begun else ring.activate
        )
    return None
