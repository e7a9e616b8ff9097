"""The account of false alarms: what was promised, what was raised, and how much harder the next one has to be. Pure.

Each process incident takes one *step* from the budget: until it is earned back, at the rate the budget grows, an alarm
needs ``e`` times less likely scores; while there is no alarm, what is earned makes it easier, up to 20 times. Where
scores are bounded by B steps, that alone keeps the number of alarms in T ticks below ``rate * T + B``, whatever the
scores do (the bound of adaptive conformal inference, I. Gibbs, E. Candes, NeurIPS 2021). An operator who says that an
alarm was true gives its step back; a false one costs a step more, on the sensors it was about only.

Incidents are rare and independent by design, so their number in a given time is taken for Poisson; the interval of the
achieved rate is that of F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28 (1936), with the
chi-squared quantiles of E. B. Wilson, M. M. Hilferty, PNAS 17 (1931).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

_STEP = 1.0  # natural logarithms of the likelihood
_LEAST, _MOST = -3.0, 8.0  # of the margin
_LOOSEST = 0.05  # events a tick from which on there is an alarm, however long there was none
_MOST_SENSORS = 10_000
_Z = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class Achieved:
    """False alarms a second with its 95 % interval. ``alarms``: raised and not said to be true, in ``watched_s``."""

    alarms: int
    watched_s: float
    rate: float
    low: float
    high: float


class Budget:
    """``rate``: false alarms a tick that the user allows. ``period_s``: length of a tick."""

    def __init__(self, rate: float, period_s: float) -> None:
        self.rate = rate
        self._period_s = period_s
        self._ticks = 0
        self._alarms = 0
        self._margin = 0.0
        self._sensors: dict[str, float] = {}  # steps earned in all when a sensor's own margin will be earned back

    @property
    def margin(self) -> float:
        """Steps that are not earned back: an alarm has to be ``exp(margin)`` times less likely than the budget.

        Negative after a long time without one.
        """
        return self._margin

    def allowed(self, sensors: Collection[str] = ()) -> float:
        """Events a tick from which on scores are an alarm; less where people called those of ``sensors`` false.

        Where several sensors take part, the one that was called false least counts: it may be something new.
        """
        own = min((self._own(name) for name in sensors), default=0.0)
        return min(self.rate * math.exp(-min(self._margin + own, _MOST)), _LOOSEST)

    def allow(self, rate: float) -> None:
        """Go on with another rate; what was raised and how much of it is not earned back stays as it is."""
        own = {name: self._own(name) for name in self._sensors}
        self.rate = rate
        self._sensors = {name: self._earned + left for name, left in own.items() if left > 0}

    def watched(self) -> None:
        """A tick has passed on which an alarm could have been raised."""
        self._ticks += 1
        self._margin = max(_LEAST, self._margin - _STEP * self.rate)

    def raised(self) -> None:
        """An alarm was raised."""
        self._alarms += 1
        self._margin = min(self._margin + _STEP, _MOST)

    def judged(self, sensors: Iterable[str], *, false_alarm: bool) -> None:
        """An operator said what an alarm about ``sensors`` was."""
        if not false_alarm:
            self._alarms = max(0, self._alarms - 1)
            self._margin = max(_LEAST, self._margin - _STEP)
            for name in sensors:
                self._sensors.pop(name, None)
            return
        self._sensors = {name: level for name, level in self._sensors.items() if level > self._earned}
        for name in sensors:
            if name in self._sensors or len(self._sensors) < _MOST_SENSORS:
                self._sensors[name] = self._earned + min(self._own(name) + _STEP, _MOST)

    def achieved(self) -> Achieved | None:
        """The rate so far; None before the first tick."""
        if not self._ticks:
            return None
        watched_s = self._ticks * self._period_s
        low, high = poisson_interval(self._alarms)
        return Achieved(self._alarms, watched_s, self._alarms / watched_s, low / watched_s, high / watched_s)

    def status(self) -> dict[str, float | int | None]:
        """What people are told, rates a day: what is allowed, what was achieved with its interval, and the margin."""
        achieved = self.achieved()
        rates = (None, None, None) if achieved is None else (achieved.rate, achieved.low, achieved.high)
        a_day = [None if rate is None else round(rate * 86_400, 4) for rate in rates]
        return {
            "allowed_per_day": round(self.rate / self._period_s * 86_400, 4),
            "achieved_per_day": a_day[0],
            "achieved_low_per_day": a_day[1],
            "achieved_high_per_day": a_day[2],
            "alarms": self._alarms,
            "watched_s": round(self._ticks * self._period_s, 3),
            "margin": round(self._margin, 3),
        }

    def export(self) -> tuple[list[float], dict[str, float]]:
        """What was learned, for saving: ticks, alarms and margin, and the margins of sensors."""
        own = {name: self._own(name) for name, level in self._sensors.items() if level > self._earned}
        return [float(self._ticks), float(self._alarms), self._margin], own

    def restore(self, account: list[float], sensors: dict[str, float]) -> None:
        """Take over what :meth:`export` gave. :raises ValueError: it has another form."""
        counted = [*account[:2], *sensors.values()]
        finite = all(math.isfinite(number) for number in (*account, *counted))
        if len(account) != 3 or not finite or min(counted) < 0:
            raise ValueError(f"saved budget: got {account}, expected ticks, alarms and a margin")
        self._ticks, self._alarms = int(account[0]), int(account[1])
        self._margin = min(max(account[2], _LEAST), _MOST)
        kept = list(sensors.items())[:_MOST_SENSORS]
        self._sensors = {name: self._earned + min(left, _MOST) for name, left in kept}

    @property
    def _earned(self) -> float:
        return _STEP * self.rate * self._ticks

    def _own(self, name: str) -> float:
        return max(0.0, self._sensors.get(name, 0.0) - self._earned)


def poisson_interval(count: int) -> tuple[float, float]:
    """95 % interval of the mean of a Poisson distribution that gave ``count``; up to .02 from the exact one."""
    low = _half_chi_squared(2 * count, -_Z) if count > 1 else -math.log(0.975) * count
    high = _half_chi_squared(2 * count + 2, _Z) if count else -math.log(0.025)
    return low, high


def _half_chi_squared(degrees: int, z: float) -> float:
    ninth = 2.0 / (9.0 * degrees)
    return 0.5 * degrees * max(0.0, 1.0 - ninth + z * math.sqrt(ninth)) ** 3
