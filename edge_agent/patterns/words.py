"""The words patterns are written in. Pure."""

from __future__ import annotations

from enum import StrEnum


class Sign(StrEnum):
    """What a sensor does, as a pattern may ask for it.

    The first ten are those of :class:`~edge_agent.verdict.Finding`. ``abrupt``: it went where it is at once, from one
    reading to the next; ``gradual``: on the way there it was seen in between; ``settled``: it is there now, and no
    longer on its way. ``lags``: since some moment it gives what it would have given some time earlier, which shows as
    a stretch repeated once. ``swapped``: it went on where another one was, and that one where it was. ``at_limit``:
    at the end of its range, where it usually is not. ``outlier``: off what others say while its own past fits. Of
    commands (actuators) ``switched``: moved since the incident began; ``commanded``: moved farther or faster than
    usual; ``toggles``: to and fro, far more often than usual; ``unmoved``: neither. The last five are flags of data
    quality.
    """

    RISES = "rises"
    FALLS = "falls"
    JUMPS_UP = "jumps_up"
    JUMPS_DOWN = "jumps_down"
    STANDS_STILL = "stands_still"
    REPEATS = "repeats"
    RESTLESS = "restless"
    CALM = "calm"
    ABOVE = "above"
    BELOW = "below"
    ABRUPT = "abrupt"
    GRADUAL = "gradual"
    SETTLED = "settled"
    LAGS = "lags"
    SWAPPED = "swapped"
    AT_LIMIT = "at_limit"
    OUTLIER = "outlier"
    SWITCHED = "switched"
    COMMANDED = "commanded"
    TOGGLES = "toggles"
    UNMOVED = "unmoved"
    STALE = "stale"
    STUCK = "stuck"
    BAD = "bad"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"


class Quantity(StrEnum):
    """What is measured, told from the unit; ``other`` where the unit says nothing."""

    FLOW = "flow"
    PRESSURE = "pressure"
    LEVEL = "level"
    TEMPERATURE = "temperature"
    ANALYSIS = "analysis"
    SPEED = "speed"
    POWER = "power"
    OTHER = "other"


class Who(StrEnum):
    """Which sensors a condition is about: the first mover, the others, both, or commands near them."""

    FIRST = "first"
    OTHERS = "others"
    ANY = "any"
    COMMANDS = "commands"


class Where(StrEnum):
    """Where they have to be, as seen from the sensors of the stage before (at first: from the first mover)."""

    ANYWHERE = "anywhere"
    SAME = "same"
    NEIGHBOUR = "neighbour"
    AREA = "area"
    OTHER_AREA = "other_area"


class PatternKind(StrEnum):
    """Somebody's doing, or wear and chance."""

    ATTACK = "attack"
    FAULT = "fault"


_UNITS: dict[Quantity, tuple[str, ...]] = {
    Quantity.FLOW: (
        "m3/h",
        "m³/h",
        "m3/s",
        "m³/s",
        "l/h",
        "l/min",
        "l/s",
        "kg/h",
        "kg/s",
        "t/h",
        "gpm",
        "nm3/h",
        "cfm",
    ),
    Quantity.PRESSURE: ("pa", "hpa", "kpa", "mpa", "bar", "mbar", "psi", "mmhg", "inhg", "atm"),
    Quantity.LEVEL: ("mm", "cm", "m", "in", "ft"),
    Quantity.TEMPERATURE: ("degc", "degf", "°c", "°f", "k", "celsius", "fahrenheit", "kelvin"),
    Quantity.ANALYSIS: (
        *("ph", "mv", "us/cm", "µs/cm", "ms/cm", "ntu", "fnu", "mg/l", "ug/l", "µg/l", "ppm", "ppb", "%rh", "w/m2"),
        *("w/m²", "g/l", "mol/l"),
    ),
    Quantity.SPEED: ("rpm", "1/min", "1/s", "hz", "m/s", "mm/s", "rad/s"),
    Quantity.POWER: ("w", "kw", "mw", "a", "ma", "v", "kv", "va", "kva", "kwh", "wh"),
}
_BY_UNIT = {unit: quantity for quantity, units in _UNITS.items() for unit in units}


def quantity_of(unit: str | None) -> Quantity:
    """What is measured in ``unit``."""
    return Quantity.OTHER if unit is None else _BY_UNIT.get(unit.strip().lower(), Quantity.OTHER)
