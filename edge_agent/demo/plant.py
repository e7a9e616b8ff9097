"""The simulated plant: physics, controllers, instruments and attacks, one step at a time. No clock, no I/O.

::

    seen → Controller → command → [process attacks] → Process → true → damping, noise → [instrument attacks]
      ↑                                                                                      │
      └──────────────────────────────────────────────────────────────────────────────────────┤
                                                          reported ← [report attacks] ←──────┘

The same seed gives the same bits. Attacks draw from a generator of their own, so what an attack does not touch stays
as it would have been without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from edge_agent.demo.attacks import Injection, inject
from edge_agent.demo.control import Controller
from edge_agent.demo.effects import Effect, Moment, Past, Vector
from edge_agent.demo.process import DISTURBANCES, Faults, Process
from edge_agent.demo.tags import BY_NAME, EDGES, INDEX, NAMES, TAGS, Tag

__all__ = ["BY_NAME", "EDGES", "INDEX", "NAMES", "TAGS", "Plant", "Tag"]

_BLOCK = 256
_PAST_S = 1200.0
_NOISE = np.array([tag.noise for tag in TAGS])
_RESOLUTION = np.array([tag.resolution for tag in TAGS])
_PER_RESOLUTION = 1.0 / _RESOLUTION
_LOW = np.array([tag.low for tag in TAGS])
_HIGH = np.array([tag.high for tag in TAGS])
_DAMPING_S = np.array([tag.damping_s for tag in TAGS])


@dataclass(slots=True)
class _Running:
    injection: Injection
    effect: Effect


class Plant:
    """A water treatment line of 51 tags.

    ``true`` holds what really is, ``measured`` what the instruments show (and the controllers act on); both after the
    last :meth:`step`. ``tick_s`` is the time between two steps; above a second the plant moves in shorter ones.
    """

    def __init__(self, rng: np.random.Generator, tick_s: float = 1.0) -> None:
        if not 0.0 < tick_s <= 60.0:
            raise ValueError(f"plant tick_s: got {tick_s}, expected above 0, up to 60 seconds")
        self._substeps = ceil(tick_s)
        self._dt = tick_s / self._substeps
        self._rng = rng
        self._attack_rng = np.random.default_rng(int(rng.integers(2**63)))
        low, high = (500.0, 850.0)
        levels = rng.uniform(low, high, 5).tolist()
        self._process = Process((levels[0], levels[1], levels[2], levels[3], levels[4]), self._dt)
        self._controller = Controller(self._dt)
        self._faults = Faults()
        self._running: list[_Running] = []
        self._past = Past(max(2, round(_PAST_S / self._dt)), len(TAGS))
        self._used = _BLOCK
        self._normals: list[list[float]] = []
        self._noise: NDArray[np.float64] = np.empty((0, len(TAGS)))
        self._steps = 0
        self._follow = np.where(_DAMPING_S > 0, 1.0 - np.exp(-self._dt / np.maximum(_DAMPING_S, 1e-9)), 1.0)
        self._damped: Vector | None = None
        self.true: Vector = np.zeros(len(TAGS))
        self.measured: Vector = np.zeros(len(TAGS))
        self._seen = self._first_look()

    @property
    def seconds(self) -> float:
        """Plant time since the start."""
        return self._steps * self._dt

    @property
    def active(self) -> tuple[Injection, ...]:
        """Attacks that acted in the last step or wait for their start."""
        return tuple(running.injection for running in self._running)

    @property
    def process(self) -> Process:
        """The true state, for looking at; changing it is cheating."""
        return self._process

    def start(self, name: str, duration_s: float | None = None, magnitude: float | None = None) -> Injection:
        """Begin an attack with the next step. :raises ConfigError: unknown name."""
        injection = inject(name, self.seconds, duration_s, magnitude)
        self.schedule(injection)
        return injection

    def schedule(self, injection: Injection) -> None:
        """Let ``injection`` act from its start to its end; one that runs already under this name is replaced."""
        self.stop(injection.attack.name)
        self._running.append(_Running(injection, injection.attack.build(injection.magnitude)))

    def stop(self, name: str | None = None) -> None:
        """End the attack of this name, or all of them."""
        self._running = [one for one in self._running if name is not None and one.injection.attack.name != name]

    def step(self) -> Vector:
        """Move on by one tick; what every tag reports, in the order of ``TAGS``; NaN where nothing is sent."""
        for _ in range(self._substeps - 1):
            self._advance()
        return self._advance()

    def _advance(self) -> Vector:
        if self._used >= _BLOCK:
            self._draw()
        acting = self._acting() if self._running else []
        command = self._controller.step(self._seen)
        self._faults.clear()
        if acting:
            for effect, moment in acting:
                effect.process(moment, self._faults)
            command = {**command, **self._faults.override}
        true = self._process.step(command, self._faults, self._normals[self._used])
        reported = self._measure(true, acting)
        self._used += 1
        self._steps += 1
        return reported

    def _measure(self, true: dict[str, float], acting: list[tuple[Effect, Moment]]) -> Vector:
        self.true = np.array([true[name] for name in NAMES])
        if self._damped is None:
            self._damped = self.true.copy()
        self._damped += self._follow * (self.true - self._damped)
        shown = np.rint((self._damped + self._noise[self._used]) * _PER_RESOLUTION)
        shown *= _RESOLUTION
        measured: Vector = np.minimum(np.maximum(shown, _LOW), _HIGH)
        self._past.append(measured)
        for effect, moment in acting:
            effect.instruments(moment, measured)
        self.measured = measured
        self._seen = dict(zip(NAMES, measured.tolist(), strict=True))
        reported = measured.copy()
        for effect, moment in acting:
            effect.report(moment, reported)
        return reported

    def _acting(self) -> list[tuple[Effect, Moment]]:
        now = self.seconds
        self._running = [one for one in self._running if one.injection.end_s > now]
        return [
            (one.effect, Moment(now - one.injection.start_s, self._dt, self._past, self._attack_rng))
            for one in self._running
            if one.injection.start_s <= now
        ]

    def _draw(self) -> None:
        self._normals = self._rng.standard_normal((_BLOCK, DISTURBANCES)).tolist()
        self._noise = self._rng.standard_normal((_BLOCK, len(TAGS))) * _NOISE
        self._used = 0

    def _first_look(self) -> dict[str, float]:
        # A plant at rest: nothing flows yet, levels are what they are.
        seen = dict.fromkeys(NAMES, 0.0)
        process = self._process
        seen["LIT101"] = process.raw.tank.level_mm
        seen["LIT301"] = process.filtration.tank.level_mm
        seen["LIT401"] = process.dechlorination.tank.level_mm
        seen["LIT601"] = process.permeate.tank.level_mm
        seen["LIT602"] = process.permeate.backwash_tank.level_mm
        return seen
