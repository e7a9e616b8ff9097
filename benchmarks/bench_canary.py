"""How many gateways a bad model reaches before it is stopped, and whether a good one reaches all: real rollout code.

1,000 gateways, in three rings (40, 300, 660) or all in one that is widened in waves; 1,000 runs each. A bad model fails
on 10 % of the gateways at a random moment of its trial, a good one on 0.2 %. 3 % of the gateways never report. The
publisher looks every minute, as ``edge-agent ota repo auto --every 60s`` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from result import Result

from edge_agent.ota.publisher.auto import Step, plan
from edge_agent.ota.publisher.rollout import Decision, first_spread_s
from edge_agent.ota.publisher.settings import RepoOptions, RingOptions
from edge_agent.ota.publisher.tally import Tally
from edge_agent.ota.ring import Activate, Activation, Ring

RUNS, GATEWAYS = 1_000, 1_000
BAD, GOOD = 0.10, 0.002
GOAL, GOAL_SHARE = 40, 0.95
SILENT_SHARE = 0.03
LOOK_S, GIVE_UP_S, PERSON_S = 60.0, 5 * 86_400.0, 3_600.0
REPORT_S = 15.0
SPREAD_S = 20.0
START = datetime(2027, 1, 4, 6, tzinfo=UTC)
STAGED = {"canary": 40, "early": 300, "stable": 660}
IN_WAVES = {"all": GATEWAYS}


def run() -> Iterator[Result]:
    """Both ways, both models."""
    for name, sizes in (("rings", STAGED), ("waves", IN_WAVES)):
        bad = [Fleet(sizes, BAD, seed).roll_out() for seed in range(RUNS)]
        reached = [fleet.reached() for fleet in bad]
        p95 = float(np.percentile(reached, 100 * GOAL_SHARE, method="higher"))
        least = math.log(1 - GOAL_SHARE) / math.log(1 - BAD)
        control = "fewest that tell 10 % at 95 %"
        yield Result(f"canary_{name}_bad_reached", p95, "gateways p95", least, control, f"<= {GOAL}", p95 <= GOAL)
        within, asked = sum(count <= GOAL for count in reached) / RUNS, f">= {GOAL_SHARE}"
        met = within >= GOAL_SHARE
        yield Result(f"canary_{name}_bad_within_{GOAL}", within, "of runs", GOAL_SHARE, "what is asked", asked, met)
        good = [Fleet(sizes, GOOD, seed).roll_out() for seed in range(RUNS)]
        halted = sum(fleet.halted for fleet in good) / RUNS
        yield Result(
            f"canary_{name}_good_halted", halted, "of runs", 1.0, "halt at the first", "<= 0.01", halted <= 0.01
        )
        everywhere = sum(fleet.reached() == GATEWAYS for fleet in good) / RUNS
        yield Result(
            f"canary_{name}_good_everywhere", everywhere, "of runs", 1.0, "all at once", ">= 0.99", everywhere >= 0.99
        )
        alone = sum(fleet.reached() == GATEWAYS and not fleet.asked for fleet in good) / RUNS
        clean = (1 - GOOD) ** GOAL
        yield Result(
            f"canary_{name}_good_unasked",
            alone,
            "of runs",
            clean,
            "no failure in 40 gateways",
            ">= 0.85",
            alone >= 0.85,
        )


class Fleet:
    """Gateways in rings, the ring files that they see, and the publisher that looks at their reports."""

    def __init__(self, sizes: Mapping[str, int], failing: float, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        rings = {name: RingOptions(gateways=size) for name, size in sizes.items()}
        self._settings = RepoOptions(rings=rings)
        self._gateways = {name: Gateways(size, failing, self._rng) for name, size in sizes.items()}
        self._files: dict[str, Ring | None] = dict.fromkeys(sizes)
        self._counter = 0
        self._person_at_s = math.inf
        self.halted = False
        self.asked = False

    def reached(self) -> int:
        """Gateways in which the model has answered."""
        return sum(gateways.begun() for gateways in self._gateways.values())

    def roll_out(self) -> Fleet:
        """Publish to the first ring and look every minute, until it is everywhere, halted or given up."""
        first = next(iter(self._files))
        size, trial_s = self._settings.rings[first].gateways, 600.0
        spread_s = max(SPREAD_S, first_spread_s(size, trial_s))
        self._give(first, 0.0, Activate(mode=Activation.NOW, spread_s=spread_s))
        now_s = 0.0
        while now_s < GIVE_UP_S and not self.halted and self.reached() < GATEWAYS:
            now_s += LOOK_S
            self._look(now_s)
        return self

    def _look(self, now_s: float) -> None:
        now = START + timedelta(seconds=now_s)
        for gateways in self._gateways.values():
            gateways.go_on(now_s)
        steps = plan(self._files, self._settings, lambda ring: self._gateways[ring.ring].tally(now_s), now)
        for step in steps:
            self._act(step, now_s)

    def _act(self, step: Step, now_s: float) -> None:
        decision = step.verdict.decision
        if decision is Decision.HALT:
            self._gateways[step.ring].stop()
            self.halted = True
        elif decision is Decision.PAUSE:
            self._give(step.ring, now_s, Activate())
        elif decision is Decision.WIDEN:
            self._give(step.ring, now_s, Activate(mode=Activation.NOW, spread_s=step.verdict.spread_s))
        elif decision is Decision.PROMOTE and step.to is not None:
            self._give(step.to, now_s, Activate(mode=Activation.NOW, spread_s=SPREAD_S))
        elif "by hand" in step.verdict.why or "silent" in step.verdict.why:
            self._ask(step, now_s)

    def _ask(self, step: Step, now_s: float) -> None:
        """A person looks at failures that may be chance, or at silence: lets a good model go on, halts a bad one."""
        following = self._settings.following(step.ring)
        if following and self._files[following] is not None:
            return
        self._person_at_s = min(self._person_at_s, now_s + PERSON_S)
        if now_s < self._person_at_s:
            return
        self.asked, self._person_at_s = True, math.inf
        self.halted = self._gateways[step.ring].failing == BAD
        if not self.halted:
            self._give(following or step.ring, now_s, Activate(mode=Activation.NOW, spread_s=600.0))

    def _give(self, name: str, now_s: float, activate: Activate) -> None:
        self._counter += 1
        moment = START + timedelta(seconds=now_s)
        self._files[name] = Ring(ring=name, release="r", counter=self._counter, issued=moment, activate=activate)
        self._gateways[name].see(activate, now_s)


class Gateways:
    """Those of one ring: when each begins, ends and reports, in seconds."""

    def __init__(self, size: int, failing: float, rng: np.random.Generator) -> None:
        self.failing = failing
        self._rng = rng
        self._begins = np.full(size, math.inf)
        self._begun = np.zeros(size, bool)
        self._fails = rng.random(size) < failing
        self._lasts = np.where(self._fails, rng.uniform(10, 600, size), 600.0)
        self._report = np.where(rng.random(size) < SILENT_SHARE, math.inf, rng.exponential(REPORT_S, size))
        self._known: tuple[int, tuple[datetime, ...]] = (-1, ())
        self._given_s = 0.0

    def see(self, activate: Activate, now_s: float) -> None:
        """The new ring file: those that have not begun draw their moment anew, or wait."""
        self.go_on(now_s)
        self._given_s = now_s
        waits = self._rng.random(len(self._begins)) * activate.spread_s + self._rng.uniform(1, 20, len(self._begins))
        begins = now_s + waits if activate.mode is Activation.NOW else math.inf
        self._begins = np.where(self._begun, self._begins, begins)

    def go_on(self, now_s: float) -> None:
        """Let time pass."""
        self._begun |= self._begins <= now_s

    def stop(self) -> None:
        """The release was halted: nobody else begins."""
        self._begins = np.where(self._begun, self._begins, math.inf)

    def begun(self) -> int:
        """How many have begun."""
        return int(self._begun.sum())

    def tally(self, now_s: float) -> Tally:
        """What their reports say at this moment."""
        ends = self._begins + self._lasts
        told = ends + self._report <= now_s
        ended, failures = int(told.sum()), int((told & self._fails).sum())
        if self._known[0] != ended:
            commits = np.sort(ends[told & ~self._fails]).tolist()
            self._known = (ended, tuple(START + timedelta(seconds=moment) for moment in commits))
        silent = np.isinf(self._report)
        trying = int((self._begun & ~told & ~silent).sum())
        size = len(self._begins)
        waiting = size - ended - trying - int((silent & ~told).sum())
        fresh = int((told & self._fails & (ends > self._given_s)).sum())
        return Tally(size, self._known[1], failures, (), fresh, trying, waiting)
