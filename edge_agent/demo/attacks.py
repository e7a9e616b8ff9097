"""The attacks and faults that the simulated plant can suffer, in one registry: :data:`ATTACKS`."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import sin

from edge_agent.demo.effects import Break, Dead, Delayed, Effect, Frozen, Noise, Offset, Sequence, Silent, Stuck, Swap
from edge_agent.demo.process import Faults
from edge_agent.demo.tags import TAGS
from edge_agent.errors import ConfigError


class Place(StrEnum):
    """Where an attack acts (see :mod:`edge_agent.demo.effects`)."""

    PROCESS = "process"
    INSTRUMENTS = "instruments"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Attack:
    """A kind of attack or fault. ``affected`` are the tags it touches directly; the plant may carry it further.

    ``magnitude`` is the default strength; ``magnitude_means`` says what the number is, with its unit.
    """

    name: str
    description: str
    stage: int
    places: frozenset[Place]
    affected: tuple[str, ...]
    magnitude: float
    magnitude_means: str
    build: Callable[[float], Effect]
    duration_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Injection:
    """One run of an attack, in plant seconds since the start of the plant."""

    attack: Attack
    start_s: float
    duration_s: float
    magnitude: float

    @property
    def end_s(self) -> float:
        """The first moment at which it no longer acts."""
        return self.start_s + self.duration_s


def attack_named(name: str) -> Attack:
    """The attack of this name. :raises ConfigError: naming the nearest known one."""
    attack = ATTACKS.get(name)
    if attack is None:
        near = difflib.get_close_matches(name, ATTACKS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(ATTACKS)}"
        raise ConfigError(f"attack: got {name!r}, which is not known{hint}")
    return attack


def inject(name: str, start_s: float, duration_s: float | None = None, magnitude: float | None = None) -> Injection:
    """An injection with the attack's own duration and magnitude unless given. :raises ConfigError: unknown name."""
    attack = attack_named(name)
    return Injection(
        attack,
        start_s,
        attack.duration_s if duration_s is None else duration_s,
        attack.magnitude if magnitude is None else magnitude,
    )


def _stage_tags(stage: int) -> tuple[str, ...]:
    return tuple(tag.name for tag in TAGS if tag.stage == stage)


def _drive(*names: str) -> Callable[[float], Effect]:
    def build(value: float) -> Effect:
        def act(faults: Faults, elapsed_s: float) -> None:
            faults.override.update(dict.fromkeys(names, value))

        return Break(act)

    return build


def _kill(*names: str) -> Callable[[float], Effect]:
    return lambda _: Break(lambda faults, _elapsed: faults.dead.update(names))


def _leak(tank: str) -> Callable[[float], Effect]:
    return lambda flow: Break(lambda faults, _elapsed: faults.leak.update({tank: flow}))


def _jam(valve: str) -> Callable[[float], Effect]:
    return lambda opening: Break(lambda faults, _elapsed: faults.jam.update({valve: opening}))


def _dose(pump: str) -> Callable[[float], Effect]:
    return lambda factor: Break(lambda faults, _elapsed: faults.dose.update({pump: factor}))


def _clog(what: str, ramp_s: float) -> Callable[[float], Effect]:
    def build(factor: float) -> Effect:
        def act(faults: Faults, elapsed_s: float) -> None:
            faults.clog[what] = 1.0 + (factor - 1.0) * min(1.0, elapsed_s / ramp_s)

        return Break(act)

    return build


def _cavitate(*pumps: str) -> Callable[[float], Effect]:
    def build(loss: float) -> Effect:
        def act(faults: Faults, elapsed_s: float) -> None:
            # Two waves that never come back to the same place: restless, and the same for every seed.
            rough = 0.5 + 0.3 * sin(1.9 * elapsed_s) + 0.2 * sin(4.7 * elapsed_s)
            faults.weak.update(dict.fromkeys(pumps, 1.0 - loss * rough))

        return Break(act)

    return build


def _toggle(*names: str) -> Callable[[float], Effect]:
    def build(every_s: float) -> Effect:
        def act(faults: Faults, elapsed_s: float) -> None:
            faults.override.update(dict.fromkeys(names, float(int(elapsed_s / every_s) % 2)))

        return Break(act)

    return build


def _campaign(amount: float) -> Effect:
    return Sequence((0.0, Offset(("AIT203",), amount)), (120.0, _drive("P501")(100.0)))


def _overflow(amount: float) -> Effect:
    return Sequence((0.0, Offset(("LIT101",), -amount, ramp_s=5.0)), (20.0, _drive("P101", "P102")(0.0)))


_PROCESS = frozenset({Place.PROCESS})
_INSTRUMENTS = frozenset({Place.INSTRUMENTS})
_REPORT = frozenset({Place.REPORT})

