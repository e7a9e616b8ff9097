"""What really happens in the plant: water, pressure and chemistry of the six stages. Pure and deterministic.

Each stage reads the actuators in ``command``, moves its state on by ``dt`` seconds and writes the true values of its
sensors into ``true``; actuators report what they were told. A stage takes the flow that its neighbours had in the step
before, which is what makes the order of calls unimportant to within one step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt

from edge_agent.demo.physics import (
    KPA_PER_MM,
    SECONDS_PER_HOUR,
    Tank,
    Wander,
    approach,
    pump_flow,
    redox_mv,
    viscosity,
)

Values = dict[str, float]

DISTURBANCES = 6
"""Standard normal numbers that one step takes in."""


@dataclass(slots=True)
class Faults:
    """What is broken in this step. Filled by attacks, empty in normal operation.

    ``override``: actuators driven to a value against the controller's command (which they then report).
    ``dead``: pumps (or the lamp) that do nothing although they report to run.
    ``leak``: m3/h lost from a tank. ``clog``: factor on the resistance of ``UF`` or ``RO``.
    ``dose``: factor on what a dosing pump really delivers. ``jam``: factor on how far a valve really opens.
    ``weak``: factor on the head and the capacity of a pump that runs, as when it draws vapour.
    """

    override: dict[str, float] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    leak: dict[str, float] = field(default_factory=dict)
    clog: dict[str, float] = field(default_factory=dict)
    dose: dict[str, float] = field(default_factory=dict)
    jam: dict[str, float] = field(default_factory=dict)
    weak: dict[str, float] = field(default_factory=dict)

    def clear(self) -> None:
        """Nothing is broken."""
        for part in (self.override, self.dead, self.leak, self.clog, self.dose, self.jam, self.weak):
            part.clear()


class PumpPair:
    """A duty and a standby pump in parallel, with run-up and run-down."""

    __slots__ = ("_a", "_b", "_names")

    def __init__(self, first: str, second: str) -> None:
        self._names = (first, second)
        self._a = 0.0
        self._b = 0.0

    def step(self, command: Values, faults: Faults, dt: float) -> tuple[float, float]:
        """Relative head (0 to 1) and relative capacity (0 to 2) after ``dt``."""
        first, second = self._names
        self._a = approach(self._a, 0.0 if first in faults.dead else command[first], dt, 2.0)
        self._b = approach(self._b, 0.0 if second in faults.dead else command[second], dt, 2.0)
        a, b = self._a * faults.weak.get(first, 1.0), self._b * faults.weak.get(second, 1.0)
        speed = max(a, b)
        return speed * speed, a + b


class RawWater:
    """Stage 1: inlet valve, raw water tank T101, transfer pumps (also through the dosing valve of stage 2)."""

    HEAD, STATIC, CURVE, PIPE = 250.0, 55.0, 10.0, 20.0

    def __init__(self, level_mm: float, dt: float) -> None:
        self.tank = Tank(0.20, level_mm, {})
        self.pumps = PumpPair("P101", "P102")
        self.supply = Wander(1.0, 0.03, 120.0, dt)
        self.temperature = Wander(18.0, 0.5, 900.0, dt)
        self.flow = 0.0
        self._inlet = 0.0
        self._outlet = 0.0

    def step(self, command: Values, faults: Faults, true: Values, normals: list[float], dt: float) -> None:
        self._inlet = approach(self._inlet, command["MV101"], dt, 2.5)
        self._outlet = approach(self._outlet, command["MV201"], dt, 2.0)
        inflow = 5.0 * self._inlet * self.supply.step(normals[0])
        head, capacity = self.pumps.step(command, faults, dt)
        suction = self.tank.level_mm * KPA_PER_MM
        pressure = max(self.STATIC, self.HEAD * head + suction)
        curve = self.CURVE / max(1.0, capacity) ** 2
        flow = 0.0
        if self._outlet > 0.02 and capacity > 0.05:
            pipe = self.PIPE / (self._outlet * self._outlet)
            flow = self.tank.available(pump_flow(pressure, self.STATIC, 0.0, curve + pipe), dt)
            pressure -= curve * flow * flow
        self.flow = flow
        self.tank.step(inflow, flow + faults.leak.get("T101", 0.0), dt)
        true["FIT101"] = inflow
        true["LIT101"] = self.tank.level_mm
        true["PIT101"] = pressure
        true["TIT101"] = self.temperature.step(normals[1])


class Dosing:
    """Stage 2: acid, hypochlorite and coagulant are dosed into a pipe that mixes as the water passes."""

    NOMINAL_FLOW, PIPE_M3 = 2.5, 0.012

    def __init__(self, dt: float) -> None:
        self.raw_conductivity = Wander(420.0, 8.0, 600.0, dt)
        self.raw_turbidity = Wander(6.0, 0.7, 400.0, dt)
        self.raw_ph = Wander(7.9, 0.04, 500.0, dt)
        self.water = {"conductivity": 450.0, "ph": 7.2, "chlorine": 1.5, "turbidity": 6.0}

    def step(self, flow: float, command: Values, faults: Faults, true: Values, normals: list[float], dt: float) -> None:
        conductivity = self.raw_conductivity.step(normals[2])
        turbidity = self.raw_turbidity.step(normals[3])
        ph = self.raw_ph.step(normals[4])
        if flow > 0.05:
            per_flow = 0.01 * self.NOMINAL_FLOW / max(flow, 0.5)
            acid = command["P201"] * per_flow * faults.dose.get("P201", 1.0)
            hypochlorite = command["P202"] * per_flow * faults.dose.get("P202", 1.0)
            coagulant = command["P203"] * per_flow * faults.dose.get("P203", 1.0)
            share = 1.0 - exp(-flow * dt / SECONDS_PER_HOUR / self.PIPE_M3)
            water = self.water
            dosed = conductivity + 25.0 * acid + 18.0 * coagulant + 10.0 * hypochlorite
            water["conductivity"] += share * (dosed - water["conductivity"])
            water["ph"] += share * (ph - 1.6 * acid + 0.2 * hypochlorite - water["ph"])
            water["chlorine"] += share * (max(0.0, 3.2 * hypochlorite - 0.03 * turbidity) - water["chlorine"])
            flocs = turbidity * (1.0 - 0.25 * coagulant)
            water["turbidity"] += share * (flocs - water["turbidity"])
        self._report(flow, command, true)

    def _report(self, flow: float, command: Values, true: Values) -> None:
        true["FIT201"] = flow
        true["AIT201"] = self.water["conductivity"]
        true["AIT202"] = self.water["ph"]
        true["AIT203"] = redox_mv(self.water["chlorine"])
        true["AIT204"] = self.water["turbidity"]


class Ultrafiltration:
    """Stage 3: feed tank T301, membrane that fouls with the turbidity it holds back and is cleaned by backwash."""

    HEAD, STATIC, QUADRATIC, CURVE = 220.0, 30.0, 28.0, 8.0
    CLEAN, FOULING, CLEANING_M3 = 16.0, 9.0, 0.010

    def __init__(self, level_mm: float) -> None:
        self.tank = Tank(0.15, level_mm, {"conductivity": 450.0, "ph": 7.2, "chlorine": 1.5, "turbidity": 5.0})
        self.pumps = PumpPair("P301", "P302")
        self.fouling = 3.0
        self.flow = 0.0
        self.backwash_flow = 0.0
        self._outlet = self._drain = self._inlet = self._backwash = 0.0
        self._since_backwash_m3 = 1.0

    def step(
        self,
        dosing: Dosing,
        inflow: float,
        temperature: float,
        command: Values,
        faults: Faults,
        true: Values,
        dt: float,
    ) -> None:
        self._outlet = approach(self._outlet, command["MV301"] * faults.jam.get("MV301", 1.0), dt, 2.0)
        self._drain = approach(self._drain, command["MV302"], dt, 2.0)
        self._inlet = approach(self._inlet, command["MV303"], dt, 2.0)
        resistance = (self.CLEAN + self.fouling) * viscosity(temperature) * faults.clog.get("UF", 1.0)
        pressure = self._filter(resistance, command, faults, dt)
        self._wash(command, faults, dt)
        self.tank.step(inflow, self.flow + faults.leak.get("T301", 0.0), dt, dosing.water)
        true["LIT301"] = self.tank.level_mm
        true["FIT301"] = self.flow
        true["PIT301"] = pressure
        true["DPIT301"] = self.flow * resistance - 0.45 * self.backwash_flow * resistance
        ripening = 0.12 * exp(-self._since_backwash_m3 / 0.02)
        true["AIT301"] = 0.03 + 0.004 * self.tank.contents["turbidity"] + ripening

    def _filter(self, resistance: float, command: Values, faults: Faults, dt: float) -> float:
        head, capacity = self.pumps.step(command, faults, dt)
        pressure = max(self.STATIC, self.HEAD * head + self.tank.level_mm * KPA_PER_MM)
        curve = self.CURVE / max(1.0, capacity) ** 2
        self.flow = 0.0
        if self._outlet > 0.02 and capacity > 0.05:
            quadratic = curve + (self.QUADRATIC - self.CURVE) / (self._outlet * self._outlet)
            self.flow = self.tank.available(pump_flow(pressure, self.STATIC, resistance, quadratic), dt)
            pressure -= curve * self.flow * self.flow
        volume = self.flow * dt / SECONDS_PER_HOUR
        self.fouling += self.FOULING * volume * self.tank.contents["turbidity"]
        self._since_backwash_m3 += volume
        return pressure

    def _wash(self, command: Values, faults: Faults, dt: float) -> None:
        speed = 0.0 if "P602" in faults.dead else command["P602"]
        self._backwash = approach(self._backwash, speed, dt, 2.0)
        path = min(self._drain, self._inlet)
        self.backwash_flow = 3.2 * self._backwash * path if path > 0.02 else 0.0
        volume = self.backwash_flow * dt / SECONDS_PER_HOUR
        self.fouling *= exp(-volume / self.CLEANING_M3)
        if volume > 0.0:
            self._since_backwash_m3 = 0.0


class Dechlorination:
    """Stage 4: feed tank T401; ultraviolet light and bisulphite remove the chlorine that would harm the membrane."""

    NOMINAL_FLOW, PIPE_M3 = 1.85, 0.008

    def __init__(self, level_mm: float) -> None:
        self.tank = Tank(0.20, level_mm, {"conductivity": 450.0, "chlorine": 1.4})
        self.pumps = PumpPair("P401", "P402")
        self.head = 0.0
        self.capacity = 0.0
        self.conductivity = 455.0
        self.chlorine = 0.15
        self._lamp = 0.0

    def step(
        self,
        feed: Tank,
        inflow: float,
        flow: float,
        clarity: float,
        command: Values,
        faults: Faults,
        true: Values,
        dt: float,
    ) -> None:
        self.head, self.capacity = self.pumps.step(command, faults, dt)
        self._lamp = approach(self._lamp, 0.0 if "UV401" in faults.dead else command["UV401"], dt, 5.0)
        self.tank.step(inflow, flow + faults.leak.get("T401", 0.0), dt, _dissolved(feed))
        if flow > 0.05:
            self._treat(flow, command["P403"] * faults.dose.get("P403", 1.0), dt)
        true["LIT401"] = self.tank.level_mm
        true["FIT401"] = flow
        true["AIT401"] = 130.0 * self._lamp * exp(-2.0 * clarity)
        true["AIT402"] = redox_mv(self.chlorine)

    def _treat(self, flow: float, bisulphite_percent: float, dt: float) -> None:
        ratio = 0.01 * bisulphite_percent * self.NOMINAL_FLOW / max(flow, 0.4)
        dose = self._lamp * min(3.0, self.NOMINAL_FLOW / flow)
        chlorine = max(0.0, self.tank.contents["chlorine"] * exp(-0.9 * dose) - 1.1 * ratio)
        share = 1.0 - exp(-flow * dt / SECONDS_PER_HOUR / self.PIPE_M3)
        self.chlorine += share * (chlorine - self.chlorine)
        self.conductivity += share * (self.tank.contents["conductivity"] + 9.0 * ratio - self.conductivity)


class ReverseOsmosis:
    """Stage 5: high-pressure pump, membrane with osmotic pressure, salt passage and slow fouling, reject valve."""

    BOOSTER, PUMP, CURVE = 250.0, 1500.0, 60.0
    PERMEABILITY, VALVE, SALT_PASSAGE = 0.00142, 0.0528, 0.022

    def __init__(self) -> None:
        self.permeate = 0.0
        self.reject = 0.0
        self.fouling = 0.03
        self._speed = 0.0
        self._valve = 0.4
        self._pressure = 20.0
        self._conductivity = 10.0

    @property
    def feed(self) -> float:
        """Flow that the membrane takes in."""
        return self.permeate + self.reject

    def step(
        self, source: Dechlorination, temperature: float, command: Values, faults: Faults, true: Values, dt: float
    ) -> None:
        running = 0.0 if "P501" in faults.dead else command["P501"] / 100.0
        self._speed = approach(self._speed, running, dt, 3.0)
        self._valve = approach(self._valve, command["MV501"] / 100.0, dt, 2.5)
        loss = self._flows(source, temperature, faults, dt)
        if self.permeate > 0.03:
            passage = self.SALT_PASSAGE / (self.SALT_PASSAGE + self.permeate)
            self._conductivity = approach(self._conductivity, 1.5 * source.conductivity * passage, dt, 12.0)
        true["PIT501"] = self._pressure
        true["PIT502"] = 18.0 + 22.0 * self.permeate * self.permeate
        true["PIT503"] = max(0.0, self._pressure - loss)
        true["FIT501"] = self.feed
        true["FIT502"] = self.permeate
        true["FIT503"] = self.reject
        true["AIT501"] = self._conductivity
        true["AIT502"] = source.conductivity

    def _flows(self, source: Dechlorination, temperature: float, faults: Faults, dt: float) -> float:
        """New pressure, then the flows it drives; gives the pressure lost along the membrane."""
        feed = self.feed
        supply = self.BOOSTER * source.head + source.tank.level_mm * KPA_PER_MM
        wet = min(1.0, source.tank.level_mm / 60.0) if source.capacity > 0.05 else 0.0
        target = wet * max(0.0, supply + self.PUMP * self._speed * self._speed - self.CURVE * feed * feed)
        self._pressure = approach(self._pressure, target, dt, 3.0)
        loss = 9.0 * feed * feed * faults.clog.get("RO", 1.0)
        driving = self._pressure - 0.5 * loss - 0.1 * source.conductivity - 22.0 * self.permeate * self.permeate
        permeability = self.PERMEABILITY / ((1.0 + self.fouling) * viscosity(temperature) * faults.clog.get("RO", 1.0))
        # Water only moves when it is fed: without the booster pump the vessel just loses its pressure.
        self.permeate = wet * max(0.0, permeability * driving)
        self.reject = wet * self.VALVE * self._valve * sqrt(max(0.0, self._pressure - loss))
        volume = dt / SECONDS_PER_HOUR
        self.fouling += 0.3 * self.permeate * volume
        self.fouling *= exp(-max(0.0, self.reject - 0.9) * volume / 0.002)
        return loss


class Permeate:
    """Stage 6: permeate tank T601 with the consumers, backwash tank T602 filled with reject water."""

    def __init__(self, permeate_mm: float, backwash_mm: float, dt: float) -> None:
        self.tank = Tank(0.12, permeate_mm, {})
        self.backwash_tank = Tank(0.15, backwash_mm, {})
        self.demand = Wander(0.78, 0.08, 150.0, dt)
        self.flow = 0.0
        self._valve = 0.0
        self._speed = 0.0

    def step(
        self,
        osmosis: ReverseOsmosis,
        backwash: float,
        command: Values,
        faults: Faults,
        true: Values,
        normal: float,
        dt: float,
    ) -> None:
        self._valve = approach(self._valve, command["MV601"], dt, 2.5)
        self._speed = approach(self._speed, 0.0 if "P601" in faults.dead else command["P601"] / 100.0, dt, 2.0)
        opening = self.demand.step(normal)
        self.flow = self.tank.available(opening * self._speed / 0.8, dt)
        drawn = self.backwash_tank.available(backwash, dt)
        self.tank.step(osmosis.permeate, self.flow + faults.leak.get("T601", 0.0), dt)
        self.backwash_tank.step(osmosis.reject * self._valve, drawn + faults.leak.get("T602", 0.0), dt)
        true["LIT601"] = self.tank.level_mm
        true["FIT601"] = self.flow
        true["LIT602"] = self.backwash_tank.level_mm
        true["FIT602"] = drawn


class Process:
    """The six stages together. ``true`` holds the true value of every tag after the last step."""

    def __init__(self, levels_mm: tuple[float, float, float, float, float], dt: float) -> None:
        self.dt = dt
        self.raw = RawWater(levels_mm[0], dt)
        self.dosing = Dosing(dt)
        self.filtration = Ultrafiltration(levels_mm[1])
        self.dechlorination = Dechlorination(levels_mm[2])
        self.osmosis = ReverseOsmosis()
        self.permeate = Permeate(levels_mm[3], levels_mm[4], dt)
        self.true: Values = {}
        self._driven: Values | None = None

    def step(self, command: Values, faults: Faults, normals: list[float]) -> Values:
        """One step under these actuator states, faults and ``DISTURBANCES`` standard normal numbers."""
        dt, true, reported = self.dt, self.true, command
        # Contactors and drives act one step after they were told; what they report is what they were told.
        command, self._driven = self._driven or command, dict(command)
        self.raw.step(command, faults, true, normals, dt)
        self.dosing.step(self.raw.flow, command, faults, true, normals, dt)
        temperature = true["TIT101"]
        filtration, dechlorination, osmosis = self.filtration, self.dechlorination, self.osmosis
        filtration.step(self.dosing, self.raw.flow, temperature, command, faults, true, dt)
        drawn = dechlorination.tank.available(osmosis.feed, dt)
        dechlorination.step(filtration.tank, filtration.flow, drawn, true["AIT301"], command, faults, true, dt)
        osmosis.step(dechlorination, temperature, command, faults, true, dt)
        self.permeate.step(osmosis, filtration.backwash_flow, command, faults, true, normals[5], dt)
        true.update(reported)
        return true


def _dissolved(tank: Tank) -> dict[str, float]:
    contents = tank.contents
    return {"conductivity": contents["conductivity"], "chlorine": contents["chlorine"]}
