"""The few laws the plant is made of. Pure; units: m3/h, mm, kPa, seconds."""

from __future__ import annotations

from math import exp, sqrt

SECONDS_PER_HOUR = 3600.0
KPA_PER_MM = 0.00981
"""Pressure of a water column (density 1000 kg/m3)."""


class Tank:
    """A vertical tank: what flows in and not out raises the level; above ``height_mm`` it overflows.

    ``contents`` are concentrations, ideally mixed. ``overflowed_m3`` counts what was lost over the edge.
    """

    __slots__ = ("area_m2", "contents", "height_mm", "level_mm", "overflowed_m3")

    def __init__(self, area_m2: float, level_mm: float, contents: dict[str, float], height_mm: float = 1150.0) -> None:
        self.area_m2 = area_m2
        self.level_mm = level_mm
        self.contents = contents
        self.height_mm = height_mm
        self.overflowed_m3 = 0.0

    def step(self, inflow: float, outflow: float, dt: float, feed: dict[str, float] | None = None) -> None:
        """Balance water and, where ``feed`` gives the concentrations of the inflow, what is dissolved in it."""
        if feed is not None and inflow > 0.0:
            volume = max(self.level_mm, 50.0) * self.area_m2 / 1000.0
            share = min(1.0, inflow * dt / SECONDS_PER_HOUR / volume)
            for name, value in feed.items():
                self.contents[name] += share * (value - self.contents[name])
        level = self.level_mm + (inflow - outflow) * dt / SECONDS_PER_HOUR / self.area_m2 * 1000.0
        if level > self.height_mm:
            self.overflowed_m3 += (level - self.height_mm) * self.area_m2 / 1000.0
            level = self.height_mm
        self.level_mm = max(0.0, level)

    def available(self, flow: float, dt: float) -> float:
        """``flow``, limited to what is in the tank: a pump cannot draw from an empty one."""
        return min(flow, self.level_mm * self.area_m2 / 1000.0 * SECONDS_PER_HOUR / dt)


class Wander:
    """A disturbance that wanders about its mean and stays within bounds (Ornstein-Uhlenbeck process)."""

    __slots__ = ("_high", "_keep", "_kick", "_low", "_mean", "value")

    def __init__(self, mean: float, deviation: float, tau_s: float, dt: float) -> None:
        self._mean = mean
        self._keep = exp(-dt / tau_s)
        self._kick = deviation * sqrt(1.0 - self._keep * self._keep)
        self._low = mean - 3.0 * deviation
        self._high = mean + 3.0 * deviation
        self.value = mean

    def step(self, normal: float) -> float:
        """Move on by one step, driven by one standard normal number."""
        value = self._mean + (self.value - self._mean) * self._keep + self._kick * normal
        self.value = min(self._high, max(self._low, value))
        return self.value


def approach(value: float, target: float, dt: float, tau_s: float) -> float:
    """First-order lag: one step of ``dt`` from ``value`` towards ``target``."""
    return target + (value - target) * exp(-dt / tau_s)


def pump_flow(head: float, static: float, linear: float, quadratic: float) -> float:
    """Flow where pump and pipe agree: ``head = static + linear*q + quadratic*q**2``; 0 behind a check valve.

    ``quadratic`` holds the fall of the pump curve and the friction of the pipe together.
    """
    surplus = head - static
    if surplus <= 0.0:
        return 0.0
    return (sqrt(linear * linear + 4.0 * quadratic * surplus) - linear) / (2.0 * quadratic)


def redox_mv(chlorine_mg_l: float) -> float:
    """Redox potential of water with this much free chlorine: steep at first, then saturating."""
    return 230.0 + 420.0 * chlorine_mg_l / (chlorine_mg_l + 0.8)


def viscosity(temperature_c: float) -> float:
    """Viscosity of water relative to 20 degC (about 2.4 % less for each degree more)."""
    return exp(-0.024 * (temperature_c - 20.0))