_ALL: tuple[Attack, ...] = (
    Attack(
        "spoofed-level",
        "LIT301 shows a level lower than it is; the controller overfills the tank",
        3,
        _INSTRUMENTS,
        ("LIT301",),
        250.0,
        "mm too low",
        lambda amount: Offset(("LIT301",), -amount),
    ),
    Attack(
        "replay",
        "Reverse osmosis reports its own past again, whatever it really does",
        5,
        _REPORT,
        _stage_tags(5),
        420.0,
        "seconds back",
        lambda delay_s: Delayed(_stage_tags(5), delay_s),
    ),
    Attack(
        "slow-drift",
        "The pH analyser drifts away slowly; acid dosing follows it",
        2,
        _INSTRUMENTS,
        ("AIT202",),
        1.5,
        "pH reached after three minutes",
        lambda amount: Offset(("AIT202",), amount, ramp_s=180.0),
        240.0,
    ),
    Attack(
        "stuck-sensor",
        "Level LIT401 no longer moves; the controller believes it",
        4,
        _INSTRUMENTS,
        ("LIT401",),
        1.0,
        "not used",
        lambda _: Stuck(("LIT401",)),
    ),
    Attack(
        "bias",
        "Permeate flow FIT502 reads too high; the pump is slowed to match",
        5,
        _INSTRUMENTS,
        ("FIT502",),
        0.5,
        "m3/h too high",
        lambda amount: Offset(("FIT502",), amount),
    ),
    Attack(
        "noise-burst",
        "Level LIT101 is reported with strong noise",
        1,
        _REPORT,
        ("LIT101",),
        40.0,
        "mm of noise",
        lambda deviation: Noise(("LIT101",), deviation),
    ),
    Attack(
        "actuator-override",
        "High-pressure pump P501 is driven at full speed against the controller",
        5,
        _PROCESS,
        ("P501", "PIT501"),
        100.0,
        "% of full speed",
        _drive("P501"),
        180.0,
    ),
    Attack(
        "stale-plc",
        "The PLC of stage 3 hangs: all its registers keep their last value",
        3,
        _REPORT,
        _stage_tags(3),
        1.0,
        "not used",
        lambda _: Frozen(_stage_tags(3)),
    ),
    Attack(
        "multi-stage",
        "LIT101 is spoofed low, then both transfer pumps are stopped: T101 fills until it overflows",
        1,
        _PROCESS | _INSTRUMENTS,
        ("LIT101", "P101", "P102"),
        400.0,
        "mm too low",
        _overflow,
        240.0,
    ),
    Attack(
        "pump-failure",
        "The coupling of high-pressure pump P501 breaks: it reports its speed but builds up no pressure",
        5,
        _PROCESS,
        ("P501", "PIT501"),
        1.0,
        "not used",
        _kill("P501"),
        180.0,
    ),
    Attack(
        "valve-stuck",
        "Filtrate valve MV301 jams almost closed and still reports open",
        3,
        _PROCESS,
        ("MV301",),
        0.35,
        "part of full opening",
        _jam("MV301"),
        180.0,
    ),
    Attack(
        "leak",
        "Tank T401 bursts a pipe and loses more water than it gets",
        4,
        _PROCESS,
        ("LIT401",),
        8.0,
        "m3/h lost",
        _leak("T401"),
        180.0,
    ),
    Attack(
        "clogged-filter",
        "The ultrafiltration membrane clogs within half a minute",
        3,
        _PROCESS,
        ("DPIT301", "FIT301"),
        4.0,
        "times the resistance",
        _clog("UF", 30.0),
        240.0,
    ),
    Attack(
        "dosing-manipulation",
        "The hypochlorite pump really delivers more than it reports",
        2,
        _PROCESS,
        ("P202", "AIT203"),
        3.5,
        "times the dose",
        _dose("P202"),
        180.0,
    ),
    Attack(
        "sensor-swap",
        "The cables of levels LIT601 and LIT602 are swapped",
        6,
        _INSTRUMENTS,
        ("LIT601", "LIT602"),
        1.0,
        "not used",
        lambda _: Swap("LIT601", "LIT602"),
    ),
    Attack(
        "delayed-reports",
        "Stage 1 reports late",
        1,
        _REPORT,
        _stage_tags(1),
        30.0,
        "seconds late",
        lambda delay_s: Delayed(_stage_tags(1), delay_s),
    ),
    Attack(
        "dropout",
        "The water analysers of stage 2 send nothing",
        2,
        _REPORT,
        ("AIT201", "AIT202", "AIT203", "AIT204"),
        1.0,
        "not used",
        lambda _: Silent(("AIT201", "AIT202", "AIT203", "AIT204")),
    ),
    Attack(
        "lamp-failure",
        "The ultraviolet lamp goes dark and still reports on; bisulphite has to do its work",
        4,
        _PROCESS,
        ("UV401", "AIT401"),
        1.0,
        "not used",
        _kill("UV401"),
        180.0,
    ),
    Attack(
        "cavitation",
        "The ultrafiltration feed pumps draw vapour: they lose head, now more, now less",
        3,
        _PROCESS,
        ("FIT301", "PIT301"),
        0.5,
        "largest part of head lost",
        _cavitate("P301", "P302"),
        180.0,
    ),
    Attack(
        "dead-sensor",
        "The wire of reject pressure PIT503 breaks: it shows the lowest value it can",
        5,
        _INSTRUMENTS,
        ("PIT503",),
        1.0,
        "not used",
        lambda _: Dead(("PIT503",)),
    ),
    Attack(
        "brute-force",
        "The dosing valve MV201 is opened and closed again and again against the controller",
        2,
        _PROCESS,
        ("MV201", "FIT201"),
        5.0,
        "seconds in each state",
        _toggle("MV201"),
    ),
    Attack(
        "campaign",
        "Redox potential AIT203 is spoofed in stage 2; two minutes later pump P501 in stage 5 is driven at full speed",
        5,
        _PROCESS | _INSTRUMENTS,
        ("AIT203", "P501", "PIT501"),
        150.0,
        "mV too high",
        _campaign,
        300.0,
    ),
)

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}
"""Every attack by name. Lists for messages, help and documents are derived from here."""
