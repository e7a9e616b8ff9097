"""Whether an agent does its work under a changed configuration as it did before. Pure.

A configuration can do what no model can: have readings taken for impossible, rules fire all the time, connections
fail. Each finding is a sentence of :attr:`~edge_agent.ota.ports.Vitals.troubles`, to be judged by whoever runs the
trial, as it may pass.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.ota.ring import Trial

_USABLE = 0.9  # of the sensors that had a usable reading must have one
_LATE, _LATE_SHARE = 3, 0.01  # ticks that could not be made: more than so many, and than this share
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Footing:
    """What an agent stands on. Counters only grow.

    ``ticks`` made, ``missed``: could not be made in time; ``incidents`` opened, of any kind; ``usable``: sensors with a
    reading that counts, now; ``connected``: sources, now; ``silent``: rules of which nothing can be said, now.
    """

    ticks: int
    missed: int
    incidents: int
    usable: int
    connected: frozenset[str]
    silent: frozenset[str]


def config_troubles(trial: Trial, before: Footing, now: Footing) -> dict[str, str]:
    """What is worse ``now`` than it was ``before`` the configuration was changed: a sentence by a fixed word.

    Words: ``sources``, ``rules``, ``sensors``, ``late``, ``incidents``.
    """
    # While there is no reading at all, as where the plant is off at night, that is not the rules' fault.
    silent = now.silent - before.silent if now.usable else frozenset[str]()
    found = {
        "sources": _named("sources that were connected are not", before.connected - now.connected),
        "rules": _named("rules of which nothing can be said", silent),
        "sensors": _sensors(before, now),
        "late": _late(before, now),
        "incidents": _flood(trial, before, now),
    }
    return {word: sentence for word, sentence in found.items() if sentence is not None}


def _named(what: str, names: frozenset[str]) -> str | None:
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(sorted(names)[:_NAMED])}{more}"


def _sensors(before: Footing, now: Footing) -> str | None:
    least = _USABLE * before.usable
    if now.usable >= least:
        return None
    return f"got usable readings of {now.usable} sensors, expected at least {least:.0f} ({before.usable} before)"


def _late(before: Footing, now: Footing) -> str | None:
    missed, ticks = now.missed - before.missed, now.ticks - before.ticks
    if missed <= max(_LATE, _LATE_SHARE * (missed + ticks)):
        return None
    return f"{missed} of {missed + ticks} ticks could not be made in time"


def _flood(trial: Trial, before: Footing, now: Footing) -> str | None:
    ticks = now.ticks - before.ticks
    usual = before.incidents * ticks / before.ticks if before.ticks else 0.0
    most = trial.alarm_factor * usual + trial.alarm_extra
    opened = now.incidents - before.incidents
    return f"got {opened} incidents in {ticks} ticks, expected at most {most:.1f}" if opened > most else None
