"""Rules, sensors and process incidents that come and go at random: what is told stays in order."""

from __future__ import annotations

import random

import pytest
from test_rule_incidents import process
from ticking import Plant, options

from edge_agent.verdict import Incident, IncidentKind, IncidentState

SENSORS = ("a", "b", "t1", "t2", "t3", "z")
EXPRESSIONS = (
    "a > 1 and b < 1",
    "missing(a)",
    "max('t*') > 1",
    "changed(b, 3s)",
    "stuck(a, 3s)",
    "rate(t1, 2s) > 1 or age(b) > 3",
)


def rule(rng: random.Random) -> dict[str, object]:
    found: dict[str, object] = {"for": f"{rng.randint(0, 4)}s", "clear_after": f"{rng.randint(0, 4)}s"}
    each = rng.choice([["a"], ["t*"], ["*"], ["a", "b"]])
    match rng.randrange(5):
        case 0:
            found |= {"sensors": each, "limit": {"above": rng.randint(-2, 2), "deadband": rng.choice([0, 1])}}
        case 1:
            found |= {"sensors": each, "rate": {"above": 1, "per": f"{rng.randint(1, 5)}s"}}
        case 2:
            found |= {"sensors": each, "deviation": {"target": rng.choice([0, "b"]), "by": 1}}
        case 3:
            found |= {"when": rng.choice(EXPRESSIONS)}
        case 4:
            found |= {"when": "a > 1", "until": "b > 1 and not missing(t1)"}
    return found


def rules(rng: random.Random) -> dict[str, dict[str, object]]:
    return {f"r{i}": rule(rng) for i in range(rng.randint(0, 6))}


@pytest.mark.parametrize("seed", range(12))
def test_what_is_told_stays_in_order(seed: int) -> None:
    rng = random.Random(seed)
    plant = Plant(rules(rng))
    told: dict[str, str] = {}
    running: dict[str, Incident] = {}
    joined: set[str] = set()
    names = list(SENSORS[:4])
    for tick in range(400):
        if rng.random() < 0.05:
            names = rng.sample(SENSORS, rng.randint(1, 6))
        if rng.random() < 0.03:
            plant.rules.reload(options(rules(rng)), lambda _name: {})
        values = {name: None if rng.random() < 0.15 else round(rng.gauss(0, 1.5), 1) for name in names}
        for incident in plant.tick(values, happening(rng, running, tick)):
            if incident.kind is IncidentKind.RULE:
                follow(incident, told)
            else:
                joined = set() if incident.state is IncidentState.CLOSED else set(incident.rules)
        seen = {name for name, one in plant.rules.holding.items() if one.seen}
        assert seen - joined <= set(told.values()) <= set(plant.rules.holding)


def happening(rng: random.Random, running: dict[str, Incident], tick: int) -> tuple[Incident, ...]:
    """A process incident that opens or closes, now and then."""
    if running and rng.random() < 0.1:
        name, incident = running.popitem()
        return (process(incident.contributions[0].sensor, IncidentState.CLOSED, name=name),)
    if not running and rng.random() < 0.05:
        running[f"p{tick}"] = process(rng.choice(SENSORS), name=f"p{tick}")
        return tuple(running.values())
    return ()


def follow(incident: Incident, told: dict[str, str]) -> None:
    """An incident opens once, is updated while it is open, and closes once; a rule has one at most."""
    if incident.state is IncidentState.OPEN:
        assert incident.id not in told
        assert incident.rules[0] not in told.values()
        told[incident.id] = incident.rules[0]
    elif incident.state is IncidentState.UPDATED:
        assert incident.id in told
    else:
        del told[incident.id]
    assert incident.summary
