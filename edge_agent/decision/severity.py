"""How urgent an incident is. Pure.

An incident begins at ``low`` and climbs one step for each of these, up to ``critical``:

* its p-value is a thousand times below the budget's, and once more a thousand million times below it;
* it has lasted longer than it should take to detect one (``detect_within``), or many sensors take part;
* one of its sensors is of high criticality. It sinks one step when all of them are of low criticality.

So a sensor of high criticality reaches ``critical`` all by itself once it is off beyond all doubt.

Data-quality findings begin at ``low``, those by which sight of the plant is lost (nothing comes, or the device says
that it is bad) at ``medium``. They climb when all sensors of a source are lost, and by criticality as above.
"""

from __future__ import annotations

from edge_agent.verdict import Severity

ORDER = tuple(Severity)
MANY_SENSORS = 8
_CLEAR, _BEYOND_DOUBT = 1e-3, 1e-9


def of_process(
    p_value: float, budget: float, *, lasted_s: float, detect_within_s: float, sensors: int, weight: int
) -> Severity:
    """Severity of a process incident.

    ``budget``: false events a tick that are allowed. ``weight``: -1, 0 or 1, the highest criticality of its sensors.
    """
    steps = weight
    steps += p_value < budget * _CLEAR
    steps += p_value < budget * _BEYOND_DOUBT
    steps += lasted_s > detect_within_s or sensors >= MANY_SENSORS
    return _at(steps)


def of_quality(*, sight_lost: bool, whole_source: bool, weight: int) -> Severity:
    """Severity of a data-quality incident; ``weight`` as in :func:`of_process`."""
    return _at(sight_lost + whole_source + weight)


def worse(one: Severity, other: Severity) -> Severity:
    """The more urgent of the two."""
    return max(one, other, key=ORDER.index)


def _at(steps: int) -> Severity:
    return ORDER[min(max(steps, 0), len(ORDER) - 1)]
