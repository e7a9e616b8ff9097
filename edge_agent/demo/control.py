"""The PLC programs: level control with hysteresis, dosing loops, backwash sequence, interlocks.

A controller knows only what its instruments show (``seen``), which is why a spoofed level can make it do harm.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.demo.tags import TAGS, Kind

Values = dict[str, float]
Seen = Mapping[str, float]

ACTUATORS: tuple[str, ...] = tuple(tag.name for tag in TAGS if tag.kind is Kind.ACTUATOR)


class Hysteresis:
    """Switches on at ``on_at`` and off at ``off_at``; between them it keeps its state. Either may be the higher."""

    __slots__ = ("_off_at", "_on_at", "_rising", "on")

    def __init__(self, on_at: float, off_at: float, on: bool = False) -> None:
        self._on_at = on_at
        self._off_at = off_at
        self._rising = on_at > off_at
        self.on = on

    def step(self, value: float) -> bool:
        """The state after seeing ``value``."""
        if self._rising:
            self.on = value > self._off_at if self.on else value >= self._on_at
        else:
            self.on = value < self._off_at if self.on else value <= self._on_at
        return self.on


class Loop:
    """A PI controller with limits; its integral stops at them (no wind-up)."""

    __slots__ = ("_gain", "_high", "_integral", "_low", "_reset_s")

    def __init__(self, gain: float, reset_s: float, start: float, low: float = 0.0, high: float = 100.0) -> None:
        self._gain = gain
        self._reset_s = reset_s
        self._low = low
        self._high = high
        self._integral = start

    def step(self, error: float, dt: float) -> float:
        """Output for this ``error`` (set point minus value, or the reverse for a reverse-acting loop)."""
        wanted = self._integral + self._gain * error
        if self._low < wanted < self._high:
            self._integral += self._gain * error * dt / self._reset_s
        return min(self._high, max(self._low, wanted))


class Duty:
    """Which of two pumps runs: they take turns at every start, and the other takes over when one gives no flow."""

    __slots__ = ("_dry_s", "_first", "_names", "_running", "_second_on_duty")

    def __init__(self, first: str, second: str) -> None:
        self._names = (first, second)
        self._second_on_duty = False
        self._running = False
        self._dry_s = 0.0

    def step(self, run: bool, flow: float, command: Values, dt: float) -> None:
        """Command both pumps. ``flow`` (m3/h) must show within 15 s of a start."""
        if run and not self._running:
            self._second_on_duty = not self._second_on_duty
            self._dry_s = 0.0
        self._running = run
        self._dry_s = self._dry_s + dt if run and flow < 0.3 else 0.0
        if self._dry_s > 15.0:
            self._second_on_duty = not self._second_on_duty
            self._dry_s = 0.0
        first, second = self._names
        command[first] = 1.0 if run and not self._second_on_duty else 0.0
        command[second] = 1.0 if run and self._second_on_duty else 0.0


class RawWaterControl:
    """Stages 1 and 2: keep T101 filled, feed T301, dose in proportion to flow with trim by the analysers."""

    def __init__(self) -> None:
        self._fill = Hysteresis(450.0, 800.0)
        self._request = Hysteresis(650.0, 900.0)
        self._permit = Hysteresis(300.0, 200.0, on=True)
        self._duty = Duty("P101", "P102")
        self._acid = Loop(6.0, 25.0, 48.0)
        self._hypochlorite = Loop(0.05, 25.0, 52.0)
        self._open_s = 0.0
        self._closing_s = 99.0

    def step(self, seen: Seen, command: Values, dt: float) -> None:
        command["MV101"] = 1.0 if self._fill.step(seen["LIT101"]) else 0.0
        wanted = self._request.step(seen["LIT301"])
        wanted = self._permit.step(seen["LIT101"]) and wanted
        # The valve opens before the pump starts and closes after it has stopped.
        self._open_s = self._open_s + dt if wanted else 0.0
        self._closing_s = 0.0 if wanted else self._closing_s + dt
        command["MV201"] = 1.0 if wanted or self._closing_s < 3.0 else 0.0
        self._duty.step(self._open_s > 3.0, seen["FIT201"], command, dt)
        self._dose(seen, command, dt)

    def _dose(self, seen: Seen, command: Values, dt: float) -> None:
        flow = seen["FIT201"]
        if flow < 0.5:
            command["P201"] = command["P202"] = command["P203"] = 0.0
            return
        share = flow / 2.5
        command["P201"] = min(100.0, share * self._acid.step(seen["AIT202"] - 7.2, dt))
        command["P202"] = min(100.0, share * self._hypochlorite.step(500.0 - seen["AIT203"], dt))
        command["P203"] = min(100.0, share * 7.0 * seen["AIT204"])


class FiltrationControl:
    """Stage 3: filter while T401 wants water, backwash after so much filtering or at a high pressure difference."""

    FILTER_S, PAUSE_S, WASH_S, LIMIT_KPA = 150.0, 4.0, 24.0, 95.0

    def __init__(self) -> None:
        self._request = Hysteresis(650.0, 900.0)
        self._permit = Hysteresis(300.0, 200.0, on=True)
        self._reserve = Hysteresis(450.0, 150.0)
        self._duty = Duty("P301", "P302")
        self._filtered_s = 0.0
        self._wash_s: float | None = None

    def step(self, seen: Seen, command: Values, dt: float) -> None:
        wanted = self._request.step(seen["LIT401"])
        wanted = self._permit.step(seen["LIT301"]) and wanted
        reserve = self._reserve.step(seen["LIT602"])
        if self._wash_s is None:
            self._filter(wanted, seen, command, dt)
            if reserve and (self._filtered_s > self.FILTER_S or seen["DPIT301"] > self.LIMIT_KPA):
                self._wash_s = 0.0
        else:
            self._wash(self._wash_s, reserve, seen, command, dt)

    def _filter(self, wanted: bool, seen: Seen, command: Values, dt: float) -> None:
        command["MV301"] = 1.0 if wanted else 0.0
        command["MV302"] = command["MV303"] = command["P602"] = 0.0
        self._duty.step(wanted, seen["FIT301"], command, dt)
        if wanted:
            self._filtered_s += dt

    def _wash(self, elapsed: float, reserve: bool, seen: Seen, command: Values, dt: float) -> None:
        pumping = self.PAUSE_S * 2 < elapsed < self.PAUSE_S * 2 + self.WASH_S and reserve
        end = self.PAUSE_S * 3 + self.WASH_S
        self._duty.step(False, seen["FIT301"], command, dt)
        command["MV301"] = 0.0
        command["MV302"] = 1.0 if elapsed > self.PAUSE_S else 0.0
        command["MV303"] = 1.0 if self.PAUSE_S < elapsed < end else 0.0
        command["P602"] = 1.0 if pumping else 0.0
        self._wash_s = elapsed + dt
        if elapsed > end + self.PAUSE_S:
            self._wash_s = None
            self._filtered_s = 0.0


class OsmosisControl:
    """Stages 4 and 5: make permeate while T601 wants it, without chlorine, and flush the membrane at intervals."""

    SETPOINT, FLUSH_EVERY_S, FLUSH_S = 1.2, 110.0, 12.0

    def __init__(self) -> None:
        self._request = Hysteresis(600.0, 850.0)
        self._permit = Hysteresis(300.0, 200.0, on=True)
        self._duty = Duty("P401", "P402")
        self._pressure = Loop(12.0, 8.0, 75.0, 35.0, 100.0)
        self._bisulphite = Loop(0.12, 15.0, 40.0)
        self._running_s = 0.0
        self._flushed_s = 0.0

    def step(self, seen: Seen, command: Values, dt: float) -> None:
        wanted = self._request.step(seen["LIT601"])
        wanted = self._permit.step(seen["LIT401"]) and wanted
        self._running_s = self._running_s + dt if wanted else 0.0
        self._duty.step(wanted, seen["FIT401"], command, dt)
        command["UV401"] = 1.0 if wanted else 0.0
        flowing = wanted and seen["FIT401"] > 0.4
        trim = self._bisulphite.step(seen["AIT402"] - 310.0, dt) if flowing else 0.0
        command["P403"] = min(100.0, trim * seen["FIT401"] / 1.85)
        self._press(wanted, seen, command, dt)

    def _press(self, wanted: bool, seen: Seen, command: Values, dt: float) -> None:
        flush = False
        if wanted:
            self._flushed_s += dt
            flush = self._flushed_s > self.FLUSH_EVERY_S
            if self._flushed_s > self.FLUSH_EVERY_S + self.FLUSH_S:
                self._flushed_s = 0.0
        command["MV501"] = 90.0 if flush else 40.0
        # The high-pressure pump waits for the booster pump, and keeps its speed during a flush.
        if self._running_s < 5.0:
            command["P501"] = 0.0
        elif not flush:
            command["P501"] = self._pressure.step(self.SETPOINT - seen["FIT502"], dt)


class DistributionControl:
    """Stage 6: deliver at a pressure that rises with the flow; refill T602 with reject water."""

    def __init__(self) -> None:
        self._permit = Hysteresis(250.0, 120.0, on=True)
        self._refill = Hysteresis(650.0, 900.0)
        self._speed = 80.0

    def step(self, seen: Seen, command: Values, dt: float) -> None:
        command["MV601"] = 1.0 if self._refill.step(seen["LIT602"]) else 0.0
        wanted = 64.0 + 20.0 * seen["FIT601"]
        self._speed += (min(100.0, wanted) - self._speed) * min(1.0, dt / 5.0)
        command["P601"] = self._speed if self._permit.step(seen["LIT601"]) else 0.0


class Controller:
    """All PLC programs of the line. ``command`` holds the last command to every actuator."""

    def __init__(self, dt: float) -> None:
        self.dt = dt
        self.command: Values = dict.fromkeys(ACTUATORS, 0.0)
        self._programs = (
            RawWaterControl(),
            FiltrationControl(),
            OsmosisControl(),
            DistributionControl(),
        )

    def step(self, seen: Seen) -> Values:
        """Commands that follow from what the instruments show."""
        for program in self._programs:
            program.step(seen, self.command, self.dt)
        return self.command
