"""What a changed configuration makes a gateway blind to: told whenever it comes over the air. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from edge_agent.config.schema import AgentConfig
from edge_agent.intake.options import Criticality, SensorOptions
from edge_agent.options import format_duration

_LIMITS = ("min", "max", "max_rate", "stuck_after", "stale_after")
_MEANING = ("scale", "offset", "states", "area")
"""What a reading is taken for (made very small, nothing is ever seen in it), and who is told of it."""
_CRITICALITIES = list(Criticality)


def less_watchful(old: AgentConfig, new: AgentConfig) -> list[str]:
    """In which ways ``new`` would find or tell less than ``old``, each a few words with the option.

    Whoever signs configurations may want exactly that; nobody should have to find it out from silence.
    """
    return [*_rules(old, new), *_sensors(old, new), *_decision(old, new), *_watchers(old, new)]


def _rules(old: AgentConfig, new: AgentConfig) -> Iterator[str]:
    for name, rule in old.rules.items():
        if rule.enabled and name not in new.rules:
            yield f"rules.{name} is gone"
        elif rule.enabled and not new.rules[name].enabled:
            yield f"rules.{name} is off"
        elif rule.enabled and new.rules[name] != rule:
            yield f"rules.{name} says something else"


def _sensors(old: AgentConfig, new: AgentConfig) -> Iterator[str]:
    for name in dict.fromkeys((*new.sensors, *old.sensors)):
        before, now = _options_of(name, old), _options_of(name, new)
        if before.monitor and not now.monitor:
            yield f"sensors.{name} is not monitored"
        gone = [option for option in _LIMITS if getattr(before, option) is not None and getattr(now, option) is None]
        if gone:
            yield f"sensors.{name} has no {', '.join(gone)}"
        wider = [option for option in _LIMITS if _is_wider(option, getattr(before, option), getattr(now, option))]
        if wider:
            yield f"sensors.{name} has a wider {', '.join(wider)}"
        if _CRITICALITIES.index(now.criticality) < _CRITICALITIES.index(before.criticality):
            yield f"sensors.{name} has a lower criticality"
        other = [option for option in _MEANING if getattr(before, option) != getattr(now, option)]
        if other:
            yield f"sensors.{name} has another {', '.join(other)}"


def _options_of(name: str, config: AgentConfig) -> SensorOptions:
    """As the pipeline finds them: by the exact name, else by the first pattern that matches."""
    matching = (options for pattern, options in config.sensors.items() if fnmatchcase(name, pattern))
    return config.sensors.get(name) or next(matching, None) or SensorOptions()


def _is_wider(option: str, before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return False
    return now < before if option == "min" else now > before


def _decision(old: AgentConfig, new: AgentConfig) -> Iterator[str]:
    before, now = old.decision, new.decision
    if now.false_alarms < before.false_alarms:
        yield f"decision.false_alarms is {before.false_alarms / now.false_alarms:.3g} times lower"
    for option in ("quality_after", "min_duration"):
        if getattr(now, option) > getattr(before, option):
            yield f"decision.{option} is {format_duration(getattr(now, option))}"
    for window in now.maintenance:
        if window not in before.maintenance:
            yield f"decision.maintenance has {window.name}"


def _watchers(old: AgentConfig, new: AgentConfig) -> Iterator[str]:
    for section in ("drift", "companions", "patterns"):
        if getattr(old, section).enabled and not getattr(new, section).enabled:
            yield f"{section} is off"
    for section in ("sources", "sinks"):
        for name in getattr(old, section):
            if name not in getattr(new, section):
                yield f"{section}.{name} is gone"
